package speaker

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
	"github.com/seamark-io/seamark/speaker/segments"
)

// crowd is node n1 of three, with 10,000 Services, each with a VIP that n1 holds a third of, or with no endpoints.
func crowd(endpoints bool) (*cluster.Snapshot, plan.Facts, map[netip.Addr]segments.Grant) {
	subnet, link := netip.MustParsePrefix("10.79.0.0/16"), plan.Link{Index: 2, Name: "eth0", MAC: plan.MAC{2}, Ups: 1}
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{}, Slices: map[cluster.Name][]*cluster.Slice{}, Nodes: map[string]*cluster.Node{},
		Pools: map[string]*cluster.Pool{"pool": {
			Name: "pool", ARP: &cluster.ARPAnnounce{}, Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.79.1.0-10.79.255.0")},
		}},
		VIPs: map[netip.Addr]*cluster.VIP{}, Heartbeat: &cluster.HeartbeatKeys{Send: bytes.Repeat([]byte("k"), 32)},
	}
	seg := plan.Segment{Members: map[string]plan.Member{}, Holders: map[netip.Addr]string{}}
	for i := range 3 {
		n := fmt.Sprintf("n%d", i+1)
		s.Nodes[n] = &cluster.Node{Name: n, Ready: true, InternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 79, 0, byte(i + 1)})}}
		seg.Members[n] = plan.Member{Alive: true, Interface: "eth0"}
	}
	grants := map[netip.Addr]segments.Grant{}
	a := netip.MustParseAddr("10.79.1.0")
	for i := range 10000 {
		name := cluster.Name{Namespace: "default", Name: fmt.Sprintf("svc%d", i)}
		s.Services[name] = &cluster.Service{Name: name, UID: name.Name, Type: cluster.LoadBalancer, IngressIPs: []netip.Addr{a}}
		if endpoints {
			s.Slices[name] = []*cluster.Slice{{Service: name, Family: cluster.IPv4, Endpoints: []cluster.Endpoint{{Addr: netip.MustParseAddr("10.244.0.1"), Node: "n1", Ready: true}}}}
		}
		s.VIPs[a] = &cluster.VIP{Address: a, Pool: "pool", Services: []cluster.Name{name}}
		seg.Holders[a] = fmt.Sprintf("n%d", i%3+1)
		if i%3 == 0 {
			grants[a] = segments.Grant{Held: true}
		}
		a = a.Next()
	}
	return s, plan.Facts{
		Node:       "n1",
		Interfaces: []plan.Interface{{Link: link, Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.79.0.1/16")}}},
		Segments:   map[netip.Prefix]plan.Segment{subnet: seg},
		Now:        time.Now(),
	}, grants
}

// What a run of the loop and a round of the reporter cost where nothing has changed for these VIPs.
func BenchmarkLoop_10000_VIPs(b *testing.B) {
	for name, endpoints := range map[string]bool{"announced": true, "no_endpoints": false} {
		snap, facts, grants := crowd(endpoints)
		p := plan.Build(snap, facts)
		o := observe("n1", snap, p, made{grants: grants})
		b.Run(name+"/plan", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plan.Build(snap, facts)
			}
		})
		b.Run(name+"/plan_of_the_same_snapshot", func(b *testing.B) {
			uses := plan.UsesOf(snap)
			b.ReportAllocs()
			for b.Loop() {
				uses.Build(facts)
			}
		})
		b.Run(name+"/observe", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				observe("n1", snap, p, made{grants: grants})
			}
		})
		b.Run(name+"/report", func(b *testing.B) {
			r := newReporter(Config{Node: "n1", Seamark: (&fakeAPI{}).client(), Log: slog.New(slog.DiscardHandler)})
			for changed := 1; changed > 0; {
				if _, err := r.write(b.Context(), o); err != nil {
					b.Fatal(err)
				}
				out, _ := r.changedVIPs(o, time.Now())
				changed = len(out)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.write(b.Context(), o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
