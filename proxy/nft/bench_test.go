package nft

import (
	"fmt"
	"testing"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// newDriver returns a driver in an own network namespace.
func newDriver(t testing.TB) (*Driver, *nstest.Host) {
	t.Helper()
	h := nstest.New(t)
	return driverIn(t, h), h
}

func driverIn(t testing.TB, h *nstest.Host) *Driver {
	t.Helper()
	var d *Driver
	var err error
	h.Do(func() { d, err = New() })
	if err != nil {
		t.Fatal(err)
	}
	d.rested = 0
	t.Cleanup(func() { d.Close() })
	return d
}

func set(t testing.TB, d *Driver, rs ruleset.Ruleset) {
	t.Helper()
	if err := d.Set(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
}

var sizes = []int{100, 1_000, 10_000}

// BenchmarkSet fills empty tables with Services of ten endpoints in each family.
func BenchmarkSet(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%d_Services", n), func(b *testing.B) {
			rs, _ := ruleset.Build(Large(n, 10), ruleset.Config{Node: "n1"})
			d, _ := newDriver(b)
			for b.Loop() {
				b.StopTimer()
				if err := d.Cleanup(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				set(b, d, rs)
			}
		})
	}
}

// BenchmarkRestart takes over what an earlier driver has left, with nothing to change.
func BenchmarkRestart(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%d_Services", n), func(b *testing.B) {
			rs, _ := ruleset.Build(Large(n, 10), ruleset.Config{Node: "n1"})
			d, h := newDriver(b)
			set(b, d, rs)
			for b.Loop() {
				b.StopTimer()
				d := driverIn(b, h)
				b.StartTimer()
				set(b, d, rs)
			}
		})
	}
}

// BenchmarkChange changes the address of one endpoint (ten to ten) or the number of endpoints (ten to nine) of one
// Service, from the Snapshot to the kernel.
func BenchmarkChange(b *testing.B) {
	for _, n := range sizes {
		for _, c := range []struct {
			name string
			next func(i int) *cluster.Slice
		}{
			{"address", func(i int) *cluster.Slice {
				s := LargeSlice(Name("svc-00005"), cluster.IPv4, 5, 10)
				s.Endpoints[3].Addr = [2]cluster.Endpoint(LargeSlice(Name("svc-00005"), cluster.IPv4, 6, 2).Endpoints)[i%2].Addr
				return s
			}},
			{"count", func(i int) *cluster.Slice { return LargeSlice(Name("svc-00005"), cluster.IPv4, 5, 10-i%2) }},
		} {
			b.Run(fmt.Sprintf("%s/%d_Services", c.name, n), func(b *testing.B) {
				snap := Large(n, 10)
				builder := ruleset.NewBuilder(ruleset.Config{Node: "n1"})
				rs, _ := builder.Build(snap)
				d, _ := newDriver(b)
				set(b, d, rs)
				var states [2]*cluster.Snapshot
				for i := range states {
					states[i] = Clone(snap)
					states[i].Slices[Name("svc-00005")] = []*cluster.Slice{c.next(i), snap.Slices[Name("svc-00005")][1]}
				}
				i := 0
				for b.Loop() {
					rs, _ := builder.Build(states[i%2])
					set(b, d, rs)
					i++
				}
			})
		}
	}
}
