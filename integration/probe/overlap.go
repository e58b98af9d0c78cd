package probe

import (
	"fmt"
	"net"
	"slices"
	"time"
)

const (
	// tenure is less than any station has an address for before it goes back to the one before: heartbeats that are 50 ms apart take
	// 150 ms to miss a node, and who may take an address waits for that.
	tenure = 100 * time.Millisecond
	// underWay is how long an answer may take from where it was decided on. A station that has let go may be heard for so long after
	// the next one.
	underWay = 10 * time.Millisecond
)

// Overlap is a time in which several stations answered for one address.
type Overlap struct {
	// From is when the first of them was last heard alone, To when one alone was heard again or the record ends.
	From, To time.Time
	Stations [][6]byte
	// Turns is how often one answered that another had answered after, without having been silent for long.
	Turns int
}

func (o Overlap) String() string {
	text := ""
	for i, mac := range o.Stations {
		if i > 0 {
			text += " and "
		}
		text += net.HardwareAddr(mac[:]).String()
	}
	return fmt.Sprintf("%s answer in turn from %s for %s, %d times", text, o.From.Format("15:04:05.000"),
		o.To.Sub(o.From).Round(time.Millisecond), o.Turns)
}

// Overlaps returns when several stations answered at the same time; none where the address moved, once or again and again, as
// long as each station was silent when the next one answered. A single answer is enough, if it comes when another station has
// the address: that of a process which was stopped before it sent, for one. Not seen is what two requests do not fall into, so
// these are to be less than half of tenure apart.
func (a Answers) Overlaps() (out []Overlap) {
	runs := a.runs()
	for i, r := range runs {
		// The last time before at which the same station answered, and others in between.
		j := i - 1
		for j >= 0 && runs[j].mac != r.mac {
			j--
		}
		if j < 0 || r.first.Sub(runs[j].last) >= tenure {
			continue
		}
		var last *Overlap
		if n := len(out); n > 0 && !runs[j].last.After(out[n-1].To) {
			last = &out[n-1]
		} else {
			out = append(out, Overlap{From: runs[j].last})
			last = &out[n]
		}
		last.To = r.first
		last.Turns++
		for _, in := range runs[j : i+1] {
			if !slices.Contains(last.Stations, in.mac) {
				last.Stations = append(last.Stations, in.mac)
			}
		}
	}
	return out
}

// run is a stretch of answers of one station.
type run struct {
	mac         [6]byte
	first, last time.Time
}

// runs leaves out what was under way when the next station began.
func (a Answers) runs() (out []run) {
	for _, answer := range a {
		n := len(out)
		switch {
		case n > 0 && out[n-1].mac == answer.MAC:
			out[n-1].last = answer.At
		case n > 1 && out[n-2].mac == answer.MAC && answer.At.Sub(out[n-1].first) <= underWay:
		default:
			out = append(out, run{answer.MAC, answer.At, answer.At})
		}
	}
	return out
}

// Since returns the answers that came at a time or later.
func (a Answers) Since(t time.Time) Answers {
	return slices.DeleteFunc(slices.Clone(a), func(answer Answer) bool { return answer.At.Before(t) })
}
