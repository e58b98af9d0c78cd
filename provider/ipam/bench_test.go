package ipam

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/seamark-io/seamark/cluster"
)

// One address given back and taken again, with the pool filled to the given share before.
func BenchmarkAllocate(b *testing.B) {
	for _, bm := range []struct {
		name, pool string
		family     []cluster.Family
		held       int
	}{
		{"64k_empty", "10.0.0.0/16", only4, 0},
		{"64k_half", "10.0.0.0/16", only4, 1 << 15},
		{"64k_full", "10.0.0.0/16", only4, 1 << 16},
		{"IPv6_64_with_64k", "2001:db8::/64", only6, 1 << 16},
	} {
		b.Run(bm.name, func(b *testing.B) {
			x, last := filled(b, bm.pool, bm.family, bm.held)
			if bm.held == 1<<16 {
				x.Release(last)
			}
			me := Request{Service: service("me"), Families: bm.family}
			b.ReportAllocs()
			for b.Loop() {
				d := x.Decide(me)
				if len(d.Changes) != 1 {
					b.Fatal(d.Problem)
				}
				x.Set(d.Changes[0])
				x.Release(d.Changes[0].Addr)
			}
		})
	}
}

// A refusal must be as cheap as an allocation: all that wait ask again whenever an address frees.
func BenchmarkRefuse_64k_full(b *testing.B) {
	x, _ := filled(b, "10.0.0.0/16", only4, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		if d := x.Decide(Request{Service: service("me"), Families: only4}); d.Problem == nil {
			b.Fatal("not full")
		}
	}
}

// The whole index anew, as after a change of a pool.
func BenchmarkSetPools_64k_held(b *testing.B) {
	x, _ := filled(b, "10.0.0.0/16", only4, 1<<16)
	pools := untaken([]cluster.Pool{poolOf(b, "p", "10.0.0.0/16")})
	for b.Loop() {
		x.SetPools(pools, nil)
		x.Decide(Request{Service: service("me"), Families: only4})
	}
}

func filled(b *testing.B, pool string, family []cluster.Family, n int) (x *Index, last netip.Addr) {
	x = indexOf(poolOf(b, "p", pool))
	for i := range n {
		s := service(fmt.Sprint(i))
		d := x.Decide(Request{Service: s, Families: family})
		if d.Problem != nil {
			b.Fatal(d.Problem)
		}
		last = d.Changes[0].Addr
		x.Set(d.Changes[0])
	}
	return x, last
}
