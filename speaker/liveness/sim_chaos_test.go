package liveness

import (
	"flag"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "replay this seed of the simulator, and say what happens")
	simSeeds = flag.Int("sim.seeds", 10000, "how many seeds the simulator runs")
)

// settleBound is within which an owner must exist after the last fault: the patience of a claim that gets nowhere, its
// back-off, and the quiet of a node that has just started.
const settleBound = 2 * time.Second

// longSeeds is of how many seeds one has pauses of up to longestPause.
const (
	longSeeds     = 8
	shortestPause = 200 * time.Millisecond
	longestPause  = 30 * time.Second
)

// scenario makes a world from a seed, with faults in it, and runs it.
func scenario(seed uint64, mutant mutant, log func(string, ...any)) *world {
	w := newWorld(seed, 0, 0, Fence)
	r := w.rand
	nodes, vips := []int{2, 3, 3, 3, 4, 5, 5, 7}[r.IntN(8)], 1+r.IntN(4)
	w = newWorld(r.Uint64(), nodes, vips, Fence)
	w.mutant = mutant
	if log != nil {
		w.log = log
	}
	r = w.rand
	w.loss = []float64{0, 0.01, 0.05, 0.2}[r.IntN(4)]
	w.disorder = r.IntN(2) == 0
	members := w.all()
	for _, n := range w.nodes {
		n.rate = []float64{1, 1, 0.99, 1.01}[r.IntN(4)]
		n.members = members
		if r.IntN(8) == 0 {
			n.config.Interval, n.config.Quiet = 100*time.Millisecond, 300*time.Millisecond
		} else {
			n.config.Quiet = 300 * time.Millisecond
		}
		w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
	}
	if r.IntN(2) == 0 {
		w.lag = time.Duration(1+r.IntN(20)) * time.Millisecond
	}
	w.log("%d nodes, %d addresses, loss %v, disorder %v, decisions take %v", nodes, vips, w.loss, w.disorder, w.lag)
	end := time.Duration(1000+r.IntN(1500)) * time.Millisecond
	if seed%longSeeds == 0 {
		end += w.longPauses()
	}
	for range 1 + r.IntN(6) {
		at := 400*time.Millisecond + time.Duration(r.Int64N(int64(end-400*time.Millisecond)))
		w.at(int64(at), w.fault(1+r.IntN(faults-1)))
	}
	w.run(end)
	w.heal()
	return w
}

// longPauses has some nodes stop for a long time, one after the other or at once, and returns when the last has woken up.
func (w *world) longPauses() time.Duration {
	var last time.Duration
	for range 1 + w.rand.IntN(3) {
		n := w.nodes[w.rand.IntN(len(w.nodes))]
		at := 400*time.Millisecond + time.Duration(w.rand.IntN(2000))*time.Millisecond
		lasts := time.Duration(float64(shortestPause) * math.Pow(float64(longestPause)/float64(shortestPause), w.rand.Float64()))
		w.at(int64(at), func() { n.pause(lasts) })
		last = max(last, at+lasts)
	}
	return last
}

// faults is the number of kinds of faults, from 1.
const faults = 11

// partition is one of them.
const partition = 8

// fault returns one of a kind that happens to some node.
func (w *world) fault(kind int) func() { return w.faultOf(w.nodes[w.rand.IntN(len(w.nodes))], kind) }

func (w *world) faultOf(n *node, kind int) func() {
	r := w.rand
	lasts := time.Duration(50+r.IntN(800)) * time.Millisecond
	return map[int]func(){
		1: func() { // crash, and restart after a while, perhaps at once
			n.crash()
			w.after(time.Duration(r.IntN(2))*lasts, func() {
				if n.m == nil {
					n.start()
				}
			})
		},
		2: func() { n.pause(lasts) },
		3: func() { n.pause(lasts / 4) },
		4: func() { n.pause(10 * lasts) },
		5: func() { // one way, one link
			to := w.nodes[r.IntN(len(w.nodes))]
			w.log("%v from %s to %s nothing gets through", time.Duration(w.now), n.name, to.name)
			w.cutOff(n.index, to.index, true)
		},
		6: func() { // one way, one node
			w.log("%v nobody hears %s", time.Duration(w.now), n.name)
			for i := range w.nodes {
				w.cutOff(n.index, i, true)
			}
		},
		7: func() {
			w.log("%v %s hears nobody", time.Duration(w.now), n.name)
			for i := range w.nodes {
				w.cutOff(i, n.index, true)
			}
		},
		partition: w.partition(lasts),
		9: func() { // links fail and come back at random, in one direction each
			w.log("%v links fail and come back", time.Duration(w.now))
			for range 2 * len(w.nodes) {
				a, b := r.IntN(len(w.nodes)), r.IntN(len(w.nodes))
				w.cutOff(a, b, !w.cut[a][b])
			}
		},
		10: func() { // the API is stale here: this node wants what others have, or nothing
			n.fixed = w.vips[:r.IntN(len(w.vips)+1)]
			if n.fixed == nil {
				n.fixed = w.vips[:0]
			}
			n.since = w.now
			w.log("%v %s wants %v, whatever the others do", time.Duration(w.now), n.name, n.fixed)
			if n.m != nil && !n.paused {
				n.m.changed = true
				n.turn()
			}
		},
	}[kind]
}

// partition returns a fault that parts the nodes in two for a while.
func (w *world) partition(lasts time.Duration) func() {
	return func() {
		side := make([]bool, len(w.nodes))
		for i := range side {
			side[i] = w.rand.IntN(2) == 0
		}
		w.log("%v partition %v", time.Duration(w.now), side)
		w.split(side, true)
		w.after(lasts, func() { w.log("%v healed", time.Duration(w.now)); w.split(side, false) })
	}
}

func (w *world) split(side []bool, cut bool) {
	for a := range w.nodes {
		for b := range w.nodes {
			if side[a] != side[b] {
				w.cutOff(a, b, cut)
			}
		}
	}
}

// heal ends all faults and waits for the bound; then each address must have its owner.
func (w *world) heal() {
	if len(w.violations) > 0 {
		return
	}
	w.log("%v everything is healed", time.Duration(w.now))
	w.loss, w.lossSince, w.disorder = 0, w.now, false
	w.join()
	for _, n := range w.nodes {
		n.fixed, n.stale, n.since = nil, false, w.now
		switch {
		case n.m == nil:
			n.start()
		case n.paused:
			n.thaw()
			n.turn()
		default:
			n.m.changed = true
			n.turn()
		}
	}
	w.run(time.Duration(w.now) + settleBound)
	if len(w.violations) > 0 {
		return
	}
	for _, vip := range w.vips {
		if o := w.owners(vip); len(o) != 1 {
			w.starved = true
			w.violations = append(w.violations, fmt.Sprintf("%v: %s is answered for by %v, %v after the last fault", time.Duration(w.now), vip, o, settleBound))
		}
	}
}

// TestChaos is the main test of safety: thousands of small disasters, in each of which at most one node answers for an
// address at any moment, wherever the nodes are, and one does whenever one can.
func TestChaos(t *testing.T) {
	simulate(t, *simSeeds, func(seed uint64, log func(string, ...any)) *world { return scenario(seed, mutant{}, log) })
}

// simulate runs a kind of scenario with so many seeds, or with the one to replay.
func simulate(t *testing.T, seeds int, run func(seed uint64, log func(string, ...any)) *world) {
	t.Helper()
	if *simSeed != 0 {
		for _, v := range run(*simSeed, t.Logf).violations {
			t.Error(v)
		}
		return
	}
	if testing.Short() {
		seeds /= 20
	}
	failed := explore(seeds, func(seed uint64) []string { return run(seed, nil).violations })
	for i, f := range failed {
		if i == 10 {
			t.Errorf("and %d more", len(failed)-i)
			break
		}
		t.Errorf("%s\nto see it: go test ./speaker/liveness -run '^%s$' -v -sim.seed %d", strings.Join(f.what, "\n"), t.Name(), f.seed)
	}
}

type failure struct {
	seed uint64
	what []string
}

// explore runs seeds from 1 on all processors, and returns those that fail, the lowest first.
func explore(seeds int, run func(seed uint64) []string) []failure {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are small, and soon gone
	var next atomic.Uint64
	var mu sync.Mutex
	var failed []failure
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1); seed <= uint64(seeds); seed = next.Add(1) {
				if what := run(seed); len(what) > 0 {
					mu.Lock()
					failed = append(failed, failure{seed, what})
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(failed, func(a, b failure) int { return int(a.seed) - int(b.seed) })
	return failed
}
