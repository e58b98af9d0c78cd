package l2

import (
	"sync/atomic"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// Stats counts frames of one protocol.
type Stats struct {
	// Requests asked for an address that this node answers for.
	Requests uint64
	// Replies that were sent to them.
	Replies uint64
	// Gratuitous frames that were sent: ARP announcements, unsolicited advertisements.
	Gratuitous uint64
	// SendErrors are frames that the kernel did not take.
	SendErrors uint64
	// Dropped frames by respond.Verdict; that of respond.Answer is 0.
	Dropped [respond.Verdicts]uint64
}

type counters struct {
	requests, replies, gratuitous, sendErrors atomic.Uint64

	dropped [respond.Verdicts]atomic.Uint64
}

func (c *counters) read() Stats {
	s := Stats{Requests: c.requests.Load(), Replies: c.replies.Load(), Gratuitous: c.gratuitous.Load(), SendErrors: c.sendErrors.Load()}
	for i := range c.dropped {
		s.Dropped[i] = c.dropped[i].Load()
	}
	return s
}
