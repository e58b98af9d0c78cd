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
	return n.m.Leases().MayAnswer(vip, n.clock()) || n.let[vip] > n.w.now
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
		w.served[v] = max(w.served[v], w.now, n.real(n.m.Leases().Until(vip)))
		for i, other := range w.nodes {
			if other == n || !other.answers(vip) || n.policy == Serve && !w.acquainted(n.index, i) {
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
// members, the processes on one side have never heard of the members that the other side goes by, and neither side hears
// the other. New nodes came, or all old ones restarted, while those who stayed neither heard of it from the API nor hear
// them on the segment.
func (w *world) strangers(a, b *node) bool {
	if a.m.elect.current.Hash == b.m.elect.current.Hash {
		return false
	}
	sides := [2][]*node{w.company(a), w.company(b)}
	for _, x := range sides[0] {
		for _, y := range sides[1] {
			if x == y || x.m.hears(y.m.self) || y.m.hears(x.m.self) {
				return false
			}
		}
	}
	never := func(side []*node, hash uint64) bool {
		return !slices.ContainsFunc(side, func(n *node) bool { return n.knew[hash] })
	}
	return never(sides[0], b.m.elect.current.Hash) || never(sides[1], a.m.elect.current.Hash)
}

// company is a node and those that it hears.
func (w *world) company(a *node) []*node {
	out := []*node{a}
	for _, n := range w.nodes {
		if n.m != nil && n != a && a.m.hears(n.m.self) {
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

// acquainted says whether two nodes have heard each other for so long that each knows what the other claims.
func (w *world) acquainted(a, b int) bool {
	since := max(w.since[a][b], w.since[b][a], w.nodes[a].since, w.nodes[b].since)
	return !w.cut[a][b] && !w.cut[b][a] && w.now-since > int64(DefaultInterval+5*time.Millisecond)
}

func (w *world) checkServed() {}
