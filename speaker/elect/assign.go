package elect

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// Candidate is a node that may own an address.
type Candidate struct {
	Name string
	// Preference is higher for a node that should rather own it. Only the candidates with the highest preference count.
	Preference int32
}

// Item is an address to find an owner for.
type Item struct {
	Addr netip.Addr
	// Candidates in any order, without duplicates. Items that have the same candidates should share the slice: what is
	// worked out for it is worked out once.
	Candidates []Candidate
	// Holder is the node that has the address at present; empty: none.
	Holder string
}

// Assign returns the owner of each item, in the order of the items: one of its candidates, the empty string where it has
// none. Each address must occur once. The answer depends on the items as a set.
//
// A holder that is among the preferred candidates keeps its addresses up to its bound: five fourths, rounded up, of its
// fair share, which is what it would carry if each address were spread evenly over its preferred candidates. What it has
// above that, the addresses that rank it lowest, and what has no holder goes to the candidate that the address ranks
// highest (Owner) among those that are below their bound. So a candidate that goes moves its own addresses only, and one
// that comes gets what is above the bounds of the others.
//
// The bound always holds: where all candidates of an address are full, others make room, with as few moves as that takes.
//
// Bounded loads are those of Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads" (2016).
func Assign(items []Item) []string {
	a := newAssignment(items)
	a.keep()
	for _, i := range a.order {
		if a.owner[i] == none && len(a.candidates[i]) > 0 {
			a.place(i)
		}
	}
	out := make([]string, len(items))
	for i, n := range a.owner {
		if n != none {
			out[i] = a.names[n]
		}
	}
	return out
}

// none is the index of no node.
const none = -1

// assignment is the work of one Assign. Nodes and items are their indices.
type assignment struct {
	items []Item
	// order are the items by address.
	order []int
	names []string
	// seeds are the hashes of names.
	seeds []uint64
	// candidates of each item, those with the highest preference; holder is none where the holder is not among them.
	candidates [][]int32
	holder     []int32
	owner      []int32
	bound      []int
	load       []int
}

func newAssignment(items []Item) *assignment {
	a := &assignment{
		items: items, order: make([]int, len(items)),
		candidates: make([][]int32, len(items)), holder: make([]int32, len(items)), owner: make([]int32, len(items)),
	}
	lists := map[list][]string{}
	for i := range items {
		if key, ok := listOf(&items[i]); ok && lists[key] == nil {
			lists[key] = preferred(items[i].Candidates)
			a.names = append(a.names, lists[key]...)
		}
	}
	// By name, not by the order of the items: nothing may depend on that.
	slices.Sort(a.names)
	a.names = slices.Compact(a.names)
	index := make(map[string]int32, len(a.names))
	for n, name := range a.names {
		index[name] = int32(n)
		a.seeds = append(a.seeds, seed(name))
	}
	numbers := make(map[list][]int32, len(lists))
	for key, names := range lists {
		for _, name := range names {
			numbers[key] = append(numbers[key], index[name])
		}
	}
	share := make([]uint64, len(a.names))
	for i := range items {
		a.order[i], a.holder[i], a.owner[i] = i, none, none
		key, ok := listOf(&items[i])
		if !ok {
			continue
		}
		a.candidates[i] = numbers[key]
		for _, n := range a.candidates[i] {
			share[n] += one / uint64(len(a.candidates[i]))
		}
		if h, ok := index[items[i].Holder]; ok && slices.Contains(a.candidates[i], h) {
			a.holder[i] = h
		}
	}
	slices.SortFunc(a.order, func(x, y int) int { return items[x].Addr.Compare(items[y].Addr) })
	a.load, a.bound = make([]int, len(share)), make([]int, len(share))
	for n, s := range share {
		a.bound[n] = boundOf(s)
	}
	return a
}

// list identifies a slice of candidates.
type list struct {
	first *Candidate
	n     int
}

func listOf(i *Item) (list, bool) {
	if len(i.Candidates) == 0 {
		return list{}, false
	}
	return list{&i.Candidates[0], len(i.Candidates)}, true
}

// preferred returns the names of the candidates with the highest preference.
func preferred(in []Candidate) []string {
	highest := int32(math.MinInt32)
	for i := range in {
		highest = max(highest, in[i].Preference)
	}
	var out []string
	for i := range in {
		if in[i].Preference == highest {
			out = append(out, in[i].Name)
		}
	}
	return out
}

// Shares are added up as multiples of 2^-32, because sums of floating-point numbers depend on the order.
const (
	one = uint64(1) << 32
	// crumbs is what the rounding of each of a million shares can add up to.
	crumbs = uint64(1) << 20
)

// boundOf returns five fourths of a share, rounded up. That is never less than the share rounded up: with less there might
// be no way to place everything.
func boundOf(share uint64) int {
	x := share + share/4
	return max(1, int((x+one-1-min(crumbs, x))/one))
}

// keep leaves with each holder what it may keep.
func (a *assignment) keep() {
	held := make([][]int, len(a.names))
	for i, h := range a.holder {
		if h != none {
			held[h] = append(held[h], i)
		}
	}
	for n, items := range held {
		if len(items) > a.bound[n] {
			weights := make(map[int]uint64, len(items))
			for _, i := range items {
				weights[i] = a.weight(int32(n), i)
			}
			slices.SortFunc(items, func(x, y int) int {
				return cmp.Or(cmp.Compare(weights[y], weights[x]), a.items[x].Addr.Compare(a.items[y].Addr))
			})
			items = items[:a.bound[n]]
		}
		for _, i := range items {
			a.owner[i] = int32(n)
		}
		a.load[n] = len(items)
	}
}

// place gives the item to the candidate that it ranks highest among those that have room.
func (a *assignment) place(i int) {
	best, weight := int32(none), uint64(0)
	for _, n := range a.candidates[i] {
		if a.load[n] >= a.bound[n] {
			continue
		}
		if w := a.weight(n, i); best == none || w > weight || w == weight && a.names[n] < a.names[best] {
			best, weight = n, w
		}
	}
	if best == none {
		a.makeRoom(i)
		return
	}
	a.owner[i] = best
	a.load[best]++
}

func (a *assignment) weight(n int32, i int) uint64 {
	return weight(a.seeds[n], a.items[i].Addr.Unmap().As16())
}
