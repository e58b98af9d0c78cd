package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Candidate is an IPPool as a person wrote it.
type Candidate struct {
	// Pool, whose Ranges do not count.
	cluster.Pool
	// Addresses as in spec.addresses.
	Addresses []string
	// Problem with anything but the addresses; nil: none.
	Problem error
	// Created decides between pools that overlap: the older one gives the addresses out.
	Created time.Time
	// Deleted is true for a pool that is only there until its last address is free.
	Deleted bool
}

// Foreign is a range that something other than pools uses.
type Foreign struct {
	netipx.IPRange
	// By says what, after "is": "part of the pod range of node n1".
	By string
}

// Verdict is what there is to say about a pool.
type Verdict struct {
	// Refused says why the pool gives nothing out, and what to change; empty: it does.
	Refused string
	// Deleted is true when that is because somebody deleted it.
	Deleted bool
	// Invalid is true when that is because of anything but its addresses.
	Invalid bool
	// Overlaps are the parts of its addresses that are somebody else's as well; an older pool may give them out all the same.
	Overlaps []Overlap
}

// Judge decides which pools give out addresses, ordered by name, and has a verdict on every pool. Of what two pools have in
// common the older one (then the one whose name comes first) gives it out. What is foreign no pool gives out. A pool with a
// problem of its own, or that is being deleted, does not count against others.
func Judge(candidates []Candidate, foreign []Foreign) (pools []Pool, verdicts map[string]Verdict) {
	verdicts = make(map[string]Verdict, len(candidates))
	byAge := slices.Clone(candidates)
	slices.SortFunc(byAge, func(a, b Candidate) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	for i := range byAge {
		c := &byAge[i]
		ranges, problems := cluster.ParseRanges(c.Addresses)
		c.Ranges = nil // of one that is refused: it does not count against others
		v := Verdict{Deleted: c.Deleted}
		if len(problems) == 0 && c.Problem != nil {
			v.Invalid, problems = true, []error{c.Problem}
		}
		switch {
		case len(problems) > 0:
			v.Refused = errors.Join(problems...).Error()
		case c.Deleted:
			v.Refused = "the pool is being deleted: it goes when the last of its addresses is free"
		default:
			c.Ranges = ranges
		}
		verdicts[c.Name] = v
	}
	for i, c := range byAge {
		v := verdicts[c.Name]
		if v.Refused != "" {
			continue
		}
		for j, other := range byAge {
			if i != j {
				v.Overlaps = append(v.Overlaps, overlaps(c.Ranges, other.Ranges, "IPPool "+other.Name, i < j)...)
			}
		}
		for _, f := range foreign {
			v.Overlaps = append(v.Overlaps, overlaps(c.Ranges, []netipx.IPRange{f.IPRange}, f.By, false)...)
		}
		slices.SortStableFunc(v.Overlaps, func(a, b Overlap) int {
			return cmp.Or(a.From().Compare(b.From()), a.To().Compare(b.To()), cmp.Compare(a.By, b.By))
		})
		pool := Pool{Pool: c.Pool}
		for _, o := range v.Overlaps {
			if !o.older {
				pool.Taken = append(pool.Taken, o)
			}
		}
		if len(pool.givable()) == 0 {
			v.Refused = "none of its addresses is its own: " + Describe(v.Overlaps) + ": use others"
		} else {
			pools = append(pools, pool)
		}
		verdicts[c.Name] = v
	}
	slices.SortFunc(pools, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	return pools, verdicts
}

// overlaps returns what the ranges have in common with those of somebody else. older is true when the addresses are ours
// all the same.
func overlaps(ranges, others []netipx.IPRange, by string, older bool) (out []Overlap) {
	for _, r := range ranges {
		for _, o := range others {
			if !r.Overlaps(o) {
				continue
			}
			from, to := r.From(), r.To()
			if from.Less(o.From()) {
				from = o.From()
			}
			if o.To().Less(to) {
				to = o.To()
			}
			out = append(out, Overlap{IPRange: netipx.IPRangeFrom(from, to), By: by, older: older})
		}
	}
	return out
}

// Describe writes overlaps for a person, the first few of them.
func Describe(list []Overlap) string {
	const most = 5
	var parts []string
	for _, o := range list[:min(most, len(list))] {
		text := o.String()
		if o.From() == o.To() {
			text = o.From().String()
		} else if p, ok := o.Prefix(); ok {
			text = p.String()
		}
		switch {
		case o.older:
			text += " is also in " + o.By + ", which is younger and does not give them out"
		case strings.HasPrefix(o.By, "IPPool "):
			text += " is also in " + o.By + ", which is older and gives them out"
		default:
			text += " is " + o.By
		}
		parts = append(parts, text)
	}
	if n := len(list) - most; n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	return strings.Join(parts, "; ")
}
