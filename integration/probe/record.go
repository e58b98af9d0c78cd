package probe

import (
	"slices"
	"time"
)

// Record is a sequence of results in the order of their requests.
type Record []Result

// Since returns the results of requests that were sent at a time or later.
func (r Record) Since(t time.Time) Record {
	return slices.DeleteFunc(slices.Clone(r), func(result Result) bool { return result.Sent.Before(t) })
}

// Gap is a stretch of a [Record] without an answer.
type Gap struct {
	// From is when the last request before the gap was sent that was answered, To when the first after it was. From is zero
	// if nothing was answered before, To if nothing was answered after.
	From, To time.Time
	// Lost is the number of requests in between.
	Lost int
	// Err is why the first of them was not answered.
	Err error
}

// Length of the gap, as the client saw it; too long by up to one interval of the watch. It is zero if the gap has no end
// or no beginning.
func (g Gap) Length() time.Duration {
	if g.From.IsZero() || g.To.IsZero() {
		return 0
	}
	return g.To.Sub(g.From)
}

// Gaps returns the gaps of the record, in order.
func (r Record) Gaps() []Gap {
	var gaps []Gap
	var open *Gap
	var answered time.Time
	for _, result := range r {
		if result.Err == nil {
			if open != nil {
				open.To = result.Sent
				open = nil
			}
			answered = result.Sent
			continue
		}
		if open == nil {
			gaps = append(gaps, Gap{From: answered, Err: result.Err})
			open = &gaps[len(gaps)-1]
		}
		open.Lost++
	}
	return gaps
}

// Longest returns the longest gap, of those with a beginning and an end; the zero Gap if there is none.
func (r Record) Longest() Gap {
	var longest Gap
	for _, g := range r.Gaps() {
		if g.Length() > longest.Length() {
			longest = g
		}
	}
	return longest
}

// Outage joins the gaps of the record to one, from the beginning of the first to the end of the last: the time after
// which a client can rely on answers again. It is the zero Gap if every request was answered.
func (r Record) Outage() Gap {
	gaps := r.Gaps()
	if len(gaps) == 0 {
		return Gap{}
	}
	return Gap{From: gaps[0].From, To: gaps[len(gaps)-1].To, Lost: r.Lost(), Err: gaps[0].Err}
}

// Lost returns the number of requests that were not answered.
func (r Record) Lost() int {
	lost := 0
	for _, result := range r {
		if result.Err != nil {
			lost++
		}
	}
	return lost
}
