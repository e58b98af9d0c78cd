package ruleset_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// world makes random Snapshots out of few names, addresses and ports, so that all kinds of coincidences happen.
type world struct{ *rand.Rand }

func (w world) chance(percent int) bool { return w.IntN(100) < percent }

func (w world) snapshot() *cluster.Snapshot {
	s := Snapshot(node1)
	if w.chance(50) {
		ServiceCIDRs("10.96.0.0/30 fd00:96::/126")(s)
	}
	for i := range 1 + w.IntN(6) {
		w.addService(s, i)
	}
	return s
}

// step changes one Service of a Snapshot.
func (w world) step(s *cluster.Snapshot) *cluster.Snapshot {
	next := Clone(s)
	i := w.IntN(6)
	name := Name(fmt.Sprintf("svc%d", i))
	switch {
	case w.chance(5):
		next.ServiceCIDRs = nil
	case w.chance(5):
		ServiceCIDRs("10.96.0.0/28 fd00:96::/124")(next)
	case w.chance(20):
		delete(next.Services, name)
	case w.chance(50) && next.Services[name] != nil:
		w.addSlices(next, name)
	default:
		w.addService(next, i)
	}
	return next
}

func (w world) addService(s *cluster.Snapshot, i int) {
	name := fmt.Sprintf("svc%d", i)
	svc := &cluster.Service{
		Name: Name(name), Type: cluster.ServiceType(w.IntN(4)), ClusterIPs: Addrs(fmt.Sprintf("10.96.0.%d fd00:96::%d", i, i)),
		ExternalLocal: w.chance(50), InternalLocal: w.chance(30), Headless: w.chance(5), ForeignProxy: w.chance(5),
	}
	if w.chance(10) {
		svc.ClusterIPs = svc.ClusterIPs[:1]
	}
	if w.chance(20) {
		svc.Affinity = time.Hour
	}
	for j := range 1 + w.IntN(2) {
		p := cluster.ServicePort{Name: fmt.Sprint(j), Protocol: cluster.TCP, Port: uint16(80 + j)}
		if w.chance(30) {
			p.Protocol = cluster.UDP
		}
		if w.chance(60) {
			p.NodePort = uint16(30000 + 10*i + j)
		}
		svc.Ports = append(svc.Ports, p)
	}
	if svc.Type == cluster.LoadBalancer {
		for _, vip := range Addrs("192.0.2.1 192.0.2.2 2001:db8::1") {
			if w.chance(50) {
				svc.IngressIPs = append(svc.IngressIPs, vip)
			}
			if w.chance(70) {
				old := s.VIPs[vip]
				v := &cluster.VIP{Address: vip, Services: []cluster.Name{svc.Name}}
				if old != nil {
					v.Services = append(v.Services, old.Services...)
				}
				s.VIPs[vip] = v
			}
		}
		for _, r := range []string{"198.51.100.0/24", "198.51.100.0/28", "10.244.0.0/16", "10.0.0.0/24", "2001:db8:9::/48"} {
			if w.chance(10) {
				svc.SourceRanges = append(svc.SourceRanges, netip.MustParsePrefix(r))
			}
		}
	}
	s.Services[svc.Name] = svc
	w.addSlices(s, svc.Name)
}

func (w world) addSlices(s *cluster.Snapshot, name cluster.Name) {
	s.Slices[name] = nil
	for n, f := range []string{"10.244.%d.%d", "fd00:244:%d::%d", "10.244.%d.%d"} {
		slice := &cluster.Slice{Name: fmt.Sprint(n), Service: name, Family: cluster.IPv4, Headless: w.chance(3)}
		if n == 1 {
			slice.Family = cluster.IPv6
		}
		for _, p := range s.Services[name].Ports {
			if w.chance(90) {
				slice.Ports = append(slice.Ports, cluster.SlicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port + 8000})
			}
		}
		for range w.IntN(4) {
			node := 1 + w.IntN(3)
			ep := cluster.Endpoint{
				Addr: netip.MustParseAddr(fmt.Sprintf(f, node, 2+w.IntN(4))), Node: fmt.Sprintf("n%d", node),
				Ready: w.chance(60), Serving: w.chance(80), Terminating: w.chance(30),
			}
			if w.chance(10) {
				ep.Node = ""
			}
			slice.Endpoints = append(slice.Endpoints, ep)
		}
		s.Slices[name] = append(s.Slices[name], slice)
	}
}

func seed(t *testing.T) world {
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	return world{rand.New(rand.NewPCG(n, 0))}
}

// TestOracle compares what happens to packets with what the API says that should happen.
func TestOracle(t *testing.T) {
	w := seed(t)
	for range 60 {
		snap := w.snapshot()
		rs, _ := ruleset.Build(snap, cfg1)
		for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
			sources, destinations := Addrs("10.244.1.3 10.244.2.3 10.0.0.1 198.51.100.7 198.51.100.99 203.0.113.1"),
				Addrs("10.96.0.0 10.96.0.1 10.96.0.2 10.96.0.3 192.0.2.1 192.0.2.2 10.0.0.1 10.0.0.2")
			if f == cluster.IPv6 {
				sources, destinations = Addrs("fd00:244:1::3 fd00:244:2::3 fd00::1 2001:db8:9::7"),
					Addrs("fd00:96:: fd00:96::1 fd00:96::2 fd00:96::3 2001:db8::1 fd00::1")
			}
			h := tableFor(&rs, sources[0])
			for _, src := range sources {
				for _, dst := range destinations {
					for _, port := range []uint16{80, 81, 82, 30000, 30010, 30011} {
						for _, protocol := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
							p := packet{src: src, dst: netip.AddrPortFrom(dst, port), protocol: protocol, state: ruleset.New}
							got, want := h.fates(p), oracle(snap, p)
							if !slices.Equal(got, want) {
								t.Fatalf("%s %s -> %s:\n got %v\nwant %v\n%s", protocol, src, p.dst, got, want, rs.String())
							}
						}
					}
				}
			}
		}
	}
}

// oracle says what should become of a packet, from the API's words alone and without regard to speed.
func oracle(snap *cluster.Snapshot, p packet) []fate {
	f := cluster.FamilyOf(p.src)
	node := snap.Nodes["n1"]
	fromPod := slices.ContainsFunc(node.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(p.src) })
	fromNode := slices.Contains(node.InternalIPs, p.src)
	refused := []fate{{verdict: "reject", to: p.dst}}
	if p.protocol == cluster.TCP {
		refused[0].verdict = "reset"
	}
	dropped := []fate{{verdict: "drop", to: p.dst}}

	guarded := false
	for _, svc := range snap.SortedServices() {
		ip := svc.ClusterIPOf(f)
		if svc.Headless || svc.ForeignProxy || svc.Type == cluster.ExternalName || !ip.IsValid() {
			continue
		}
		isVIP := slices.Contains(snap.VIPsOf(svc), p.dst.Addr())
		guarded = guarded || isVIP || ip == p.dst.Addr()
		for _, port := range svc.Ports {
			internal := ip == p.dst.Addr() && port.Port == p.dst.Port()
			vip := isVIP && port.Port == p.dst.Port()
			nodePort := slices.Contains(node.InternalIPs, p.dst.Addr()) && port.NodePort == p.dst.Port() && port.NodePort != 0 && svc.HasNodePorts()
			if port.Protocol != p.protocol || !internal && !vip && !nodePort {
				continue
			}
			eps := snap.EligibleEndpoints(svc, port, f, node)
			switch {
			case !eps.Any:
				return refused
			case vip && !allowed(svc, f, p.src):
				return dropped
			}
			list, masq := eps.Cluster, true
			switch {
			case internal:
				masq = !fromPod
				if svc.InternalLocal {
					list = eps.Local
				}
			case svc.ExternalLocal && fromPod:
				masq = false
			case svc.ExternalLocal && !fromNode:
				list, masq = eps.Local, false
			}
			if len(list) == 0 {
				return dropped
			}
			var out []fate
			for _, ep := range list {
				out = append(out, fate{"accept", ep, (masq || ep.Addr() == p.src) && ep.Addr() != node.InternalIPs[0]})
			}
			return out
		}
	}
	if guarded {
		return refused
	}
	if slices.ContainsFunc(snap.ServiceCIDRs, func(c netip.Prefix) bool { return c.Contains(p.dst.Addr()) }) {
		return dropped
	}
	return []fate{{verdict: "accept", to: p.dst}}
}

// allowed reports whether the Service's source ranges let an address use its VIPs.
func allowed(svc *cluster.Service, f cluster.Family, src netip.Addr) bool {
	limited := false
	for _, r := range svc.SourceRanges {
		if r.Bits() == 0 || r.Contains(src) {
			return true
		}
		limited = limited || cluster.FamilyOf(r.Addr()) == f
	}
	return !limited
}

// TestBuilderIncremental: a Builder that has seen other Snapshots builds what a new one does, and neither it nor Diff
// changes what was built before.
func TestBuilderIncremental(t *testing.T) {
	w := seed(t)
	for range 50 {
		snap := w.snapshot()
		b := ruleset.NewBuilder(cfg1)
		have, _ := b.Build(snap)
		for range 20 {
			before := have.String()
			snap = w.step(snap)
			want, problems := b.Build(snap)
			fresh, freshProblems := ruleset.Build(snap, cfg1)
			if want.String() != fresh.String() {
				t.Fatalf("incremental:\n%s\nanew:\n%s", want.String(), fresh.String())
			}
			if !slices.Equal(problems, freshProblems) {
				t.Fatalf("incremental: %v\nanew: %v", problems, freshProblems)
			}
			for i := range want.Tables() {
				c := ruleset.Diff(have.Tables()[i], want.Tables()[i])
				checkChanges(t, have.Tables()[i].Elements(), want.Tables()[i], c)
				c = ruleset.Adopt(have.Tables()[i].Elements(), want.Tables()[i])
				checkChanges(t, have.Tables()[i].Elements(), want.Tables()[i], c)
			}
			if have.String() != before {
				t.Fatal("a Build has changed the Ruleset of the one before")
			}
			have = want
		}
	}
}

// checkChanges makes changes as the kernel would: it refuses to delete what is not there and to add what is there with
// another value.
func checkChanges(t *testing.T, have []ruleset.Element, want *ruleset.Table, c ruleset.Changes) {
	t.Helper()
	kernel := map[ruleset.Element]string{}
	id := func(e ruleset.Element) ruleset.Element { return ruleset.Element{Set: e.Set, Key: e.Key, End: e.End} }
	for _, e := range have {
		kernel[id(e)] = e.Value
	}
	deltas := append(slices.Collect(maps.Values(c.Services)), c.Shared)
	for _, d := range deltas {
		for _, e := range d.Del {
			if _, ok := kernel[id(e)]; !ok {
				t.Fatalf("deletes %q from %s, which is not there", e.Key, e.Set)
			}
			delete(kernel, id(e))
		}
	}
	for _, d := range deltas {
		for _, e := range d.Add {
			if _, ok := kernel[id(e)]; ok {
				t.Fatalf("adds %q to %s, which is there", e.Key, e.Set)
			}
			kernel[id(e)] = e.Value
		}
	}
	for _, e := range want.Elements() {
		if v, ok := kernel[id(e)]; !ok || v != e.Value {
			t.Fatalf("%s lacks %q, or has another value", e.Set, e.Key)
		}
		delete(kernel, id(e))
	}
	if len(kernel) > 0 {
		t.Fatalf("%d elements are left", len(kernel))
	}
}
