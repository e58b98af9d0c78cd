package liveness

import (
	"net/netip"
	"slices"
	"time"
)

// answers says whether the node's reply path would answer at this moment.
func (n *node) answers(vip netip.Addr) bool {
	if n.m == nil || n.paused {
		return false
	}
	if n.w.mutant.noDeadline {
		// It trusts what the core thought when it ran last.
		o := n.m.own[AddressOf(vip)]
		return o != nil && o.held
	}
	return n.m.Leases().MayAnswer(vip, n.clock) || n.let[vip] > n.w.now
}

// owners are the indices of the nodes that answer.
func (w *world) owners(vip netip.Addr) []int {
	var out []int
	for i, n := range w.nodes {
		if n.answers(vip) {
			out = append(out, i)
		}
	}
	return out
}

// touch notes that the node's state may change in this event: only such a node can begin to answer.
func (w *world) touch(n *node) {
	if !slices.Contains(w.touched, n) {
		w.touched = append(w.touched, n)
	}
}

// cutOff has nothing get through from one node to another, or something again.
func (w *world) cutOff(from, to int, cut bool) {
	if from != to && w.cut[from][to] != cut {
		w.cut[from][to], w.since[from][to], w.stirred = cut, w.now, true
	}
}

// join ends all cuts.
func (w *world) join() {
	for a := range w.cut {
		for b := range w.cut {
			w.cutOff(a, b, false)
		}
	}
}

// check is called after each event: at most one node answers for an address, and one does if it can.
func (w *world) check() {
	nodes := w.touched
	if w.stirred {
		nodes = w.nodes
	}
	for _, n := range nodes {
		w.checkNode(n)
		if len(w.violations) > 0 {
			return
		}
	}
	w.touched, w.stirred = w.touched[:0], false
	w.checkServed()
}

func (w *world) checkNode(n *node) {
	if n.m == nil || n.paused {
		return
	}
	if n.m.view != nil && !n.m.changed && n.m.view.Majority != n.m.base.held {
		w.violate("%s does not know that it has a majority, or that it has none", n.name)
		return
	}
	if len(n.wanted) == 0 && len(n.let) == 0 {
		return
	}
	for v, vip := range w.vips {
		if !n.answers(vip) {
			continue
		}
		w.note(uint64(n.index)<<8 | uint64(v))
		n.served[v] = max(w.now, n.real(n.m.Leases().Until(vip)))
		w.served[v] = max(w.served[v], n.served[v])
		for i, other := range w.nodes {
			if other == n || !other.answers(vip) || n.policy == Serve {
				continue
			}
			if w.strangers(n, other) {
				w.gaps++
				continue
			}
			w.violate("%s and %s both answer for %s", w.nodes[min(n.index, i)].name, w.nodes[max(n.index, i)].name, vip)
			return
		}
	}
}

// note makes something part of the trace.
func (w *world) note(x uint64) { w.trace = mix(w.trace ^ x) }

// strangers says whether two owners are in the one situation that the protocol does not cover: they go by different
// members, the processes on one side have never heard of the members that the other side goes by, and no node of one side and one
// of the other have been able to hear each other for as long as it takes to learn that. New nodes came, or all old ones restarted,
// while those who stayed neither heard of it from the API nor hear them on the segment.
func (w *world) strangers(a, b *node) bool {
	if a.m.elect.current.Hash == b.m.elect.current.Hash {
		return false
	}
	sides := [2][]*node{w.company(a), w.company(b)}
	for _, x := range sides[0] {
		for _, y := range sides[1] {
			if x == y || w.acquainted(x.index, y.index, strangersMeet) {
				return false
			}
		}
	}
	never := func(side []*node, hash uint64) bool {
		return !slices.ContainsFunc(side, func(n *node) bool { return n.knew[hash] })
	}
	return never(sides[0], b.m.elect.current.Hash) || never(sides[1], a.m.elect.current.Hash)
}

// strangersMeet is how long it takes nodes that do not know each other to learn what the other goes by, where a frame in twenty is
// lost and some are late by more than an interval: each must prove to the other that it is no recording.
const strangersMeet = 300 * time.Millisecond

// company is a node and those that it hears and has had time to meet.
func (w *world) company(a *node) []*node {
	out := []*node{a}
	for _, n := range w.nodes {
		if n.m != nil && n != a && a.m.hears(n.m.self) && w.acquainted(a.index, n.index, strangersMeet) {
			out = append(out, n)
		}
	}
	return out
}

// connected says whether there is any way from one node to the other, over nodes and in whatever direction, so that a
// client may hear both.
func (w *world) connected(a, b int) bool {
	seen := make([]bool, len(w.nodes))
	seen[a] = true
	for stack := []int{a}; len(stack) > 0; {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for y := range w.nodes {
			if !seen[y] && (!w.cut[x][y] || !w.cut[y][x]) {
				seen[y] = true
				stack = append(stack, y)
			}
		}
	}
	return seen[b]
}

// acquainted says whether two nodes have been able to hear each other for so long.
func (w *world) acquainted(a, b int, wait time.Duration) bool {
	since := max(w.since[a][b], w.since[b][a], w.nodes[a].since, w.nodes[b].since)
	return !w.cut[a][b] && !w.cut[b][a] && w.now-since > int64(wait)
}

// bound is within which somebody must answer for an address, from when a majority of nodes hear each other undisturbed, or from
// when the last lease on the address ended:
//
//	2 × detection time   a process that began anew is heard when the one before is silent, and its claims, or those of a node
//	                     that is lost, are forgotten
//	+ quiet time         a fresh acceptor grants nothing
//	+ lease term         a holder that is heard and does not hear lets go of its claim when its lease has ended,
//	+ interval           and says so
//	+ 4 intervals        the patience of a claim that gets nowhere,
//	+ 6 intervals        its back-off after two failures in a row, at most
//	+ 1 s                until a node that is heard and does not hear says again what it let go of
//	+ 3 × lag            and what a node takes to decide
//
// with the slowest timing of any node, by a clock that is 1 % slow.
func (w *world) bound() int64 {
	var d time.Duration
	for _, n := range w.nodes {
		if c, err := n.complete(); err == nil {
			d = max(d, 2*c.detect()+c.Quiet+c.term()+11*c.Interval)
		}
	}
	return int64((d + time.Second + 3*w.lag) * 101 / 100)
}

// checkServed finds addresses that nobody answers for although somebody could.
func (w *world) checkServed() {
	if w.now < w.lookAt || w.loss > 0.05 || len(w.violations) > 0 {
		return
	}
	bound := w.bound()
	w.lookAt = w.now + int64(5*time.Millisecond)
	if w.nodes[0].policy == Serve {
		w.checkPairs()
		w.checkParts(bound)
		return
	}
	for v, vip := range w.vips {
		if w.now-w.served[v] <= bound {
			continue
		}
		since, ok := w.majoritySince(vip)
		if since = max(since, w.served[v], w.lossSince); ok && w.now-since > bound {
			w.starved = true
			w.violate("nobody has answered for %s for %v, although a majority has heard each other all that time", vip, time.Duration(w.now-since))
			return
		}
	}
}

// majoritySince is since when there have been enough acceptors that run and hear each other, if there are. Where a node does not
// want the address whatever the others do, which may be the one that they choose, nothing can be said.
func (w *world) majoritySince(vip netip.Addr) (int64, bool) {
	best, found := int64(0), false
	for _, n := range w.nodes {
		if n.m != nil && n.fixed != nil && !slices.Contains(n.fixed, vip) {
			return 0, false
		}
	}
	var grow func(set []*node, next int, since int64)
	grow = func(set []*node, next int, since int64) {
		if found && since >= best {
			return
		}
		if len(set) > 0 && len(set) >= set[0].m.elect.current.majority() {
			best, found = since, true
			return
		}
		for i := next; i < len(w.nodes); i++ {
			n := w.nodes[i]
			if n.m == nil || n.paused || n.m.selfSlot < 0 || !n.m.isMember() || len(n.m.elect.others) > 0 {
				continue
			}
			s, ok := max(since, n.since), true
			for _, o := range set {
				ok = ok && o.m.elect.current.Hash == n.m.elect.current.Hash && !w.cut[o.index][i] && !w.cut[i][o.index]
				s = max(s, w.since[o.index][i], w.since[i][o.index])
			}
			if ok {
				grow(append(slices.Clone(set), n), i+1, s)
			}
		}
	}
	grow(nil, 0, 0)
	return best, found
}
