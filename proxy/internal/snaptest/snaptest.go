package snaptest

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Snapshot returns a Snapshot with the given parts.
func Snapshot(parts ...func(*cluster.Snapshot)) *cluster.Snapshot {
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{}, Slices: map[cluster.Name][]*cluster.Slice{},
		Nodes: map[string]*cluster.Node{}, Namespaces: map[string]struct{}{"default": {}},
		VIPs: map[netip.Addr]*cluster.VIP{}, Pools: map[string]*cluster.Pool{},
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
	for k, v := range s.Pools {
		c.Pools[k] = v
	}
	c.ServiceCIDRs = s.ServiceCIDRs
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

// ServiceCIDRs adds ranges of cluster IPs, in a list with spaces.
func ServiceCIDRs(list string) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		for _, p := range strings.Fields(list) {
			s.AddServiceCIDRs([]netip.Prefix{netip.MustParsePrefix(p)})
		}
	}
}

// Pool adds a pool of addresses, prefixes in a list with spaces.
func Pool(name, prefixes string) func(*cluster.Snapshot) {
	return func(s *cluster.Snapshot) {
		p := &cluster.Pool{Name: name}
		for _, prefix := range strings.Fields(prefixes) {
			p.Ranges = append(p.Ranges, netipx.RangeOfPrefix(netip.MustParsePrefix(prefix)))
		}
		s.AddPool(p)
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

// Large returns a Snapshot of n dual-stack Services of type ClusterIP, each with one TCP port and the given number of
// endpoints in each family, on 200 nodes of which "n1" is the first.
func Large(n, endpoints int) *cluster.Snapshot {
	s := Snapshot(Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64"))
	for i := range n {
		name := Name(fmt.Sprintf("svc-%05d", i))
		s.Services[name] = &cluster.Service{
			Name: name, ClusterIPs: []netip.Addr{nth("10.96.0.0", i+1), nth("fd00:96::", i+1)},
			Ports: []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}},
		}
		s.Slices[name] = []*cluster.Slice{LargeSlice(name, cluster.IPv4, i, endpoints), LargeSlice(name, cluster.IPv6, i, endpoints)}
	}
	return s
}

// LargeSlice returns the slice of the i-th Service of Large, with any number of endpoints.
func LargeSlice(name cluster.Name, f cluster.Family, i, endpoints int) *cluster.Slice {
	s := &cluster.Slice{
		Name: name.Name + "-" + f.String(), Service: name, Family: f,
		Ports: []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}},
	}
	base := "10.128.0.0"
	if f == cluster.IPv6 {
		base = "fd00:128::"
	}
	for j := range endpoints {
		s.Endpoints = append(s.Endpoints, cluster.Endpoint{
			Addr: nth(base, 16*i+j), Node: fmt.Sprintf("n%d", 1+(i+j)%200), Ready: true, Serving: true,
		})
	}
	return s
}

// nth returns the n-th address behind base.
func nth(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).AsSlice()
	for i := len(b) - 1; n > 0; i-- {
		n += int(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
