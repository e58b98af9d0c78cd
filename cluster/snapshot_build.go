package cluster

import (
	"net/netip"
	"slices"
	"strings"
)

// NewSnapshot returns an empty Snapshot to add to. It must not be shared before Seal.
func NewSnapshot() *Snapshot {
	return &Snapshot{
		Services:   map[Name]*Service{},
		Slices:     map[Name][]*Slice{},
		Nodes:      map[string]*Node{},
		Namespaces: map[string]struct{}{},
		Pools:      map[string]*Pool{},
		Peers:      map[string]*Peer{},
		VIPs:       map[netip.Addr]*VIP{},
		Agents:     map[string]*Agent{},
	}
}

// AddService adds a Service; like all Add methods it ignores nil.
func (s *Snapshot) AddService(v *Service) {
	if v != nil {
		s.Services[v.Name] = v
	}
}

// AddSlice adds an EndpointSlice to those of its Service.
func (s *Snapshot) AddSlice(v *Slice) {
	if v != nil {
		s.Slices[v.Service] = append(s.Slices[v.Service], v)
	}
}

// AddNode adds a Node.
func (s *Snapshot) AddNode(v *Node) {
	if v != nil {
		s.Nodes[v.Name] = v
	}
}

// AddNamespace adds a namespace.
func (s *Snapshot) AddNamespace(name string) { s.Namespaces[name] = struct{}{} }

// AddServiceCIDRs adds ranges of cluster IPs.
func (s *Snapshot) AddServiceCIDRs(v []netip.Prefix) {
	for _, p := range v {
		if i, found := slices.BinarySearchFunc(s.ServiceCIDRs, p, netip.Prefix.Compare); !found {
			s.ServiceCIDRs = slices.Insert(s.ServiceCIDRs, i, p)
		}
	}
}

// AddPool adds a Pool.
func (s *Snapshot) AddPool(v *Pool) {
	if v != nil {
		s.Pools[v.Name] = v
	}
}

// AddPeer adds a Peer.
func (s *Snapshot) AddPeer(v *Peer) {
	if v != nil {
		s.Peers[v.Name] = v
	}
}

// AddVIP adds a VIP.
func (s *Snapshot) AddVIP(v *VIP) {
	if v != nil {
		s.VIPs[v.Address] = v
	}
}

// AddAgent adds an Agent.
func (s *Snapshot) AddAgent(v *Agent) {
	if v != nil {
		s.Agents[v.Node] = v
	}
}

// Seal ends the adding: it brings what has an order into it. From here on the Snapshot is immutable.
func (s *Snapshot) Seal() *Snapshot {
	for _, list := range s.Slices {
		slices.SortFunc(list, func(a, b *Slice) int { return strings.Compare(a.Name, b.Name) })
	}
	return s
}
