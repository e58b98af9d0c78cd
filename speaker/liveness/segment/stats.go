package segment

import (
	"sync/atomic"

	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// Stats counts frames since New.
type Stats struct {
	Sent, SentBytes uint64
	// SendErrors are frames that the kernel did not take: the link is down or full.
	SendErrors uint64
	// Opened are received frames by what became of them; those in wire.Opened were authentic.
	Opened [wire.Results]uint64
	// Dropped are authentic ones by what the Member did with them; those in liveness.Used were used.
	Dropped [liveness.Drops]uint64
}

type counters struct {
	sent, sentBytes, sendErrors atomic.Uint64

	opened  [wire.Results]atomic.Uint64
	dropped [liveness.Drops]atomic.Uint64
}

// Stats returns what was counted.
func (s *Segment) Stats() Stats {
	c := &s.stats
	out := Stats{Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(), SendErrors: c.sendErrors.Load()}
	for i := range c.opened {
		out.Opened[i] = c.opened[i].Load()
	}
	for i := range c.dropped {
		out.Dropped[i] = c.dropped[i].Load()
	}
	return out
}
