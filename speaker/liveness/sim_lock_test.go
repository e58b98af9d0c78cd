package liveness

import (
	"testing"
	"time"
)

// lock is the Lease object by which one of two halves goes on, as the API server has it.
type lock struct {
	holder  string
	version int
	term    time.Duration
	// out is until when each node does not reach the API.
	out []int64
}

// client is what a process knows of the lock: speaker.locks and segments.Driver.guard, with the times of this one.
type client struct {
	// seen is the version that was read last, at the time at which it was read first.
	seen int
	at   Time
	// locked: the node may have the lock. asking: a request is on its way.
	locked, asking bool
}

func (w *world) newLock(term time.Duration) {
	w.lock = &lock{term: term, out: make([]int64, len(w.nodes))}
}

// outage keeps a node, or all, from reaching the API for a while.
func (w *world) outage(node int, lasts time.Duration) {
	w.log("%v no API for %d (-1: all) for %v", time.Duration(w.now), node, lasts)
	for i := range w.lock.out {
		if i == node || node < 0 {
			w.lock.out[i] = max(w.lock.out[i], w.now+int64(lasts))
		}
	}
}

// guard asks for the lock while half of the acceptors are heard, and gives it up afterwards.
func (n *node) guard() {
	l, c := n.w.lock, &n.client
	if l == nil || c.asking || !n.tie && !c.locked {
		return
	}
	c.asking = true
	if !n.tie { // first not to count on it, then to say so
		n.step()
		n.m.LockedUntil(n.clock(), Never)
	} else {
		c.locked = true
	}
	begun, unlock := n.clock(), !n.tie
	n.request(func() func() { // it is read
		holder, version := l.holder, l.version
		return func() {
			if c.seen != version {
				c.seen, c.at = version, n.clock()
			}
			if unlock && holder != n.name {
				c.locked = false
				n.again()
				return
			}
			if !unlock && holder != "" && holder != n.name && n.clock().Sub(c.at) <= l.term+l.term/50 {
				n.again()
				return
			}
			n.write(unlock, begun, version)
		}
	})
}

// write takes, renews or gives up the lock, unless another did so since it was read.
func (n *node) write(unlock bool, begun Time, version int) {
	l, c := n.w.lock, &n.client
	n.request(func() func() {
		ok := l.version == version
		if ok {
			l.version++
			l.holder = n.name
			if unlock {
				l.holder = ""
			}
		}
		return func() {
			switch {
			case !ok:
			case unlock:
				c.locked = false
			case n.clock().Sub(begun) < l.term/5:
				n.w.log("%v %s has the lock", time.Duration(n.w.now), n.name)
				n.step()
				n.m.LockedUntil(n.clock(), begun.Add(l.term-l.term/50))
				n.decide()
				n.turn()
			}
			n.again()
		}
	})
}

// request has something done at the API server, and what comes of it at the node when the answer arrives. In an outage either
// gets lost.
func (n *node) request(do func() func()) {
	w, life := n.w, n.lives
	way := func() time.Duration {
		if w.rand.IntN(10) == 0 {
			return time.Duration(w.rand.Int64N(int64(w.lock.term / 4)))
		}
		return time.Duration(200+w.rand.IntN(3000)) * time.Microsecond
	}
	w.after(way(), func() {
		if w.now < w.lock.out[n.index] {
			n.await(life, n.again)
			return
		}
		then := do()
		w.after(way(), func() {
			if w.now < w.lock.out[n.index] {
				then = n.again
			}
			n.await(life, then)
		})
	})
}

// await has the process do something when it runs.
func (n *node) await(life int, do func()) {
	switch {
	case n.lives != life || n.m == nil:
	case n.paused:
		n.w.after(time.Millisecond, func() { n.await(life, do) })
	default:
		do()
	}
}

// again looks again a while after a request has ended.
func (n *node) again() {
	life := n.lives
	n.w.after(n.w.lock.term*3/10, func() {
		n.await(life, func() {
			n.client.asking = false
			n.guard()
		})
	})
}

// halves has any faults happen to two nodes or four, with a lock or without. The API from which the lock is comes and goes.
func halves(seed uint64, locked bool, log func(string, ...any)) *world {
	w := newWorld(seed, []int{2, 2, 4}[seed%3], 2, Fence)
	if log != nil {
		w.log = log
	}
	r := w.rand
	members := w.all()
	for _, n := range w.nodes {
		n.rate = []float64{1, 0.99, 1.01}[r.IntN(3)]
		n.members = members
		w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
	}
	end := 2 * time.Second
	if locked {
		w.newLock(200 * time.Millisecond)
		for range r.IntN(4) {
			node, lasts := r.IntN(len(w.nodes)+1)-1, time.Duration(1+r.IntN(800))*time.Millisecond
			w.at(r.Int64N(int64(end)), func() { w.outage(node, lasts) })
		}
	}
	for range 1 + r.IntN(5) {
		kind := 1 + r.IntN(faults-1)
		fault := w.fault(kind)
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), func() {
			fault()
			if kind == partition || kind > 4 {
				w.after(900*time.Millisecond, w.join)
			}
		})
	}
	w.run(end + time.Second)
	return w
}

// An even number of nodes, with a lock and without: no fault makes two of them answer.
func TestLock(t *testing.T) {
	for name, locked := range map[string]bool{"no lock": false, "lock": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, *simSeeds*3/10, func(seed uint64, log func(string, ...any)) *world { return halves(seed, locked, log) })
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
			w := launch(t, 4, 2, 6, Fence)
			if tt.lock {
				w.newLock(300 * time.Millisecond)
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
