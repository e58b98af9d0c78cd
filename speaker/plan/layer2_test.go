package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

var lan = netip.MustParsePrefix("10.0.0.0/24")

// known makes the nodes of a world know each other: all are alive, nobody holds anything.
func known(f *Facts) Segment {
	s := Segment{Members: map[string]Member{}, Holders: map[netip.Addr]string{}, Contenders: map[netip.Addr]string{}}
	for i := range 3 {
		s.Members[fmt.Sprintf("node%d", i+1)] = Member{Alive: true, Interface: "eth0", MAC: MAC{2, 0, 0, 0, 0, byte(i + 1)}}
	}
	f.Segments = map[netip.Prefix]Segment{lan: s}
	return s
}

// ownersOf builds the plan of every node and returns what each does about v4: "node1:own node2:keep".
func ownersOf(s *cluster.Snapshot, f Facts) string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		g := at(f, n)
		g.Draining = f.Draining && n == f.Node
		for _, l2 := range Build(s, g).L2 {
			if l2.Addr == v4 {
				out = append(out, n+":"+l2.Kind.String())
			}
		}
	}
	return strings.Join(out, " ")
}

// Of many addresses that move from a node that is well, each plan lets a few go; that of a node that drains, all.
func TestManyMove(t *testing.T) {
	s, f := manyVIPs(3)
	maps.DeleteFunc(s.VIPs, func(a netip.Addr, _ *cluster.VIP) bool { return !netip.MustParsePrefix("10.0.0.0/24").Contains(a) })
	seg := known(&f)
	f.Segments = map[netip.Prefix]Segment{netip.MustParsePrefix("10.0.0.0/16"): seg}
	for a := range s.VIPs {
		seg.Holders[a] = "node1" // the others were away
	}
	asked := func() (n int) {
		clear(seg.Contenders)
		for _, other := range []string{"node2", "node3"} {
			for _, l2 := range Build(s, at(f, other)).L2 {
				if seg.Holders[l2.Addr] == "node1" {
					seg.Contenders[l2.Addr] = other
					n++
				}
			}
		}
		return n
	}
	has := func(f Facts) map[netip.Addr]bool {
		out := map[netip.Addr]bool{}
		for _, l2 := range Build(s, at(f, "node1")).L2 {
			out[l2.Addr] = true
		}
		return out
	}
	n := asked()
	if n < len(s.VIPs)/3 {
		t.Fatalf("the others ask for %d of %d", n, len(s.VIPs))
	}
	draining := f
	draining.Draining = true
	if left := len(has(draining)); left > len(s.VIPs)-n {
		t.Errorf("a node that drains keeps %d of %d, of which %d are asked for", left, len(s.VIPs), n)
	}
	for n > 0 {
		left := has(f)
		if gone := len(seg.held("node1")) - len(left); gone != min(n, letGoAtOnce) {
			t.Fatalf("%d are let go of at once, of %d that are asked for", gone, n)
		}
		for a := range seg.held("node1") {
			if !left[a] {
				seg.Holders[a] = seg.Contenders[a]
			}
		}
		n = asked()
	}
}

// held returns the addresses that a node has.
func (s *Segment) held(node string) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for a, n := range s.Holders {
		if n == node {
			out[a] = true
		}
	}
	return out
}

// Who has v4, after one change to a world of three nodes that know each other and of which node2 has it.
func TestOwners(t *testing.T) {
	local := func(s *cluster.Snapshot, nodes ...string) {
		s.Services[name("web")].ExternalLocal = true
		slice := *s.Slices[name("web")][0]
		slice.Endpoints = nil
		for _, n := range nodes {
			slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: n, Ready: true})
		}
		s.Slices[name("web")] = []*cluster.Slice{&slice}
	}
	prefer := func(s *cluster.Snapshot, node string) {
		s.Pools["pool"].ARP.Preferences = []cluster.Preference{{Weight: 5, Nodes: cluster.Selector{{Key: "name", Operator: cluster.In, Values: []string{node}}}}}
	}
	only := func(s *cluster.Snapshot, nodes ...string) {
		s.Pools["pool"].ARP.Nodes = cluster.Selector{{Key: "name", Operator: cluster.In, Values: nodes}}
	}
	tests := []struct {
		name   string
		change func(s *cluster.Snapshot, f *Facts, seg Segment)
		want   string
	}{
		{"the holder keeps it", func(*cluster.Snapshot, *Facts, Segment) {}, "node2:own"},
		{"nobody has it: the hash decides", func(_ *cluster.Snapshot, _ *Facts, seg Segment) { delete(seg.Holders, v4) }, owner(v4) + ":own"},
		{"a holder that is not alive loses it", func(_ *cluster.Snapshot, _ *Facts, seg Segment) { seg.Members["node2"] = Member{} }, "node2:keep node3:own"},
		{"a holder that nobody knows loses it", func(s *cluster.Snapshot, _ *Facts, seg Segment) { delete(s.Nodes, "node2") }, "node3:own"},
		{"the only one alive", func(_ *cluster.Snapshot, _ *Facts, seg Segment) {
			seg.Members["node1"], seg.Members["node2"] = Member{}, Member{}
		}, "node2:keep node3:own"},

		{"the API says not ready", func(s *cluster.Snapshot, _ *Facts, _ Segment) { s.Nodes["node2"].Ready = false }, "node2:keep node3:own"},
		{"the API says that of all: an API that is out of date", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			for _, n := range s.Nodes {
				n.Ready = false
			}
		}, "node2:own"},
		{"of most: an API that has just come back", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			s.Nodes["node1"].Ready, s.Nodes["node2"].Ready = false, false
		}, "node2:own"},
		{"of half", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			s.Nodes["node2"].Ready = false
			delete(s.Nodes, "node1")
		}, "node2:keep node3:own"},
		{"of all that are left by the selector", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			s.Nodes["node2"].Ready = false
			only(s, "node2")
		}, "node2:own"},
		{"excluded: moves, make before break", func(s *cluster.Snapshot, _ *Facts, _ Segment) { s.Nodes["node2"].Excluded = true }, "node2:keep node3:own"},
		{"excluded, and asked for it", func(s *cluster.Snapshot, _ *Facts, seg Segment) {
			s.Nodes["node2"].Excluded = true
			seg.Contenders[v4] = "node3"
		}, "node3:own"},
		{"excluded, and nobody else could: obeyed", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			s.Nodes["node2"].Excluded = true
			only(s, "node2")
		}, ""},
		{"all excluded", func(s *cluster.Snapshot, _ *Facts, _ Segment) {
			for _, n := range s.Nodes {
				n.Excluded = true
			}
		}, ""},

		{"draining", func(_ *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node2"] = Member{}
		}, "node2:keep node3:own"},
		{"draining, and asked for it", func(_ *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node2"] = Member{}
			seg.Contenders[v4] = "node3"
		}, "node3:own"},
		{"draining, asked for it by one that others do not see as the owner", func(_ *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node2"] = Member{}
			seg.Contenders[v4] = "node1"
		}, "node2:keep node3:own"},
		{"draining, and nobody else could: serves to the end", func(s *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node2"] = Member{}
			only(s, "node2")
		}, "node2:alone"},
		{"draining, and the only one with an endpoint", func(s *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node2"] = Member{}
			local(s, "node2")
		}, "node2:alone"},
		{"draining, and nobody else is alive", func(_ *cluster.Snapshot, f *Facts, seg Segment) {
			f.Node, f.Draining = "node2", true
			seg.Members["node1"], seg.Members["node2"], seg.Members["node3"] = Member{}, Member{}, Member{}
		}, "node2:alone"},

		{"preferred", func(s *cluster.Snapshot, _ *Facts, _ Segment) { prefer(s, "node2") }, "node2:own"},
		{"another is preferred", func(s *cluster.Snapshot, _ *Facts, _ Segment) { prefer(s, "node1") }, "node1:own node2:keep"},
		{"the preferred is not alive", func(s *cluster.Snapshot, _ *Facts, seg Segment) {
			prefer(s, "node1")
			seg.Members["node1"] = Member{}
		}, "node2:own"},

		{"Local, endpoint with the holder", func(s *cluster.Snapshot, _ *Facts, _ Segment) { local(s, "node2", "node3") }, "node2:own"},
		{"Local, no endpoint with the holder: not kept", func(s *cluster.Snapshot, _ *Facts, _ Segment) { local(s, "node3") }, "node3:own"},
		{"Local, endpoint with one that is not alive", func(s *cluster.Snapshot, _ *Facts, seg Segment) {
			local(s, "node3")
			seg.Members["node3"] = Member{}
		}, ""},

		{"an interface that is not allowed", func(s *cluster.Snapshot, _ *Facts, seg Segment) {
			s.Pools["pool"].ARP.Interfaces = []string{"eth0"}
			m := seg.Members["node2"]
			m.Interface = "eth1"
			seg.Members["node2"] = m
		}, "node2:keep node3:own"},
		{"an interface that is not known", func(s *cluster.Snapshot, _ *Facts, seg Segment) {
			s.Pools["pool"].ARP.Interfaces = []string{"eth0"}
			seg.Members["node2"] = Member{Alive: true}
		}, "node2:own"},
		{"on the segment without an InternalIP there", func(s *cluster.Snapshot, _ *Facts, _ Segment) { s.Nodes["node2"].InternalIPs = nil }, "node2:own"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, f := world()
			s.Pools["pool"].BGP = nil
			seg := known(&f)
			seg.Holders[v4] = "node2"
			tt.change(s, &f, seg)
			if got := ownersOf(s, f); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Where nodes do not know each other and none is ready, or fewer than half, all that are not excluded count.
func TestMostNotReady(t *testing.T) {
	s, f := world()
	for _, n := range s.Nodes {
		n.Ready = false
	}
	check := func() {
		t.Helper()
		if got := ownersOf(s, f); got != owner(v4)+":own" {
			t.Errorf("got %q", got)
		}
		if got := outcome(Build(s, at(f, owner(v4))), v4); got != "ARP:eth0 BGP:tor" {
			t.Errorf("got %s", got)
		}
	}
	check()
	for name, n := range s.Nodes {
		if name != owner(v4) {
			n.Ready = true
			break
		}
	}
	check()
}

// An address is new until a node has had it, however long its Service's pods take; but not when its owner is lost, nor to a node
// that cannot know.
func TestFreshUntilTaken(t *testing.T) {
	s, f := world()
	seg := known(&f)
	slices := s.Slices[name("web")]
	delete(s.Slices, name("web"))
	s.VIPs[v4].Created = time.Unix(1000, 0)
	far := netip.MustParseAddr("10.0.1.7") // in no subnet: not to be remembered
	addService(s, "far", far)
	s.VIPs[far].Created = time.Unix(1000, 0)
	plans := map[string]Plan{} // the last of each node
	build := func(second int64, nodes ...string) (fresh string) {
		var out []string
		for _, n := range nodes {
			g := at(f, n)
			g.Now, g.Untaken = time.Unix(second, 0), plans[n].Untaken
			plans[n] = Build(s, g)
			for _, l2 := range plans[n].L2 {
				if l2.Addr == v4 {
					out = append(out, fmt.Sprint(n, " ", l2.Fresh))
				}
			}
			if u := plans[n].Untaken; len(u) > 1 || len(u) == 1 && !u[v4] {
				t.Errorf("%s at %d: untaken %v", n, second, u)
			}
		}
		return strings.Join(out, ", ")
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	check("without pods", build(1030, "node1", "node3"), "")
	check("without pods, later", build(4000, "node1", "node3"), "")
	s.Slices[name("web")] = slices
	g := at(f, "node3")
	if g.Now = time.Unix(4001, 0); Build(s, g).L2[0].Fresh {
		t.Error("fresh to an agent that has only just started")
	}
	check("the first pod", build(4001, "node1", "node3"), "node3 true")
	check("once more, before it is granted", build(4001, "node1", "node3"), "node3 true")
	seg.Holders[v4] = "node3"
	check("it is granted", build(4002, "node1", "node3"), "node3 false")
	if len(plans["node1"].Untaken)+len(plans["node3"].Untaken) > 0 {
		t.Errorf("still untaken: %v, %v", plans["node1"].Untaken, plans["node3"].Untaken)
	}
	delete(seg.Holders, v4)
	seg.Members["node3"] = Member{Interface: "eth0"}
	check("its owner is lost", build(4003, "node1", "node2"), "node2 false")

	// Where there are so many nodes that not all know of all holders, only the age counts.
	seg.Blind = true
	f.Segments[lan] = seg
	s.VIPs[v4].Created = time.Unix(5000, 0)
	check("young", build(5001, "node2"), "node2 true")
	check("blind", build(5061, "node2"), "node2 false")
}

func TestL2Values(t *testing.T) {
	s, f := world()
	seg := known(&f)
	seg.Holders[v4] = "node1"
	s.Pools["pool"].ARP.Serve = true
	s.VIPs[v4].Created = time.Unix(1000, 0)
	f.Now = time.Unix(1030, 0)
	f.Gateways = []netip.Addr{netip.MustParseAddr("10.0.0.254")}
	s.Agents = map[string]*cluster.Agent{}
	for _, a := range []cluster.Agent{{Node: "node3", Interfaces: map[netip.Prefix]string{lan: "bond0"}}, {Node: "node1", Interfaces: map[netip.Prefix]string{lan: "eth0"}},
		{Node: "node2"}, {Node: "gone", Interfaces: map[netip.Prefix]string{lan: "eth0"}}} {
		s.AddAgent(&a)
	}
	p := Build(s, f)
	want := L2{Addr: v4, Link: eth0, Subnet: lan, Kind: Own, Serve: true, Fresh: true}
	if len(p.L2) == 0 || p.L2[0] != want {
		t.Errorf("got %+v, want %+v", p.L2, want)
	}
	for _, now := range []time.Time{time.Unix(1060, 0), {}} {
		f.Now = now
		if Build(s, f).L2[0].Fresh {
			t.Errorf("fresh at %s", now)
		}
	}
	if len(p.LANs) != 2 || p.LANs[0].Subnet != lan || p.LANs[0].Link != eth0 || !slices.Equal(p.LANs[0].Members, []LANMember{{"node1", "eth0"}, {"node3", "bond0"}}) {
		t.Errorf("LANs %+v", p.LANs)
	}
	n := p.Neighbours
	if !slices.Equal(n.Gateways, f.Gateways) || len(n.Nodes) != 6 || !slices.Equal(n.MACs, []MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 3}}) {
		t.Errorf("neighbours %+v", n)
	}
}

// reporters are the nodes that would tell that nobody announces v4, with what they would say by ARP.
func reporters(s *cluster.Snapshot, facts func(node string) Facts) (names []string, text string) {
	for _, n := range slices.Sorted(maps.Keys(s.Nodes)) {
		for _, d := range Build(s, facts(n)).Decisions {
			if d.VIP == v4 && d.Reporter {
				names = append(names, n)
				for _, w := range d.Ways {
					if w.Via == ARP {
						text = w.Reason.Text
					}
				}
			}
		}
	}
	return names, text
}

// A node tells that a VIP is announced by nobody only if nobody does: not one that cannot announce it while another can.
func TestReporters(t *testing.T) {
	tests := []struct {
		name   string
		change func(s *cluster.Snapshot, f func(string) *Facts)
		want   int
		text   string
	}{
		{"announced", func(*cluster.Snapshot, func(string) *Facts) {}, 0, ""},
		{"Local, on one node", func(s *cluster.Snapshot, _ func(string) *Facts) {
			s.Services[name("web")].ExternalLocal = true
			s.Slices[name("web")][0].Endpoints = []cluster.Endpoint{{Node: "node3", Ready: true}}
		}, 0, ""},
		{"one selected", func(s *cluster.Snapshot, _ func(string) *Facts) {
			s.Pools["pool"].ARP.Nodes = cluster.Selector{{Key: "name", Operator: cluster.In, Values: []string{"node3"}}}
		}, 0, ""},
		{"one selected, by BGP alone", func(s *cluster.Snapshot, _ func(string) *Facts) {
			s.Pools["pool"].ARP = nil
			s.Pools["pool"].BGP.Nodes = cluster.Selector{{Key: "name", Operator: cluster.In, Values: []string{"node3"}}}
		}, 0, ""},
		{"a router for one node, by BGP alone", func(s *cluster.Snapshot, _ func(string) *Facts) {
			s.Pools["pool"].ARP = nil
			s.Peers["tor"].Nodes = cluster.Selector{{Key: "name", Operator: cluster.In, Values: []string{"node3"}}}
		}, 0, ""},
		{"one node on the segment", func(s *cluster.Snapshot, f func(string) *Facts) {
			for n := range s.Nodes {
				if n != "node3" {
					s.Nodes[n].InternalIPs = []netip.Addr{netip.MustParseAddr("10.9.0.1")}
				}
			}
		}, 0, ""},
		{"one excluded", func(s *cluster.Snapshot, _ func(string) *Facts) { s.Nodes["node1"].Excluded = true }, 0, ""},
		{"nobody selected", func(s *cluster.Snapshot, _ func(string) *Facts) { s.Pools["pool"].ARP.Nodes = cluster.Nothing() }, 1, "node2 is not selected"},
		{"interfaces down", func(s *cluster.Snapshot, f func(string) *Facts) {
			for n := range s.Nodes {
				f(n).Interfaces[1].Up = false
			}
		}, 1, "is down"},
		{"the elected has its interface down", func(s *cluster.Snapshot, f func(string) *Facts) { f(owner(v4)).Interfaces[1].Up = false }, 1, "is down"},
		{"Local, nowhere alive", func(s *cluster.Snapshot, f func(string) *Facts) {
			s.Services[name("web")].ExternalLocal = true
			s.Slices[name("web")][0].Endpoints = []cluster.Endpoint{{Node: "node3", Ready: true}}
			for n := range s.Nodes {
				seg := known(f(n))
				seg.Members["node3"] = Member{}
			}
		}, 1, "node3 is not heard in 10.0.0.0/24"},
		{"pool gone", func(s *cluster.Snapshot, _ func(string) *Facts) { delete(s.Pools, "pool") }, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, f := world()
			s.Pools["pool"].BGP, s.Pools["pool"].ARP = nil, &cluster.ARPAnnounce{}
			if strings.Contains(tt.name, "BGP") {
				s.Pools["pool"].BGP = &cluster.BGPAnnounce{}
			}
			facts := map[string]*Facts{}
			for n := range s.Nodes {
				own := at(f, n)
				own.Interfaces = slices.Clone(f.Interfaces)
				facts[n] = &own
			}
			tt.change(s, func(n string) *Facts { return facts[n] })
			names, text := reporters(s, func(n string) Facts { return *facts[n] })
			if len(names) != tt.want || !strings.Contains(text, tt.text) {
				t.Errorf("%v tell %q, want %d, %q", names, text, tt.want, tt.text)
			}
		})
	}
}

// Every node makes the same of what all of them know, and each address has exactly one owner, with many addresses and a load
// that is bounded.
func TestManyOwners(t *testing.T) {
	s, f := world()
	s.Pools["pool"].BGP = nil
	seg := known(&f)
	a := netip.MustParseAddr("10.0.0.1")
	for i := range 90 {
		a = a.Next()
		if a != v4 && s.VIPs[a] == nil && i > 3 {
			addService(s, fmt.Sprintf("s%d", i), a)
		}
	}
	count := func(live ...string) map[string]int {
		got := map[string]int{}
		for _, n := range live {
			for _, l2 := range Build(s, at(f, n)).L2 {
				if l2.Kind == Own && l2.Addr.Is4() {
					got[n]++
					if h := seg.Holders[l2.Addr]; slices.Contains(live, h) && h != n && len(live) < 3 {
						t.Fatalf("%s moved from %s to %s", l2.Addr, h, n)
					}
				}
			}
		}
		return got
	}
	hold := func(live ...string) {
		next := map[netip.Addr]string{}
		for _, n := range live {
			for _, l2 := range Build(s, at(f, n)).L2 {
				if l2.Kind == Own {
					next[l2.Addr] = n
				}
			}
		}
		clear(seg.Holders)
		maps.Copy(seg.Holders, next)
	}
	total := 0
	for v := range s.VIPs {
		if v.Is4() {
			total++
		}
	}
	limit := (5*total + 11) / 12
	for _, live := range [][]string{{"node1", "node2", "node3"}, {"node1", "node3"}, {"node1", "node2", "node3"}} {
		for n, m := range seg.Members {
			m.Alive = slices.Contains(live, n)
			seg.Members[n] = m
		}
		got := count(live...)
		sum := 0
		for _, c := range got {
			sum += c
			if len(live) == 3 && c > limit {
				t.Errorf("%v: more than %d", got, limit)
			}
		}
		if sum != total {
			t.Errorf("%v owners of %d addresses among %v", got, total, live)
		}
		hold(live...)
	}
}
