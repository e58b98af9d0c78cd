package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Candidate is an IPPool as a person wrote it.
type Candidate struct {
	// Pool without Ranges.
	cluster.Pool
	// Addresses as in spec.addresses.
	Addresses []string
	// Problem with anything but the addresses; nil: none.
	Problem error
	// Created decides between pools that overlap: the older one stays.
	Created time.Time
}

// Verdict is what is wrong with a pool that must not be used.
type Verdict struct {
	// Overlap is true when the pool is fine by itself but shares addresses with another.
	Overlap bool
	// Message says what to change.
	Message string
}

// Judge sorts pools into those that can be used, ordered by name, and those that cannot, with the reason by name.
// A pool with a problem in its own addresses does not count against others. Of two that overlap the one created later
// (then the one whose name comes later) is refused; a refused pool does not count against the next.
func Judge(candidates []Candidate) (valid []cluster.Pool, refused map[string]Verdict) {
	refused = map[string]Verdict{}
	byAge := slices.Clone(candidates)
	slices.SortFunc(byAge, func(a, b Candidate) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	var taken []poolRange
	for _, c := range byAge {
		ranges, problems := cluster.ParseRanges(c.Addresses)
		if len(problems) == 0 && c.Problem != nil {
			problems = []error{c.Problem}
		}
		if len(problems) > 0 {
			refused[c.Name] = Verdict{Message: errors.Join(problems...).Error()}
			continue
		}
		if r, other, ok := firstOverlap(ranges, taken); ok {
			refused[c.Name] = Verdict{Overlap: true, Message: fmt.Sprintf(
				"%s overlaps %s of IPPool %s, which is older: take it out of one of the two", r, other.IPRange, other.pool)}
			continue
		}
		for _, r := range ranges {
			taken = append(taken, poolRange{r, c.Name})
		}
		pool := c.Pool
		pool.Ranges = ranges
		valid = append(valid, pool)
	}
	slices.SortFunc(valid, func(a, b cluster.Pool) int { return cmp.Compare(a.Name, b.Name) })
	return valid, refused
}

type poolRange struct {
	netipx.IPRange
	pool string
}

func firstOverlap(ranges []netipx.IPRange, taken []poolRange) (netipx.IPRange, poolRange, bool) {
	for _, r := range ranges {
		for _, t := range taken {
			if r.Overlaps(t.IPRange) {
				return r, t, true
			}
		}
	}
	return netipx.IPRange{}, poolRange{}, false
}
