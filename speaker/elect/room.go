package elect

import "math"

// step is a move of one item to another node, and what it costs: 1 when a holder loses the item, -1 when it gets it back.
type step struct {
	item int
	cost int
}

// makeRoom places an item of which all candidates are full: along the cheapest chain of moves that begins at one of them and
// ends at a node with room. There is one, because the bounds leave room for everything (the even spread, which has fractions,
// stays below them, and bipartite flows with whole capacities have whole solutions).
//
// Chains are rare: it takes sets of candidates that differ, and addresses whose ranking all but agrees. So they are looked
// for in the simplest way, Bellman and Ford's, over the graph of nodes.
func (a *assignment) makeRoom(i int) {
	steps := a.steps()
	const far = math.MaxInt / 2
	cost := make([]int, len(a.names))
	from := make([]int32, len(a.names))
	for n := range cost {
		cost[n], from[n] = far, none
	}
	for _, n := range a.candidates[i] {
		cost[n] = 0
	}
	for range a.names {
		changed := false
		for n := range steps {
			for m := range steps[n] {
				if s := steps[n][m]; s.item != none && cost[n] != far && cost[n]+s.cost < cost[m] {
					cost[m], from[m], changed = cost[n]+s.cost, int32(n), true
				}
			}
		}
		if !changed {
			break
		}
	}
	end := int32(none)
	for n := range a.names {
		if a.load[n] < a.bound[n] && cost[n] < far && (end == none || a.before(n, int(end), cost)) {
			end = int32(n)
		}
	}
	if end == none {
		return // cannot be: see above
	}
	a.load[end]++
	for n := end; ; n = from[n] {
		if from[n] == none {
			a.owner[i] = n
			return
		}
		a.owner[steps[from[n]][n].item] = n
	}
}

// before orders ends of chains: the cheaper, then by name.
func (a *assignment) before(n, m int, cost []int) bool {
	return cost[n] < cost[m] || cost[n] == cost[m] && a.names[n] < a.names[m]
}

// steps returns the cheapest move from each node to each other, of several the one of the lowest address.
func (a *assignment) steps() [][]step {
	out := make([][]step, len(a.names))
	for n := range out {
		out[n] = make([]step, len(a.names))
		for m := range out[n] {
			out[n][m].item = none
		}
	}
	for _, i := range a.order {
		n := a.owner[i]
		if n == none {
			continue
		}
		for _, m := range a.candidates[i] {
			if m == n {
				continue
			}
			cost := 0
			switch a.holder[i] {
			case n:
				cost = 1
			case m:
				cost = -1
			}
			if s := &out[n][m]; s.item == none || cost < s.cost {
				*s = step{i, cost}
			}
		}
	}
	return out
}
