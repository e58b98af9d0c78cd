package liveness

import (
	"slices"
	"testing"
	"time"
)

// serving has any faults happen to nodes with the policy Serve: more often than others, the segment falls apart.
func serving(seed uint64, log func(string, ...any)) *world {
	w := newWorld(seed, 2+int(seed%5), 2, Serve)
	if log != nil {
		w.log = log
	}
	r := w.rand
	w.loss = []float64{0, 0.01, 0.05}[r.IntN(3)]
	w.disorder = r.IntN(2) == 0
	if r.IntN(2) == 0 {
		w.lag = time.Duration(1+r.IntN(20)) * time.Millisecond
	}
	for _, n := range w.nodes {
		n.rate = []float64{1, 1, 0.99, 1.01}[r.IntN(4)]
		n.members = w.all()
		w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
	}
	// Both may begin before they have heard what the other claims, after a heal or while they do not see the same nodes alive.
	w.meet = 300 * time.Millisecond
	w.log("%d nodes, loss %v, disorder %v, decisions take %v", len(w.nodes), w.loss, w.disorder, w.lag)
	end := time.Duration(1500+r.IntN(2500)) * time.Millisecond
	if seed%longSeeds == 0 { // the parts go their own ways for long
		lasts := time.Duration(1000+r.IntN(20000)) * time.Millisecond
		w.at(int64(end), w.partition(lasts))
		end += lasts + time.Second
	}
	for range 1 + r.IntN(4) {
		kind := 1 + r.IntN(faults-1)
		if r.IntN(2) == 0 {
			kind = partition
		}
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), w.fault(kind))
	}
	w.run(end)
	w.heal()
	return w
}

// checkPairs finds nodes that answer for one address although they hear each other.
func (w *world) checkPairs() {
	if w.both == nil {
		w.both = map[[3]int]int64{}
	}
	for v, vip := range w.vips {
		owners := w.owners(vip)
		for a, n := range w.nodes {
			for b := range w.nodes[:a] {
				key := [3]int{v, a, b}
				if !slices.Contains(owners, a) || !slices.Contains(owners, b) || w.cut[a][b] || w.cut[b][a] {
					delete(w.both, key)
					continue
				}
				if w.both[key] == 0 {
					w.both[key] = w.now
				}
				if d := w.now - w.both[key]; d > int64(w.meet) {
					w.violate("%s and %s have both answered for %s for %v", w.nodes[b].name, n.name, vip, time.Duration(d))
					return
				}
			}
		}
	}
}

// checkParts finds parts of a segment without an owner. A part is nodes that hear each other, all of them, and nobody else.
func (w *world) checkParts(bound int64) {
	for _, first := range w.nodes {
		part, since, ok := w.partOf(first)
		if !ok {
			continue
		}
		for v, vip := range w.vips {
			at, wanted := since, true
			for _, n := range w.nodes {
				if w.connected(first.index, n.index) { // also one that has just crashed
					at = max(at, n.served[v])
				}
			}
			for _, n := range part {
				wanted = wanted && (n.fixed == nil || slices.Contains(n.fixed, vip))
			}
			if wanted && w.now-at > bound {
				w.starved = true
				w.violate("nobody in the part of %s has answered for %s for %v", first.name, vip, time.Duration(w.now-at))
				return
			}
		}
	}
}

// partOf returns the part that a node is in, and since when there has been one.
func (w *world) partOf(first *node) (part []*node, since int64, ok bool) {
	since = w.lossSince
	for _, n := range w.nodes {
		if n.m != nil && !n.paused && w.connected(first.index, n.index) {
			part = append(part, n)
		}
	}
	if len(part) == 0 || part[0] != first {
		return nil, 0, false
	}
	for _, n := range part {
		since = max(since, n.since)
		for i := range w.nodes {
			if i != n.index && slices.Contains(part, w.nodes[i]) && (w.cut[i][n.index] || w.cut[n.index][i]) {
				return nil, 0, false
			}
			since = max(since, w.since[i][n.index], w.since[n.index][i])
		}
	}
	return part, since, true
}

// TestServeChaos: of nodes that hear each other one at most answers, soon after they do; and where the segment has fallen apart, one
// does in each part.
func TestServeChaos(t *testing.T) { simulate(t, *simSeeds/5, serving) }

// With the policy Serve each part of a segment is served, and one owner is left soon after it has healed.
func TestServe(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		w := launch(t, seed, 3+int(seed%4), 4, Serve)
		w.meet = DefaultInterval + 5*time.Millisecond
		w.run(time.Second)
		w.mustHold(t, "before")
		side := make([]bool, len(w.nodes))
		for i := range side {
			side[i] = w.rand.IntN(2) == 0
		}
		side[0], side[1] = true, false
		w.split(side, true)
		w.run(1800 * time.Millisecond)
		w.mustServe(t, seed, side)
		w.split(side, false)
		w.run(2800 * time.Millisecond)
		w.mustHold(t, "healed")
	}
}

// mustServe: each address has one owner in each part.
func (w *world) mustServe(t *testing.T, seed uint64, side []bool) {
	t.Helper()
	for _, v := range w.violations {
		t.Fatalf("seed %d: %s", seed, v)
	}
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
			t.Fatalf("seed %d: %s has %v owners in the parts %v", seed, vip, parts, side)
		}
	}
}

// In a part without a majority the owner stops for a while. When it is back, two claim what it had, and one of them gives up.
func TestServeAfterPause(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		w := launch(t, seed, 5, 4, Serve)
		w.meet = DefaultInterval + 5*time.Millisecond
		side := []bool{true, true, false, false, false}
		w.run(time.Second)
		w.mustHold(t, "before")
		w.split(side, true)
		w.run(2 * time.Second)
		w.mustServe(t, seed, side)
		w.nodes[seed%2].pause(400 * time.Millisecond)
		w.run(3400 * time.Millisecond)
		w.mustServe(t, seed, side)
	}
}

// However long a segment was in parts: when nodes hear each other again, they tell each other at once what they claim.
func TestServeHealsAfterLong(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		w := launch(t, seed, 3, 2, Serve)
		w.meet = 3 * DefaultInterval
		w.lag = 20 * time.Millisecond // what is alive for a moment only decides nothing
		side := []bool{true, false, false}
		w.run(time.Second)
		w.mustHold(t, "before")
		w.split(side, true)
		w.run(20*time.Second + time.Duration(w.rand.IntN(8000))*time.Millisecond)
		w.mustServe(t, seed, side)
		for _, other := range []int{1, 2} { // one way first
			w.cutOff(0, other, false)
		}
		w.run(time.Duration(w.now) + 5*time.Second + time.Duration(w.rand.IntN(1000))*time.Millisecond)
		w.split(side, false)
		w.run(time.Duration(w.now) + time.Second)
		w.mustHold(t, "healed")
	}
}
