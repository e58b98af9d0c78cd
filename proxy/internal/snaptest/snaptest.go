// Package snaptest writes cluster.Snapshots for tests in few words.
package snaptest

import (
	"net/netip"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Snapshot returns a Snapshot with the given parts.
func Snapshot(parts ...func(*cluster.Snapshot)) *cluster.Snapshot {
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{}, Slices: map[cluster.Name][]*cluster.Slice{},
		Nodes: map[string]*cluster.Node{}, Namespaces: map[string]struct{}{"default": {}},
		VIPs: map[netip.Addr]*cluster.VIP{},
	}
	for _, p := range parts {
		p(s)
	}
	return s
}

// Clone returns a Snapshot that shares all values but may get other parts.
func Clone(s *cluster.Snapshot, parts ...func(*cluster.Snapshot)) *cluster.Snapshot {
	c := Snapshot()
	for k, v := range s.Services {
		c.Services[k] = v
	}
	for k, v := range s.Slices {
		c.Slices[k] = v
	}
	for k, v := range s.Nodes {
		c.Nodes[k] = v
	}
	for k, v := range s.VIPs {
		c.VIPs[k] = v
	}
	for _, p := range parts {
		p(c)
	}
	return c
}

// Node adds a ready node; ips and cidrs are lists with spaces.
func Node(name, ips, cidrs string) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		n := &cluster.Node{Name: name, Ready: true, InternalIPs: Addrs(ips)}
		for _, p := range strings.Fields(cidrs) {
			n.PodCIDRs = append(n.PodCIDRs, netip.MustParsePrefix(p))
		}
		s.Nodes[name] = n
	}
}

// Name returns the name of an object in the namespace "default".
func Name(name string) cluster.Name { return cluster.Name{Namespace: "default", Name: name} }

// Service adds a Service with cluster IPs in a list with spaces. Its IngressIPs get VIP objects.
func Service(name, ips string, ports []cluster.ServicePort, change ...func(*cluster.Service)) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		svc := &cluster.Service{Name: Name(name), ClusterIPs: Addrs(ips), Ports: ports}
		for _, c := range change {
			c(svc)
		}
		s.Services[svc.Name] = svc
		for _, ip := range svc.IngressIPs {
			v := &cluster.VIP{Address: ip}
			if old := s.VIPs[ip]; old != nil {
				v.Services = append(v.Services, old.Services...)
			}
			v.Services = append(v.Services, svc.Name)
			s.VIPs[ip] = v
		}
	}
}

// Slice sets the only slice of a Service in one family. Endpoints are "ADDRESS@NODE", with "~" in front for one that
// terminates and still serves, "!" for one that is not ready.
func Slice(svc string, ports []cluster.SlicePort, endpoints ...string) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		slice := &cluster.Slice{Name: svc + "-1", Service: Name(svc), Family: cluster.IPv4, Ports: ports}
		for _, e := range endpoints {
			ep := cluster.Endpoint{Ready: true, Serving: true}
			if rest, ok := strings.CutPrefix(e, "~"); ok {
				e, ep.Ready, ep.Terminating = rest, false, true
			} else if rest, ok := strings.CutPrefix(e, "!"); ok {
				e, ep.Ready, ep.Serving = rest, false, false
			}
			addr, node, _ := strings.Cut(e, "@")
			ep.Addr, ep.Node = netip.MustParseAddr(addr), node
			slice.Family = cluster.FamilyOf(ep.Addr)
			slice.Endpoints = append(slice.Endpoints, ep)
		}
		name := Name(svc)
		var kept []*cluster.Slice
		for _, old := range s.Slices[name] {
			if old.Family != slice.Family {
				kept = append(kept, old)
			}
		}
		s.Slices[name] = append(kept, slice)
	}
}

// Addrs parses a list with spaces.
func Addrs(s string) []netip.Addr {
	var out []netip.Addr
	for _, f := range strings.Fields(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}
