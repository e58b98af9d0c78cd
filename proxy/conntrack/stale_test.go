package conntrack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/cluster"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// TestStale: which flows end when one state of the cluster follows another.
func TestStale(t *testing.T) {
	ports := []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53, NodePort: 30053}, {Name: "web", Protocol: cluster.TCP, Port: 80}}
	at := func(port uint16) []cluster.SlicePort {
		return []cluster.SlicePort{{Name: "dns", Protocol: cluster.UDP, Port: port}, {Name: "web", Protocol: cluster.TCP, Port: 80}}
	}
	svc := Service("a", "10.96.0.1", ports, func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs("192.0.2.1") })
	local := Service("a", "10.96.0.1", ports, func(s *cluster.Service) { s.InternalLocal = true })
	state := func(parts ...func(*cluster.Snapshot)) frontends {
		rs, _ := ruleset.Build(Snapshot(append(parts, Node("n1", "10.0.0.1", "10.244.1.0/24"))...), ruleset.Config{Node: "n1"})
		return udpFrontends(&rs.IPv4)
	}
	both := state(svc, Slice("a", at(53), "10.244.1.2@n1", "10.244.1.3@n1"))
	flows := map[string]string{ // destination and who answers
		"kept":        "10.96.0.1:53 10.244.1.2:53",
		"other":       "10.96.0.1:53 10.244.1.3:53",
		"vip":         "192.0.2.1:53 10.244.1.3:53",
		"node port":   "10.0.0.1:30053 10.244.1.3:53",
		"other port":  "10.0.0.1:30054 10.244.1.3:53",
		"other node":  "10.0.0.2:30053 10.244.1.3:53",
		"no Service":  "10.96.0.9:53 10.244.1.3:53",
		"direct":      "10.244.1.3:53 10.244.1.3:53",
		"let through": "10.96.0.1:53 10.96.0.1:53",
		"own process": "10.0.0.1:30053 10.0.0.1:30053",
		"tcp port":    "10.96.0.1:80 10.244.1.3:80",
	}
	for _, c := range []struct {
		name       string
		have, want frontends
		ends       []string
	}{
		{"nothing changed", both, both, nil},
		{"an endpoint came", both, state(svc, Slice("a", at(53), "10.244.1.2@n1", "10.244.1.3@n1", "10.244.1.4@n1")), nil},
		{"an endpoint went", both, state(svc, Slice("a", at(53), "10.244.1.2@n1")), []string{"other", "vip", "node port", "let through", "own process"}},
		{"an endpoint terminates, still serving", both, state(svc, Slice("a", at(53), "10.244.1.2@n1", "~10.244.1.3@n1")), nil},
		{"an endpoint is not ready", both, state(svc, Slice("a", at(53), "10.244.1.2@n1", "!10.244.1.3@n1")), []string{"other", "vip", "node port", "let through", "own process"}},
		{"all endpoints went", both, state(svc), []string{"kept", "other", "vip", "node port", "let through", "own process"}},
		{"the target port changed", both, state(svc, Slice("a", at(5353), "10.244.1.2@n1", "10.244.1.3@n1")), []string{"kept", "other", "vip", "node port", "let through", "own process"}},
		{"the Service went", both, state(), []string{"kept", "other", "vip", "node port"}},
		{"the VIP went", both, state(Service("a", "10.96.0.1", ports, func(s *cluster.Service) { s.Type = cluster.NodePort }),
			Slice("a", at(53), "10.244.1.2@n1", "10.244.1.3@n1")), []string{"vip"}},
		{"the node port went", both, state(Service("a", "10.96.0.1", ports), Slice("a", at(53), "10.244.1.2@n1", "10.244.1.3@n1")), []string{"vip", "node port"}},
		{"the Service came", state(), both, []string{"let through", "own process"}},
		{"endpoints came", state(svc), both, []string{"let through", "own process"}},
		{"endpoints came that a policy includes", state(local, Slice("a", at(53), "10.244.1.2@n2")),
			state(local, Slice("a", at(53), "10.244.1.2@n2", "10.244.1.3@n1")), []string{"let through"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := family{have: c.want}
			f.pending.add(slices.Values(diff(c.have, c.want)))
			ends := map[string]bool{}
			for _, name := range c.ends {
				ends[name] = true
			}
			for name, text := range flows {
				if got := f.stale(flowOf(text)); got != ends[name] {
					t.Errorf("flow %q (%s): ends: %v, want %v", name, text, got, ends[name])
				}
			}
		})
	}
}

// flowOf returns a flow by its destination and who answers, "DESTINATION ANSWERS".
func flowOf(text string) flow {
	to, by, _ := strings.Cut(text, " ")
	return flow{destination: netip.MustParseAddrPort(to), answers: netip.MustParseAddrPort(by)}
}

// TestChangesWhileOthersWait: what is stale is decided by the endpoints of now, not by those of the change that waits.
func TestChangesWhileOthersWait(t *testing.T) {
	svc := Service("a", "10.96.0.1", udpPort)
	with := func(endpoints ...string) state { return stateOf(svc, Slice("a", udpEP, endpoints...)) }
	gone := stateOf()
	const a, b, c = "10.244.1.2@n1", "10.244.1.3@n1", "10.244.1.4@n1"
	for _, step := range []struct {
		name string
		sets []state
		// ends are the last digits of the endpoints whose flows end.
		ends string
	}{
		{"one goes", []state{with(a)}, "34"},
		{"one goes, then another comes", []state{with(a), with(a, c)}, "3"},
		{"one goes and comes back", []state{with(a), with(a, b)}, "4"},
		{"one goes, then another", []state{with(a), with()}, "234"},
		{"the Service goes and comes back", []state{gone, with(b)}, "24"},
		{"an endpoint goes, then the Service", []state{with(a), gone}, "234"},
	} {
		t.Run(step.name, func(t *testing.T) {
			d := Driver{families: map[cluster.Family]*family{}}
			with(a, b).setIn(&d)
			f := d.families[cluster.IPv4]
			f.pending = changes{}
			for _, s := range step.sets {
				s.setIn(&d)
			}
			for _, endpoint := range []string{"2", "3", "4"} {
				want := strings.Contains(step.ends, endpoint)
				if got := f.stale(flowOf("10.96.0.1:53 10.244.1." + endpoint + ":53")); got != want {
					t.Errorf("the flow to 10.244.1.%s ends: %v, want %v", endpoint, got, want)
				}
			}
		})
	}
}

// TestUnserved: at which addresses flows are stale that go to no frontend.
func TestUnserved(t *testing.T) {
	const foreign = "192.0.2.9"
	base := []func(*cluster.Snapshot){
		ServiceCIDRs("10.96.0.0/16 fd00:96::/112"), Pool("lan", "192.0.2.0/24 2001:db8::/64"),
		Node("n2", "192.0.2.250 10.0.0.2", ""),
		Service("old", "10.95.0.1", udpPort, func(s *cluster.Service) {
			s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs("203.0.113.1")
		}),
	}
	others := Service("others", "10.96.0.9", udpPort, func(s *cluster.Service) {
		s.Type, s.IngressIPs, s.ForeignProxy = cluster.LoadBalancer, Addrs(foreign), true
	})
	first, second := stateOf(base...), stateOf(append(base, others)...)
	var f family
	check := func(what string, want bool, addrs string) {
		t.Helper()
		for _, a := range Addrs(addrs) {
			fl := flow{destination: netip.AddrPortFrom(a, 99), answers: netip.MustParseAddrPort("10.244.1.2:53")}
			if got := f.stale(fl); got != want {
				t.Errorf("%s: a flow to %s ends: %v", what, a, got)
			}
		}
	}
	const (
		always = "10.96.0.7 fd00:96::7 192.0.2.7 2001:db8::7 10.95.0.1 203.0.113.1"
		never  = "10.0.0.1 10.0.0.2 192.0.2.250 10.95.0.2 203.0.113.2"
	)
	if !f.follow(&first.IPv4, first.snap) {
		t.Error("nothing to look at")
	}
	check("first", true, always+" 10.96.0.9 "+foreign)
	check("first", false, never)
	if f.follow(&second.IPv4, second.snap) {
		t.Error("more to look at, though none of our frontends has changed")
	}
	check("another proxy has a Service now", true, always)
	check("another proxy has a Service now", false, never+" 10.96.0.9 "+foreign)
	f.pending = changes{}
	f.follow(&first.IPv4, first.snap)
	check("after a look", false, always+" "+never+" "+foreign)
}
