package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

var (
	v4   = netip.MustParseAddr("10.0.0.100")
	v6   = netip.MustParseAddr("fd00::100")
	eth0 = Link{Index: 2, Name: "eth0", MAC: MAC{2, 0, 0, 0, 0, 1}, Ups: 1}
)

func name(s string) cluster.Name { return cluster.Name{Namespace: "default", Name: s} }

// world is three nodes on 10.0.0.0/24 and fd00::/64, one pool announced both ways, one router, and Service "web" with
// the addresses v4 and v6 and an endpoint on every node.
func world() (*cluster.Snapshot, Facts) {
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{}, Slices: map[cluster.Name][]*cluster.Slice{},
		Nodes: map[string]*cluster.Node{}, Pools: map[string]*cluster.Pool{}, Peers: map[string]*cluster.Peer{},
		VIPs: map[netip.Addr]*cluster.VIP{},
	}
	for i := range 3 {
		n := fmt.Sprintf("node%d", i+1)
		s.Nodes[n] = &cluster.Node{
			Name: n, Ready: true, Labels: map[string]string{"name": n},
			InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1))},
		}
	}
	s.Pools["pool"] = &cluster.Pool{
		Name:   "pool",
		Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.0-10.0.1.255"), netipx.MustParseIPRange("fd00::-fd00::ffff")},
		ARP:    &cluster.ARPAnnounce{}, BGP: &cluster.BGPAnnounce{},
	}
	s.Peers["tor"] = &cluster.Peer{Name: "tor", Address: netip.MustParseAddrPort("10.0.0.254:179"), PeerASN: 64500, LocalASN: 64512, HoldTime: 90, KeepaliveTime: 30, ConnectRetryTime: 5}
	addService(s, "web", v4, v6)
	return s, Facts{Node: "node1", Interfaces: []Interface{
		{Link: Link{Index: 1, Name: "lo"}, Prefixes: prefixes("127.0.0.1/8", "::1/128"), Up: true},
		{Link: eth0, Prefixes: prefixes("10.0.0.1/24", "fe80::1/64", "fd00::1/64"), Up: true},
	}}
}

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addService(s *cluster.Snapshot, svc string, vips ...netip.Addr) {
	s.Services[name(svc)] = &cluster.Service{Name: name(svc), Type: cluster.LoadBalancer, IngressIPs: vips}
	var eps []cluster.Endpoint
	for n := range s.Nodes {
		eps = append(eps, cluster.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: n, Ready: true, Serving: true})
	}
	s.Slices[name(svc)] = []*cluster.Slice{{Service: name(svc), Family: cluster.IPv4, Endpoints: eps}}
	for _, a := range vips {
		if s.VIPs[a] == nil {
			s.VIPs[a] = &cluster.VIP{Address: a, Pool: "pool"}
		}
		s.VIPs[a].Services = append(s.VIPs[a].Services, name(svc))
	}
}

// owner is the node that the election gives the address to: tests look from there, and from another one.
func owner(a netip.Addr) string { return elect.Owner(a, []string{"node1", "node2", "node3"}) }

func others(a netip.Addr) []string {
	return slices.DeleteFunc([]string{"node1", "node2", "node3"}, func(n string) bool { return n == owner(a) })
}

func at(f Facts, node string) Facts {
	f.Node = node
	return f
}

// outcome writes a decision as "ARP:eth0 BGP:tor", with a reason's code where there is no announcement.
func outcome(p Plan, vip netip.Addr) string {
	for _, d := range p.Decisions {
		if d.VIP != vip {
			continue
		}
		if d.Reason.Code != "" {
			return string(d.Reason.Code)
		}
		var out []string
		for _, w := range d.Ways {
			switch {
			case !w.Announced:
				out = append(out, string(w.Via)+":"+string(w.Reason.Code))
			case w.Via == BGPRoute:
				out = append(out, "BGP:"+strings.Join(w.Peers, ","))
			default:
				out = append(out, string(w.Via)+":"+w.Interface)
			}
		}
		return strings.Join(out, " ")
	}
	return "no decision"
}

// What is announced on the owner of v4 (or v6), after one change to the world.
func TestDecisions(t *testing.T) {
	svc := func(s *cluster.Snapshot) *cluster.Service { return s.Services[name("web")] }
	tests := []struct {
		name   string
		change func(s *cluster.Snapshot, f *Facts)
		vip    netip.Addr
		want   string
	}{
		{"both ways", func(*cluster.Snapshot, *Facts) {}, v4, "ARP:eth0 BGP:tor"},
		{"both ways, IPv6", func(*cluster.Snapshot, *Facts) {}, v6, "NDP:eth0 BGP:tor"},
		{"ARP only", func(s *cluster.Snapshot, _ *Facts) { s.Pools["pool"].BGP = nil }, v4, "ARP:eth0"},
		{"BGP only", func(s *cluster.Snapshot, _ *Facts) { s.Pools["pool"].ARP = nil }, v4, "BGP:tor"},

		{"Service gone", func(s *cluster.Snapshot, _ *Facts) { delete(s.Services, name("web")) }, v4, "ServiceNotFound"},
		{"Service of another type", func(s *cluster.Snapshot, _ *Facts) { svc(s).Type = cluster.ClusterIP }, v4, "NotLoadBalancer"},
		{"status without it", func(s *cluster.Snapshot, _ *Facts) { svc(s).IngressIPs = []netip.Addr{v6} }, v4, "NotInStatus"},
		{"pool gone", func(s *cluster.Snapshot, _ *Facts) { delete(s.Pools, "pool") }, v4, "PoolGone"},
		{"pool shrunk", func(s *cluster.Snapshot, _ *Facts) { s.Pools["pool"].Ranges = s.Pools["pool"].Ranges[1:] }, v4, "ARP:eth0 BGP:tor"},
		{"reservation", func(s *cluster.Snapshot, _ *Facts) { s.VIPs[v4].Services = nil }, v4, "Reserved"},
		{"no endpoints", func(s *cluster.Snapshot, _ *Facts) { delete(s.Slices, name("web")) }, v4, "NoEndpoints"},
		{"endpoints not ready", func(s *cluster.Snapshot, _ *Facts) {
			for i := range s.Slices[name("web")][0].Endpoints {
				s.Slices[name("web")][0].Endpoints[i].Ready = false
			}
		}, v4, "NoEndpoints"},
		{"a node's own address", func(s *cluster.Snapshot, _ *Facts) { s.Nodes["node3"].InternalIPs[0] = v4 }, v4, "NodeAddress"},
		{"shared: the other Service suffices", func(s *cluster.Snapshot, _ *Facts) {
			addService(s, "web2", v4)
			delete(s.Slices, name("web"))
		}, v4, "ARP:eth0 BGP:tor"},

		{"node not in the API", func(s *cluster.Snapshot, f *Facts) { f.Node = "node9" }, v4, "ARP:NodeNotFound BGP:NodeNotFound"},
		{"node not ready", func(s *cluster.Snapshot, f *Facts) { s.Nodes[f.Node].Ready = false }, v4, "ARP:NodeCannotAnnounce BGP:NodeCannotAnnounce"},
		{"node excluded", func(s *cluster.Snapshot, f *Facts) { s.Nodes[f.Node].Excluded = true }, v4, "ARP:NodeCannotAnnounce BGP:NodeCannotAnnounce"},
		{"node selected for BGP only", func(s *cluster.Snapshot, f *Facts) {
			s.Pools["pool"].ARP.Nodes = cluster.Selector{{Key: "name", Operator: cluster.NotIn, Values: []string{f.Node}}}
		}, v4, "ARP:NodeNotSelected BGP:tor"},
		{"Local, endpoint here", func(s *cluster.Snapshot, f *Facts) { svc(s).ExternalLocal = true }, v4, "ARP:eth0 BGP:tor"},
		{"Local, endpoint elsewhere", func(s *cluster.Snapshot, f *Facts) {
			svc(s).ExternalLocal = true
			for i := range s.Slices[name("web")][0].Endpoints {
				s.Slices[name("web")][0].Endpoints[i].Node = "node9"
			}
		}, v4, "ARP:NoLocalEndpoint BGP:NoLocalEndpoint"},
		{"shared: Cluster beside Local", func(s *cluster.Snapshot, f *Facts) {
			addService(s, "web2", v4)
			svc(s).ExternalLocal = true
			s.Slices[name("web")][0].Endpoints[0].Node = "node9"
		}, v4, "ARP:eth0 BGP:tor"},

		{"no subnet", func(s *cluster.Snapshot, f *Facts) { f.Interfaces[1].Prefixes = prefixes("10.9.0.1/24") }, v4, "ARP:NoSubnet BGP:tor"},
		{"a /32 is no subnet", func(s *cluster.Snapshot, f *Facts) { f.Interfaces[1].Prefixes = prefixes("10.0.0.100/32") }, v4, "ARP:NoSubnet BGP:tor"},
		{"no Ethernet", func(s *cluster.Snapshot, f *Facts) { f.Interfaces[1].MAC = MAC{} }, v4, "ARP:NoSubnet BGP:tor"},
		{"interface down", func(s *cluster.Snapshot, f *Facts) { f.Interfaces[1].Up = false }, v4, "ARP:InterfaceDown BGP:tor"},
		{"interface not allowed", func(s *cluster.Snapshot, f *Facts) { s.Pools["pool"].ARP.Interfaces = []string{"eth9"} }, v4, "ARP:InterfaceNotAllowed BGP:tor"},
		{"interface allowed", func(s *cluster.Snapshot, f *Facts) { s.Pools["pool"].ARP.Interfaces = []string{"eth9", "eth0"} }, v4, "ARP:eth0 BGP:tor"},
		{"most specific subnet", func(s *cluster.Snapshot, f *Facts) {
			f.Interfaces[0] = Interface{Link: Link{Index: 9, Name: "wide", MAC: MAC{1}}, Prefixes: prefixes("10.0.0.9/8"), Up: true}
		}, v4, "ARP:eth0 BGP:tor"},
		{"an interface that is up first", func(s *cluster.Snapshot, f *Facts) {
			f.Interfaces[1].Up = false
			f.Interfaces[0] = Interface{Link: Link{Index: 9, Name: "wide", MAC: MAC{1}}, Prefixes: prefixes("10.0.0.9/8"), Up: true}
		}, v4, "ARP:wide BGP:tor"},
		{"other subnet than the InternalIP's", func(s *cluster.Snapshot, f *Facts) {
			s.Nodes[f.Node].InternalIPs = []netip.Addr{netip.MustParseAddr("10.9.0.1")}
		}, v4, "ARP:NotCandidate BGP:tor"},

		{"no peers", func(s *cluster.Snapshot, f *Facts) { delete(s.Peers, "tor") }, v4, "ARP:eth0 BGP:NoPeers"},
		{"peer that the pool does not name", func(s *cluster.Snapshot, f *Facts) {
			s.Pools["pool"].BGP.Advertisements = []*cluster.Advertisement{{Peers: []string{"spine"}}}
		}, v4, "ARP:eth0 BGP:NoPeers"},
		{"peer for other nodes", func(s *cluster.Snapshot, f *Facts) {
			s.Peers["tor"].Nodes = cluster.Selector{{Key: "rack", Operator: cluster.Exists}}
		}, v4, "ARP:eth0 BGP:NoPeers"},
		{"peer without its password", func(s *cluster.Snapshot, f *Facts) { s.Peers["tor"].PasswordSecret = "tor" }, v4, "ARP:eth0 BGP:NoPeers"},
		{"no IPv6 next hop", func(s *cluster.Snapshot, f *Facts) {
			f.Interfaces[1].Prefixes = prefixes("10.0.0.1/24")
			s.Nodes[f.Node].InternalIPs = s.Nodes[f.Node].InternalIPs[:1]
		}, v6, "NDP:NoSubnet BGP:NoNextHop"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, f := world()
			f.Node = owner(tt.vip)
			tt.change(s, &f)
			p := Build(s, f)
			if got := outcome(p, tt.vip); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			announced := slices.ContainsFunc(p.L2, func(l L2) bool { return l.Addr == tt.vip })
			if want := strings.Contains(tt.want, "ARP:eth0") || strings.Contains(tt.want, "NDP:eth0") || strings.Contains(tt.want, "wide"); announced != want {
				t.Errorf("among the announcements on links: %v, want %v", announced, want)
			}
			routed := !p.BGP.Leaving && slices.ContainsFunc(p.BGP.Routes, func(r Route) bool { return r.Prefix.Addr() == tt.vip })
			if want := strings.Contains(tt.want, "BGP:tor"); routed != want {
				t.Errorf("among the routes: %v, want %v", routed, want)
			}
		})
	}
}

// Every address has one owner among the nodes, and when that is lost or may not announce, another one.
func TestOneOwner(t *testing.T) {
	s, f := world()
	ownersOf := func() (got []string) {
		for n := range s.Nodes {
			if len(Build(s, at(f, n)).L2) > 0 {
				got = append(got, n)
			}
		}
		return got
	}
	delete(s.VIPs, v6)
	if got := ownersOf(); len(got) != 1 || got[0] != owner(v4) {
		t.Fatalf("owners %v, want %s", got, owner(v4))
	}
	if got := outcome(Build(s, at(f, others(v4)[0])), v4); got != "ARP:NotOwner BGP:tor" {
		t.Errorf("elsewhere: %s", got)
	}
	s.Nodes[owner(v4)].Excluded = true
	if got := ownersOf(); len(got) != 1 || got[0] == owner(v4) {
		t.Errorf("owners %v after %s was excluded", got, owner(v4))
	}
}

// With externalTrafficPolicy Local only a node that has an endpoint owns the address, whatever the hash says.
func TestLocalOwner(t *testing.T) {
	for _, holder := range []string{"node1", "node2", "node3"} {
		s, f := world()
		s.Services[name("web")].ExternalLocal = true
		s.Slices[name("web")][0].Endpoints = []cluster.Endpoint{{Addr: v4, Node: holder, Ready: true}}
		for n := range s.Nodes {
			want := "ARP:NoLocalEndpoint BGP:NoLocalEndpoint"
			if n == holder {
				want = "ARP:eth0 BGP:tor"
			}
			if got := outcome(Build(s, at(f, n)), v4); got != want {
				t.Errorf("endpoint on %s, %s: %s, want %s", holder, n, got, want)
			}
		}
	}
}

// One node, and only one, tells what no node can help.
func TestOneReporter(t *testing.T) {
	s, f := world()
	delete(s.Slices, name("web"))
	for _, vip := range []netip.Addr{v4, v6} {
		var reporters int
		for n := range s.Nodes {
			for _, d := range Build(s, at(f, n)).Decisions {
				if d.VIP == vip && d.Reporter {
					reporters++
				}
			}
		}
		if reporters != 1 {
			t.Errorf("%d nodes report %s", reporters, vip)
		}
	}
}

// Where most nodes are lost one that is left tells: which of the others are alive the API does not know.
func TestReporterIsReady(t *testing.T) {
	for _, left := range []string{"node1", "node2", "node3"} {
		s, f := world()
		delete(s.Slices, name("web"))
		for n := range s.Nodes {
			s.Nodes[n].Ready = n == left
		}
		for n := range s.Nodes {
			for _, d := range Build(s, at(f, n)).Decisions {
				if d.Reporter != (n == left) {
					t.Errorf("%s is left: that %s tells of %s is %t", left, n, d.VIP, d.Reporter)
				}
			}
		}
	}
}

func TestSubnetAddresses(t *testing.T) {
	s, f := world()
	for addr, want := range map[string]string{"10.0.0.0": "ARP:SubnetAddress", "10.0.0.255": "ARP:SubnetAddress", "10.0.1.255": "ARP:NoSubnet"} {
		a := netip.MustParseAddr(addr)
		addService(s, "web-"+addr, a)
		s.Pools["pool"].BGP = nil
		if got := outcome(Build(s, f), a); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestPeers(t *testing.T) {
	s, f := world()
	s.Peers["spine"] = &cluster.Peer{Name: "spine", Address: netip.MustParseAddrPort("[fd00::fe]:1179"), PeerASN: 4200000000, LocalASN: 64513, MultihopTTL: 3, HoldTime: 9, KeepaliveTime: 3, ConnectRetryTime: 1}
	s.Peers["tor-again"] = &cluster.Peer{Name: "tor-again", Address: s.Peers["tor"].Address, PeerASN: 1, LocalASN: 2}
	s.Peers["secret"] = &cluster.Peer{Name: "secret", Address: netip.MustParseAddrPort("10.0.0.253:179"), PasswordSecret: "none"}
	s.Peers["long"] = &cluster.Peer{Name: "long", Address: netip.MustParseAddrPort("10.0.0.252:179"), PasswordSecret: "x", Password: strings.Repeat("x", 81)}
	got := Build(s, f).BGP
	want := []Peer{
		{Name: "spine", NextHop4: netip.MustParseAddr("10.0.0.1"), Session: Session{Address: s.Peers["spine"].Address, Source: netip.MustParseAddr("fd00::1"), PeerASN: 4200000000, LocalASN: 64513, MultihopTTL: 3, HoldTime: 9, KeepaliveTime: 3, ConnectRetryTime: 1, IPv4: true, IPv6: true}},
		{Name: "tor", NextHop6: netip.MustParseAddr("fd00::1"), Session: Session{Address: s.Peers["tor"].Address, Source: netip.MustParseAddr("10.0.0.1"), PeerASN: 64500, LocalASN: 64512, HoldTime: 90, KeepaliveTime: 30, ConnectRetryTime: 5, IPv4: true, IPv6: true}},
	}
	if !reflect.DeepEqual(got.Peers, want) {
		t.Errorf("peers %+v\nwant  %+v", got.Peers, want)
	}
	var refused []string
	for _, r := range got.Refused {
		refused = append(refused, r.Peer+":"+string(r.Reason.Code))
	}
	if want := []string{"long:PasswordTooLong", "secret:PasswordNotFound", "tor-again:DuplicatePeer"}; !slices.Equal(refused, want) {
		t.Errorf("refused %v, want %v", refused, want)
	}
	if got.RouterID != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("router id %s", got.RouterID)
	}
	s.Nodes["node1"].InternalIPs = s.Nodes["node1"].InternalIPs[1:]
	if id := Build(s, f).BGP.RouterID; !id.Is4() || id.IsUnspecified() {
		t.Errorf("router id without an IPv4 address: %s", id)
	}
}

// The next hop of the other family is what the router can reach: on the interface that faces it before anything else.
func TestNextHopFacesTheRouter(t *testing.T) {
	s, f := world()
	f.Interfaces = append(f.Interfaces, Interface{Link: Link{Index: 3, Name: "eth1", MAC: MAC{2, 0, 0, 0, 0, 9}}, Prefixes: prefixes("10.7.0.1/24", "fe80::9/64", "fd07::1/64"), Up: true})
	for addr, want := range map[string]string{"10.0.0.254:179": "fd00::1", "10.7.0.254:179": "fd07::1", "192.0.2.1:179": "fd00::1"} {
		s.Peers["tor"].Address = netip.MustParseAddrPort(addr)
		if got := Build(s, f).BGP.Peers[0].NextHop6; got != netip.MustParseAddr(want) {
			t.Errorf("towards %s: %s, want %s", addr, got, want)
		}
	}
}

// A VIP answers ping on every node, also while its Service has no endpoints; a reservation does not.
func TestPing(t *testing.T) {
	s, f := world()
	reserved := netip.MustParseAddr("10.0.0.101")
	s.VIPs[reserved] = &cluster.VIP{Address: reserved, Pool: "pool"}
	delete(s.Slices, name("web"))
	want := Ping{VIPs: []netip.Addr{v4, v6}, IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("fd00::1")}
	if got := Build(s, f).Ping; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.Pools["pool"].Silent = true
	if got := Build(s, f).Ping.VIPs; len(got) > 0 {
		t.Errorf("addresses of a pool that does not answer: %v", got)
	}
}

func manyVIPs(nodes int) (*cluster.Snapshot, Facts) {
	s, f := world()
	for i := range nodes {
		n := fmt.Sprintf("node%d", i+1)
		s.Nodes[n] = &cluster.Node{Name: n, Ready: true, InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 100, byte(i + 1)})}}
	}
	f.Interfaces[1].Prefixes = prefixes("10.0.100.1/16")
	s.Pools["pool"].Ranges = []netipx.IPRange{netipx.MustParseIPRange("10.0.0.0-10.0.99.255")}
	a := netip.MustParseAddr("10.0.0.1")
	for i := range 10000 {
		svc := fmt.Sprintf("svc%d", i)
		s.Services[name(svc)] = &cluster.Service{Name: name(svc), Type: cluster.LoadBalancer, IngressIPs: []netip.Addr{a}}
		s.Slices[name(svc)] = s.Slices[name("web")]
		s.VIPs[a] = &cluster.VIP{Address: a, Pool: "pool", Services: []cluster.Name{name(svc)}}
		a = a.Next()
	}
	return s, f
}

func BenchmarkBuild_10000_VIPs_100_Nodes(b *testing.B) {
	s, f := manyVIPs(100)
	b.ReportAllocs()
	for b.Loop() {
		Build(s, f)
	}
}

// A node of 32 is lost: what stands between the loss and the first claim.
func BenchmarkBuild_10000_VIPs_32_Nodes_one_lost(b *testing.B) {
	s, f := manyVIPs(32)
	subnet := netip.MustParsePrefix("10.0.0.0/16")
	seg := Segment{Members: map[string]Member{}, Holders: map[netip.Addr]string{}}
	for n := range s.Nodes {
		seg.Members[n] = Member{Alive: true}
	}
	f.Segments = map[netip.Prefix]Segment{subnet: seg}
	for _, d := range Build(s, f).Decisions {
		for _, w := range d.Ways {
			if w.Via == ARP {
				seg.Holders[d.VIP] = "node1"
				if !w.Announced {
					seg.Holders[d.VIP] = strings.Fields(w.Reason.Text)[1]
				}
			}
		}
	}
	seg.Members["node7"] = Member{}
	b.ReportAllocs()
	for b.Loop() {
		Build(s, f)
	}
}
