package bgp

import (
	"fmt"
	"testing"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// benchPlan has two peers that nobody answers for, and routes to both.
func benchPlan(n int, a *cluster.Attributes) plan.BGP {
	peers := []plan.Peer{peerOf("a", "192.0.2.1:179"), peerOf("b", "192.0.2.2:179")}
	w := wanted(peers)
	w.Routes = routesTo([]string{"a", "b"}, a, hostRoutes(n)...)
	return w
}

func BenchmarkSet_10000_Routes_new(b *testing.B) {
	w := benchPlan(10000, &cluster.Attributes{})
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		s := newQuietSpeaker(b)
		empty := w
		empty.Routes = nil
		if err := s.Set(b.Context(), empty); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := s.Set(b.Context(), w); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

// The attributes of all routes change.
func BenchmarkSet_10000_Routes_changed(b *testing.B) {
	plans := []plan.BGP{benchPlan(10000, &cluster.Attributes{}), benchPlan(10000, &cluster.Attributes{Prepend: 1})}
	benchSets(b, plans)
}

// One of many comes and goes, as with a Service.
func BenchmarkSet_10000_Routes_one(b *testing.B) {
	all := benchPlan(10000, &cluster.Attributes{})
	less := all
	less.Routes = all.Routes[1:]
	benchSets(b, []plan.BGP{all, less})
}

// Nothing changes.
func BenchmarkSet_10000_Routes_same(b *testing.B) {
	w := benchPlan(10000, &cluster.Attributes{})
	benchSets(b, []plan.BGP{w, w})
}

func benchSets(b *testing.B, plans []plan.BGP) {
	b.Helper()
	s := newQuietSpeaker(b)
	if err := s.Set(b.Context(), plans[0]); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if err := s.Set(b.Context(), plans[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

// The policy's text for a hundred pools with other attributes each, to two peers.
func BenchmarkSet_100_Attributes(b *testing.B) {
	plans := make([]plan.BGP, 2)
	for i := range plans {
		plans[i] = benchPlan(0, nil)
		for j := range 100 {
			a := &cluster.Attributes{Communities: []cluster.Community{cluster.Community(1000*i + j)}}
			plans[i].Routes = append(plans[i].Routes, routesTo([]string{"a", "b"}, a, fmt.Sprintf("198.18.0.%d/32", j))...)
		}
	}
	benchSets(b, plans)
}
