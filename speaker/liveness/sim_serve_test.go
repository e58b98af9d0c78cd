package liveness

import (
	"testing"
	"time"
)

// With the policy Serve each part of a segment is served, and one owner is left soon after it has healed.
func TestServe(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		w := launch(t, seed, 3+int(seed%4), 4, Serve)
		w.run(time.Second)
		w.mustHold(t, "before")
		side := make([]bool, len(w.nodes))
		for i := range side {
			side[i] = w.rand.IntN(2) == 0
		}
		side[0], side[1] = true, false
		w.split(side, true)
		w.run(1800 * time.Millisecond)
		for _, vip := range w.vips {
			var parts [2]int
			for _, o := range w.owners(vip) {
				if side[o] {
					parts[0]++
				} else {
					parts[1]++
				}
			}
			if parts != [2]int{1, 1} {
				t.Fatalf("seed %d: %s has %v owners in the parts %v; %v", seed, vip, parts, side, w.violations)
			}
		}
		w.split(side, false)
		w.run(2800 * time.Millisecond)
		w.mustHold(t, "healed")
	}
}
