package liveness

import (
	"testing"
	"time"
)

// large has faults happen to a segment with more nodes than are acceptors. It is the same protocol with fewer acceptors, so that most
// nodes hear of each other by these alone; with so many nodes a seed takes as long as fifty of the small ones.
func large(seed uint64, log func(string, ...any)) *world {
	w := newWorld(seed, MaxAcceptors+1+int(seed%8), 4, Fence)
	if log != nil {
		w.log = log
	}
	r := w.rand
	w.loss = []float64{0, 0.01, 0.05}[r.IntN(3)]
	w.disorder = r.IntN(2) == 0
	w.lag = time.Duration(10+r.IntN(20)) * time.Millisecond
	for _, n := range w.nodes {
		n.rate = []float64{1, 1, 0.99, 1.01}[r.IntN(4)]
		n.members = w.all()
		w.after(time.Duration(r.IntN(50))*time.Millisecond, n.start)
	}
	w.run(300 * time.Millisecond)
	end := time.Duration(600+r.IntN(400)) * time.Millisecond
	for range 2 + r.IntN(5) {
		n := w.nodes[r.IntN(len(w.nodes))]
		if r.IntN(2) == 0 { // rather one that matters: an acceptor, or an owner
			for _, o := range w.nodes {
				if o.m != nil && (o.m.selfSlot >= 0 || len(o.wanted) > 0) && r.IntN(8) == 0 {
					n = o
				}
			}
		}
		w.at(int64(300*time.Millisecond)+r.Int64N(int64(end-300*time.Millisecond)), w.faultOf(n, 1+r.IntN(faults-1)))
	}
	w.run(end)
	w.heal()
	return w
}

// TestLargeChaos: nor do two nodes answer where few of them are acceptors, and one does.
func TestLargeChaos(t *testing.T) { simulate(t, *simSeeds*3/100, large) }
