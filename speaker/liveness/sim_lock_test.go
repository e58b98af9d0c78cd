package liveness

import (
	"testing"
	"time"
)

// halves has any faults happen to two nodes or four, with a lock or without.
func halves(seed uint64, locked bool) *world {
	w := newWorld(seed, []int{2, 2, 4}[seed%3], 2, Fence)
	r := w.rand
	members := w.all()
	for _, n := range w.nodes {
		n.rate = []float64{1, 0.99, 1.01}[r.IntN(3)]
		n.members = members
		w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
	}
	if locked {
		w.lock = &lock{term: 200 * time.Millisecond}
		w.renewLock(50 * time.Millisecond)
	}
	end := 2 * time.Second
	for range 1 + r.IntN(5) {
		kind := 1 + r.IntN(faults-1)
		fault := w.fault(kind, end)
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), func() {
			fault()
			if kind == partition || kind > 4 {
				w.after(900*time.Millisecond, func() {
					for i := range w.cut {
						clear(w.cut[i])
					}
				})
			}
		})
	}
	w.run(end + time.Second)
	return w
}

// An even number of nodes, with a lock and without: no fault makes two of them answer.
func TestLock(t *testing.T) {
	seeds := 3000
	if testing.Short() {
		seeds = 200
	}
	for name, locked := range map[string]bool{"no lock": false, "lock": true} {
		t.Run(name, func(t *testing.T) {
			failed := explore(seeds, func(seed uint64) []string { return halves(seed, locked).violations })
			if len(failed) > 0 {
				t.Errorf("%d of %d seeds have two owners at some moment, such as seed %d: %v", len(failed), seeds, failed[0].seed, failed[0].what)
			}
		})
	}
}

// The other of two nodes dies: with a lock the one that is left keeps what it has, and takes what the other had.
func TestTwoNodes(t *testing.T) {
	for _, tt := range []struct {
		name string
		lock bool
	}{{"no lock", false}, {"lock", true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := cluster(t, 4, 2, 6, Fence)
			if tt.lock {
				w.lock = &lock{term: 300 * time.Millisecond}
				w.renewLock(50 * time.Millisecond)
			}
			w.run(time.Second)
			w.mustHold(t, "before")
			w.nodes[1].crash()
			w.run(time.Duration(w.now) + time.Second)
			for _, vip := range w.vips {
				if got := len(w.owners(vip)) == 1; got != tt.lock {
					t.Errorf("%s is served: %v", vip, got)
				}
			}
			if len(w.violations) > 0 {
				t.Error(w.violations)
			}
			w.nodes[1].start()
			w.run(time.Duration(w.now) + time.Second)
			w.mustHold(t, "both again")
		})
	}
}

// With the policy Serve each part of a segment is served, and one owner is left soon after it has healed.
func TestServe(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		w := cluster(t, seed, 3+int(seed%4), 4, Serve)
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
		w.calm = w.now + int64(DefaultInterval+5*time.Millisecond)
		w.run(2800 * time.Millisecond)
		w.mustHold(t, "healed")
	}
}
