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
)

// routesOf writes routes as "prefix peer:community…".
func routesOf(p Plan) []string {
	var out []string
	for _, r := range p.BGP.Routes {
		line := r.Prefix.String()
		for _, e := range r.Exports {
			line += " " + e.Peer
			for _, c := range e.Attributes.Communities {
				line += "+" + c.String()
			}
		}
		out = append(out, line)
	}
	return out
}

func ad(community cluster.Community, peers ...string) *cluster.Advertisement {
	a := &cluster.Advertisement{Peers: peers}
	if community > 0 {
		a.Attributes.Communities = []cluster.Community{community}
	}
	return a
}

func aggregated(a *cluster.Advertisement, v4, v6 uint8) *cluster.Advertisement {
	a.Length4, a.Length6 = v4, v6
	return a
}

// Which prefixes go to which peers, with what, for the addresses 10.0.0.100, 10.0.0.101 and fd00::100 of one pool.
func TestRoutes(t *testing.T) {
	for name, tt := range map[string]struct {
		ads  []*cluster.Advertisement
		want []string
	}{
		"all peers": {nil, []string{"10.0.0.100/32 spine tor", "10.0.0.101/32 spine tor", "fd00::100/128 spine tor"}},
		"one with attributes": {[]*cluster.Advertisement{ad(7)},
			[]string{"10.0.0.100/32 spine+0:7 tor+0:7", "10.0.0.101/32 spine+0:7 tor+0:7", "fd00::100/128 spine+0:7 tor+0:7"}},
		"peers that do not exist": {[]*cluster.Advertisement{ad(0, "tor", "gone")},
			[]string{"10.0.0.100/32 tor", "10.0.0.101/32 tor", "fd00::100/128 tor"}},
		"other attributes for other peers": {[]*cluster.Advertisement{ad(1, "tor"), ad(2, "spine")},
			[]string{"10.0.0.100/32 spine+0:2 tor+0:1", "10.0.0.101/32 spine+0:2 tor+0:1", "fd00::100/128 spine+0:2 tor+0:1"}},
		"the first advertisement for a peer counts": {[]*cluster.Advertisement{ad(1, "tor"), ad(2)},
			[]string{"10.0.0.100/32 spine+0:2 tor+0:1", "10.0.0.101/32 spine+0:2 tor+0:1", "fd00::100/128 spine+0:2 tor+0:1"}},
		"aggregates": {[]*cluster.Advertisement{aggregated(ad(0), 24, 64)}, []string{"10.0.0.0/24 spine tor", "fd00::/64 spine tor"}},
		"an aggregate for one, addresses for the other": {[]*cluster.Advertisement{aggregated(ad(0, "spine"), 24, 0), ad(0, "tor")},
			[]string{"10.0.0.0/24 spine", "10.0.0.100/32 tor", "10.0.0.101/32 tor", "fd00::100/128 spine tor"}},
		"both for the same": {[]*cluster.Advertisement{aggregated(ad(0, "tor"), 24, 0), ad(9, "tor")},
			[]string{"10.0.0.0/24 tor", "10.0.0.100/32 tor+0:9", "10.0.0.101/32 tor+0:9", "fd00::100/128 tor"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := world()
			s.Peers["spine"] = &cluster.Peer{Name: "spine", Address: netip.MustParseAddrPort("10.0.0.253:179"), PeerASN: 64501, LocalASN: 64512}
			addService(s, "web2", v4.Next())
			s.Pools["pool"].BGP = &cluster.BGPAnnounce{Advertisements: tt.ads}
			p := Build(s, f)
			if got := routesOf(p); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// An aggregate goes with the last of its addresses that this node announces.
func TestAggregateGoesWithItsLastAddress(t *testing.T) {
	s, f := world()
	addService(s, "web2", v4.Next())
	s.Pools["pool"].BGP = &cluster.BGPAnnounce{Advertisements: []*cluster.Advertisement{aggregated(ad(0), 24, 64)}}
	for _, svc := range []string{"web", "web2"} {
		s.Services[name(svc)].ExternalLocal = true
	}
	move := func(svc, node string) {
		s.Slices[name(svc)] = []*cluster.Slice{{Service: name(svc), Family: cluster.IPv4, Endpoints: []cluster.Endpoint{{Addr: v4, Node: node, Ready: true}}}}
	}
	move("web", "node2")
	move("web2", "node1")
	if got, want := routesOf(Build(s, f)), []string{"10.0.0.0/24 tor"}; !slices.Equal(got, want) {
		t.Errorf("with one address here: %q, want %q", got, want)
	}
	move("web2", "node2")
	if got := routesOf(Build(s, f)); len(got) > 0 {
		t.Errorf("with none: %q", got)
	}
}

// Two pools with an aggregate in common: each peer has one route for it, of the lower address's pool.
func TestAggregateOfTwoPools(t *testing.T) {
	s, f := world()
	s.Pools["pool"].BGP = &cluster.BGPAnnounce{Advertisements: []*cluster.Advertisement{aggregated(ad(1), 16, 0)}}
	s.Pools["more"] = &cluster.Pool{Name: "more", Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.9.0-10.0.9.255")},
		BGP: &cluster.BGPAnnounce{Advertisements: []*cluster.Advertisement{aggregated(ad(2), 16, 0)}}}
	a := netip.MustParseAddr("10.0.9.1")
	addService(s, "db", a)
	s.VIPs[a].Pool = "more"
	if got, want := routesOf(Build(s, f)), []string{"10.0.0.0/16 tor+0:1", "fd00::100/128 tor+0:1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A node that is excluded on purpose, or drained, keeps its routes in the plan for the driver to give up gracefully, and
// says that it does not announce. One that is not ready or out of service has none.
func TestLeaving(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(n *cluster.Node, f *Facts)
		leaving bool
		routes  int
		want    string
	}{
		"in service":     {func(*cluster.Node, *Facts) {}, false, 2, "BGP:tor"},
		"draining":       {func(_ *cluster.Node, f *Facts) { f.Draining = true }, true, 2, "BGP:Draining"},
		"excluded":       {func(n *cluster.Node, _ *Facts) { n.Excluded = true }, true, 2, "BGP:NodeCannotAnnounce"},
		"not ready":      {func(n *cluster.Node, _ *Facts) { n.Ready = false }, false, 0, "BGP:NodeCannotAnnounce"},
		"out of service": {func(n *cluster.Node, _ *Facts) { n.Excluded, n.OutOfService = true, true }, false, 0, "BGP:NodeCannotAnnounce"},
		"cordoned":       {func(n *cluster.Node, _ *Facts) { n.Unschedulable = true }, false, 2, "BGP:tor"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := world()
			s.Pools["pool"].ARP = nil
			tt.change(s.Nodes["node1"], &f)
			p := Build(s, f)
			if p.BGP.Leaving != tt.leaving || len(p.BGP.Routes) != tt.routes || outcome(p, v4) != tt.want || len(p.BGP.Peers) != 1 {
				t.Errorf("leaving %v, routes %q, %s, %d peers", p.BGP.Leaving, routesOf(p), outcome(p, v4), len(p.BGP.Peers))
			}
		})
	}
}

// What becomes of one BGPPeer after a change to the world: the session, or why there is none.
func TestSessions(t *testing.T) {
	routers := func(f *Facts, addrs ...string) {
		f.Routers = map[string][]netip.Addr{}
		for _, a := range addrs {
			f.Routers["eth0"] = append(f.Routers["eth0"], netip.MustParseAddr(a))
		}
	}
	unnumbered := func(p *cluster.Peer) {
		p.Address, p.Interface, p.ExtendedNextHop = netip.AddrPortFrom(netip.Addr{}, 179), "eth0", true
	}
	for name, tt := range map[string]struct {
		change func(s *cluster.Snapshot, f *Facts, p *cluster.Peer)
		want   string
	}{
		"IPv4": {func(*cluster.Snapshot, *Facts, *cluster.Peer) {}, "10.0.0.254:179 from 10.0.0.1 AS64512 IPv4 via - IPv6 via fd00::1"},
		"IPv6": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) {
			p.Address = netip.MustParseAddrPort("[fd00::fe]:179")
		},
			"[fd00::fe]:179 from fd00::1 AS64512 IPv4 via 10.0.0.1 IPv6 via -"},
		"IPv6, extended next hop": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) {
			p.Address, p.ExtendedNextHop = netip.MustParseAddrPort("[fd00::fe]:179"), true
		}, "[fd00::fe]:179 from fd00::1 AS64512 IPv4 via - (extended) IPv6 via -"},
		"IPv6, no IPv4 on the node": {func(s *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			p.Address = netip.MustParseAddrPort("[fd00::fe]:179")
			f.Interfaces[1].Prefixes = prefixes("fe80::1/64", "fd00::1/64")
			s.Nodes["node1"].InternalIPs = s.Nodes["node1"].InternalIPs[1:]
		}, "[fd00::fe]:179 from fd00::1 AS64512 IPv6 via -"},

		"routed": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) {
			p.Address = netip.MustParseAddrPort("192.0.2.1:179")
		},
			"192.0.2.1:179 from - AS64512 IPv4 via - IPv6 via fd00::1"},
		"ASN of the node": {func(s *cluster.Snapshot, _ *Facts, p *cluster.Peer) {
			p.LocalASN, p.LocalASNLabel = 0, "asn"
			s.Nodes["node1"].Labels["asn"] = "4200000007"
		}, "10.0.0.254:179 from 10.0.0.1 AS4200000007 IPv4 via - IPv6 via fd00::1"},
		"no ASN on the node":  {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) { p.LocalASNLabel = "asn" }, "NoASN: node node1 has no label asn"},
		"nonsense for an ASN": {func(s *cluster.Snapshot, _ *Facts, p *cluster.Peer) { p.LocalASNLabel = "name" }, `NoASN: label name of node node1 is "node1"`},
		"reserved ASN": {func(s *cluster.Snapshot, _ *Facts, p *cluster.Peer) {
			p.LocalASNLabel, s.Nodes["node1"].Labels["asn"] = "asn", "4294967295"
		}, "NoASN: label asn"},
		"source interface": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) { p.SourceInterface = "eth0" }, "10.0.0.254:179 from 10.0.0.1 AS64512 IPv4 via - IPv6 via fd00::1"},
		"source on lo": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			p.SourceInterface = "lo"
			f.Interfaces[0].Prefixes = prefixes("127.0.0.1/8", "192.0.2.9/32", "::1/128")
		}, "10.0.0.254:179 from 192.0.2.9 AS64512 IPv4 via - IPv6 via fd00::1"},
		"source on lo, router behind a router": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			p.SourceInterface, p.Address = "lo", netip.MustParseAddrPort("[2001:db8::fe]:179")
			f.Interfaces[0].Prefixes = prefixes("127.0.0.1/8", "::1/128", "2001:db8:1::9/128")
		}, "[2001:db8::fe]:179 from 2001:db8:1::9 AS64512 IPv4 via 10.0.0.1 IPv6 via -"},
		"both families on lo": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			p.SourceInterface, p.Address = "lo", netip.MustParseAddrPort("198.51.100.1:179")
			f.Interfaces[0].Prefixes = prefixes("127.0.0.1/8", "192.0.2.9/32", "::1/128", "2001:db8:1::9/128")
		}, "198.51.100.1:179 from 192.0.2.9 AS64512 IPv4 via - IPv6 via 2001:db8:1::9"},
		"no source on it":   {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) { p.SourceInterface = "lo" }, "NoSource: node node1 has no IPv4 address on an interface lo"},
		"no such interface": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) { p.SourceInterface = "eth7" }, "NoSource: node node1 has no IPv4 address on an interface eth7"},
		"unnumbered":        {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) { unnumbered(p); routers(f, "fe80::fe") }, "[fe80::fe%eth0]:179 from - AS64512 IPv4 via - (extended) IPv6 via -"},
		"unnumbered, no 8950": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			unnumbered(p)
			p.ExtendedNextHop = false
			routers(f, "fe80::fe")
		}, "[fe80::fe%eth0]:179 from - AS64512 IPv4 via 10.0.0.1 IPv6 via -"},
		"link-local": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			unnumbered(p)
			p.Address = netip.MustParseAddrPort("[fe80::fe]:179")
		}, "[fe80::fe%eth0]:179 from - AS64512 IPv4 via - (extended) IPv6 via -"},
		"no router heard": {func(_ *cluster.Snapshot, _ *Facts, p *cluster.Peer) { unnumbered(p) }, "NoRouter: no router advertisement was heard on eth0"},
		"two routers heard": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			unnumbered(p)
			routers(f, "fe80::fd", "fe80::fe")
		}, "NoRouter: more than one router was heard on eth0, among them fe80::fd and fe80::fe"},
		"interface down": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			unnumbered(p)
			routers(f, "fe80::fe")
			f.Interfaces[1].Up = false
		}, "NoRouter: node node1 has no interface eth0 that is up"},
		"no such link": {func(_ *cluster.Snapshot, f *Facts, p *cluster.Peer) { unnumbered(p); p.Interface = "eth7" }, "NoRouter: node node1 has no interface eth7"},
		"the same on two links": {func(s *cluster.Snapshot, f *Facts, p *cluster.Peer) {
			unnumbered(p)
			routers(f, "fe80::fe")
			f.Interfaces = append(f.Interfaces, Interface{Link: Link{Index: 3, Name: "eth1"}, Prefixes: prefixes("fe80::1/64"), Up: true})
			s.Peers["other"] = &cluster.Peer{Name: "other", Address: netip.MustParseAddrPort("[fe80::fe]:179"), Interface: "eth1", LocalASN: 1, PeerASN: 2}
		}, "DuplicatePeer: BGPPeer other has the same address fe80::fe"},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := world()
			tt.change(s, &f, s.Peers["tor"])
			if got := sessionText(Build(s, f).BGP, "tor"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func sessionText(b BGP, peer string) string {
	for _, r := range b.Refused {
		if r.Peer == peer {
			return string(r.Reason.Code) + ": " + r.Reason.Text
		}
	}
	addr := func(a netip.Addr) string {
		if !a.IsValid() {
			return "-"
		}
		return a.String()
	}
	for _, p := range b.Peers {
		if p.Name != peer {
			continue
		}
		s := p.Session
		out := fmt.Sprintf("%s from %s AS%d", s.Address, addr(s.Source), s.LocalASN)
		if s.IPv4 {
			out += " IPv4 via " + addr(p.NextHop4)
		}
		if s.ExtendedNextHop {
			out += " (extended)"
		}
		if s.IPv6 {
			out += " IPv6 via " + addr(p.NextHop6)
		}
		return out
	}
	return "nothing"
}

// Routers are looked for where a peer has none by address, also while no session is possible.
func TestDiscover(t *testing.T) {
	s, f := world()
	s.Peers["b"] = &cluster.Peer{Name: "b", Interface: "eth1"}
	s.Peers["a"] = &cluster.Peer{Name: "a", Interface: "eth0"}
	s.Peers["c"] = &cluster.Peer{Name: "c", Interface: "eth0"}
	s.Peers["d"] = &cluster.Peer{Name: "d", Interface: "eth9", Address: netip.MustParseAddrPort("[fe80::1]:179")}
	s.Peers["e"] = &cluster.Peer{Name: "e", Interface: "eth8", Nodes: cluster.Selector{{Key: "none", Operator: cluster.Exists}}}
	if got, want := Build(s, f).BGP.Discover, []string{"eth0", "eth1"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
