package segment

import (
	"sync/atomic"
	"time"

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
	// Delays are of what was due at an instant: by how much later it was done.
	Delays Delays
}

// Delays is a histogram.
type Delays struct {
	// Counts are by DelayBounds; the last is of those beyond.
	Counts [len(DelayBounds) + 1]uint64
	Sum    time.Duration
}

// DelayBounds are the upper bounds of Delays.Counts. Half of the detection time is where it becomes dangerous.
var DelayBounds = [...]time.Duration{ //nolint:gochecknoglobals // a constant
	250 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
}

type counters struct {
	sent, sentBytes, sendErrors atomic.Uint64

	opened  [wire.Results]atomic.Uint64
	dropped [liveness.Drops]atomic.Uint64

	delays   [len(DelayBounds) + 1]atomic.Uint64
	delaySum atomic.Int64
}

func (c *counters) delay(d time.Duration) {
	i := 0
	for i < len(DelayBounds) && d > DelayBounds[i] {
		i++
	}
	c.delays[i].Add(1)
	c.delaySum.Add(int64(d))
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
	for i := range c.delays {
		out.Delays.Counts[i] = c.delays[i].Load()
	}
	out.Delays.Sum = time.Duration(c.delaySum.Load())
	return out
}
