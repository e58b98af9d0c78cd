package liveness

import (
	"testing"
	"time"
)

// Which of the faults leave hearing an equivalence: whoever hears the same, hears each other. Nothing else is asked of the
// network where there is a majority; a gateway's answer needs it.
func transitive(kind int) bool { return kind <= 4 || kind == partition }

// witnessed makes a world with two nodes or four, and a witness.
func witnessed(seed uint64, gateway, locked bool, kinds func(int) bool, minority bool) *world {
	w := newWorld(seed, []int{2, 2, 4}[seed%3], 2, Fence)
	r := w.rand
	members := w.all()
	for _, n := range w.nodes {
		n.rate = []float64{1, 0.99, 1.01}[r.IntN(3)]
		n.members = members
		n.config.Minority = minority
		w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
	}
	if gateway {
		w.gatewayAnswers(25 * time.Millisecond)
	}
	if locked {
		w.lock = &lock{term: 200 * time.Millisecond}
		w.renewLock(50 * time.Millisecond)
	}
	end := 2 * time.Second
	for range 1 + r.IntN(5) {
		kind := 1 + r.IntN(faults-1)
		if !kinds(kind) {
			continue
		}
		fault := w.fault(kind, end)
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), func() {
			fault()
			if kind == partition || kind > 4 {
				w.gatewaySide()
				w.after(900*time.Millisecond, func() {
					for i := range w.gateway {
						w.gateway[i] = true
						clear(w.cut[i])
					}
				})
			}
		})
	}
	w.run(end + time.Second)
	return w
}

// gatewaySide puts the gateway on the side of one node, if the network has sides now.
func (w *world) gatewaySide() {
	at := w.rand.IntN(len(w.nodes))
	for i := range w.nodes {
		w.gateway[i] = w.connected(at, i)
	}
}

// TestWitnesses shows what each witness is worth.
func TestWitnesses(t *testing.T) {
	any := func(int) bool { return true }
	seeds := 1500
	if testing.Short() {
		seeds = 100
	}
	for _, tt := range []struct {
		name          string
		gateway, lock bool
		minority      bool
		kinds         func(int) bool
		safe          bool
	}{
		{"no witness, any fault", false, false, false, any, true},
		{"lock, any fault", false, true, false, any, true},
		{"gateway, crashes, pauses and partitions", true, false, false, transitive, true},
		{"gateway, crashes, pauses and partitions, also for minorities", true, false, true, transitive, true},
		// The limit: two nodes that reach the gateway and not each other.
		{"gateway, links that fail one by one", true, false, false, any, false},
		{"lock that stands in for a majority, links that fail one by one", false, true, true, any, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			failed := explore(seeds, func(seed uint64) []string {
				return witnessed(seed, tt.gateway, tt.lock, tt.kinds, tt.minority).violations
			})
			t.Logf("%d of %d seeds have two owners at some moment", len(failed), seeds)
			switch {
			case tt.safe && len(failed) > 0:
				t.Errorf("seed %d: %v", failed[0].seed, failed[0].what)
			case !tt.safe && len(failed) == 0 && !testing.Short():
				t.Error("this is not known to be safe: if it has become so, say so in docs/decisions/quorum-leases.md")
			}
		})
	}
}

// The other of two nodes dies: with a witness the one that is left keeps what it has, and takes what the other had.
func TestTwoNodes(t *testing.T) {
	for _, tt := range []struct {
		name          string
		gateway, lock bool
		served        bool
	}{{"no witness", false, false, false}, {"gateway", true, false, true}, {"lock", false, true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			w := cluster(t, 4, 2, 6, Fence)
			if tt.gateway {
				w.gatewayAnswers(25 * time.Millisecond)
			}
			if tt.lock {
				w.lock = &lock{term: 300 * time.Millisecond}
				w.renewLock(50 * time.Millisecond)
			}
			w.run(time.Second)
			w.mustHold(t, "before")
			var kept []int
			for i, vip := range w.vips {
				if w.owners(vip)[0] == 0 {
					kept = append(kept, i)
				}
			}
			w.nodes[1].crash()
			lapses := 0
			for range 1000 {
				w.run(time.Duration(w.now) + time.Millisecond)
				for _, i := range kept {
					if len(w.owners(w.vips[i])) == 0 {
						lapses++
						break
					}
				}
			}
			if tt.gateway && lapses > 0 {
				t.Errorf("what the living node had lapsed for %d ms", lapses)
			}
			for _, vip := range w.vips {
				if got := len(w.owners(vip)) == 1; got != tt.served {
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
