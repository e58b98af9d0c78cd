package liveness

import (
	"net/netip"
	"sync/atomic"
)

// Leases says until when this node may answer for which address. The reply path asks it for each answer and compares with
// the clock then, so a process that was paused cannot answer when it wakes up. Reading takes no lock and allocates nothing;
// the methods may be called from any goroutine.
type Leases struct {
	table atomic.Pointer[map[netip.Addr]*lease]
}

// lease of one address. Addresses in the same situation share a term, so that one store renews them all.
type lease struct{ term atomic.Pointer[term] }

type term struct{ until atomic.Int64 }

// Until returns the instant before which this node may answer for the address; Never if it may not at all.
func (l *Leases) Until(a netip.Addr) Time {
	table := l.table.Load()
	if table == nil {
		return Never
	}
	le, ok := (*table)[a]
	if !ok {
		return Never
	}
	t := le.term.Load()
	if t == nil {
		return Never
	}
	return Time(t.until.Load())
}

// MayAnswer says whether this node may answer for the address at this moment by a clock, which reads CLOCK_BOOTTIME. The clock is read
// last: whoever is paused before that learns that the lease has ended. And it is read only where there is a lease: that is a call of
// the kernel, and of the segments of a node hardly more than one has it.
func (l *Leases) MayAnswer(a netip.Addr, clock func() Time) bool {
	until := l.Until(a)
	return until != Never && clock() < until
}
