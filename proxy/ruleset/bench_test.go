package ruleset_test

import (
	"fmt"
	"testing"

	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// BenchmarkBuild builds the tables for dual-stack Services with ten endpoints in each family: from nothing, and again
// with a Builder that has done so before.
func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		snap := Large(n, 10)
		b.Run(fmt.Sprintf("first/%d_Services", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ruleset.Build(snap, ruleset.Config{Node: "n1"})
			}
		})
		b.Run(fmt.Sprintf("again/%d_Services", n), func(b *testing.B) {
			b.ReportAllocs()
			builder := ruleset.NewBuilder(ruleset.Config{Node: "n1"})
			builder.Build(snap)
			for b.Loop() {
				builder.Build(snap)
			}
		})
	}
}
