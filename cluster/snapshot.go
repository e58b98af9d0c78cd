package cluster

import (
	"net/netip"
	"slices"
)

// Snapshot is what the API said at one moment. It is immutable: a change makes a new Snapshot, which shares what did
// not change.
type Snapshot struct {
	// Services, Slices, Nodes by name.
	Services map[Name]*Service
	// Slices of each Service, ordered by the name of the EndpointSlice.
	Slices map[Name][]*Slice
	Nodes  map[string]*Node
	// Namespaces that exist: DNS tells a name without a Service from a name without a namespace.
	Namespaces map[string]struct{}
	// ServiceCIDRs are the ranges of cluster IPs, sorted and without duplicates.
	ServiceCIDRs []netip.Prefix
	// Pools, those Peers that are valid, and VIPs by address.
	Pools map[string]*Pool
	Peers map[string]*Peer
	VIPs  map[netip.Addr]*VIP
	// Agents by the name of their Node.
	Agents map[string]*Agent
	// Heartbeat has the keys of the agents' heartbeats; nil: there are none.
	Heartbeat *HeartbeatKeys
}

// VIPsOf returns the addresses that the Service may be served at, sorted: those of its status that a VIP object gives
// to it. A status alone is not enough: whoever may write it could take over any address (CVE-2020-8554).
func (s *Snapshot) VIPsOf(svc *Service) []netip.Addr {
	if svc.Type != LoadBalancer {
		return nil
	}
	var vips []netip.Addr
	for _, ip := range svc.IngressIPs {
		if s.grants(svc, ip) {
			vips = append(vips, ip)
		}
	}
	slices.SortFunc(vips, netip.Addr.Compare)
	return slices.Compact(vips)
}

// HasVIP reports whether an address is one of VIPsOf.
func (s *Snapshot) HasVIP(svc *Service, ip netip.Addr) bool {
	return svc.Type == LoadBalancer && slices.Contains(svc.IngressIPs, ip) && s.grants(svc, ip)
}

// grants reports whether there is a VIP object that gives an address to the Service.
func (s *Snapshot) grants(svc *Service, ip netip.Addr) bool {
	v := s.VIPs[ip]
	return v != nil && slices.Contains(v.Services, svc.Name)
}

// GrantsOf returns the VIPs that the Service may be served at, sorted by address: those of VIPsOf. Which of its ports it has
// there the VIP says.
func (s *Snapshot) GrantsOf(svc *Service) []*VIP {
	addrs := s.VIPsOf(svc)
	vips := make([]*VIP, len(addrs))
	for i, a := range addrs {
		vips[i] = s.VIPs[a]
	}
	return vips
}

// SortedServices returns the Services ordered by name.
func (s *Snapshot) SortedServices() []*Service {
	out := make([]*Service, 0, len(s.Services))
	for _, svc := range s.Services {
		out = append(out, svc)
	}
	slices.SortFunc(out, func(a, b *Service) int { return a.Name.Compare(b.Name) })
	return out
}
