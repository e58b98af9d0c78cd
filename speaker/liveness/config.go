package liveness

import (
	"errors"
	"fmt"
	"time"
)

// Time is an instant of CLOCK_BOOTTIME in nanoseconds. Instants of two machines have nothing to do with each other; all
// that is assumed is that their clocks run at the same rate, to one per cent.
type Time int64

// Never is before every instant: a term that ends then is no term.
const Never Time = -1 << 62

// Add returns the instant d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns how much later t is than u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Limits and defaults of a Config.
const (
	MinInterval       = 10 * time.Millisecond
	MaxInterval       = time.Second
	DefaultInterval   = 50 * time.Millisecond
	DefaultMultiplier = 3
	MinMultiplier     = 2
	MaxMultiplier     = 10
	// MaxDetect is the longest detection time that is taken from another node.
	MaxDetect = 10 * time.Second
)

// Config of a Member. Zero values stand for the defaults.
type Config struct {
	// Segment names the subnet or link, the same on all its members.
	Segment string
	// Node is this node's name.
	Node string
	// Incarnation tells this run of the process from all others: drawn at random, never 0.
	Incarnation uint64
	// Phase decides at which instants heartbeats are sent. Members of one node with the same phase and interval send at the same
	// instants, so that their node and the others wake once for all of them; nodes must not share it. Zero: Incarnation.
	Phase uint64
	// Interval between heartbeats, MinInterval to MaxInterval.
	Interval time.Duration
	// Multiplier is how many intervals a node may be silent before it counts as gone, 2 to 10.
	Multiplier int
	// Margin is by how much this node stops answering before others may begin: by default enough for clocks of which one
	// runs 1 % fast and the other 1 % slow, and a millisecond between the check and the answer on the wire.
	Margin time.Duration
	// Quiet is how long a fresh acceptor grants nothing, at least the detection time, which is the default. While the
	// interval of a segment is being shortened node by node it must be the longest detection time in use there.
	Quiet time.Duration
	// Gap is the least time between two heartbeats, however much there is to say.
	Gap time.Duration
	// Budget is the most bytes that a heartbeat's payload may take; what does not fit goes into further ones.
	Budget int
	// RetireAfter is how long a node must be silent that is not a member any more until the segment goes on without it.
	RetireAfter time.Duration
}

const defaultBudget = 1400

// complete fills in the defaults and says what is wrong.
func (c Config) complete() (Config, error) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Interval, DefaultInterval)
	if c.Multiplier == 0 {
		c.Multiplier = DefaultMultiplier
	}
	if c.Phase == 0 {
		c.Phase = c.Incarnation
	}
	set(&c.Margin, c.detect()/50+time.Millisecond)
	set(&c.Quiet, c.detect())
	set(&c.Gap, min(max(c.Interval/20, time.Millisecond), 5*time.Millisecond))
	set(&c.RetireAfter, 10*time.Second)
	if c.Budget == 0 {
		c.Budget = defaultBudget
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Segment != "", "the segment needs a name")
	check(c.Node != "", "the node needs a name")
	check(c.Incarnation != 0, "the incarnation must not be 0")
	check(c.Interval >= MinInterval && c.Interval <= MaxInterval, "the interval %v is not between %v and %v", c.Interval, MinInterval, MaxInterval)
	check(c.Multiplier >= MinMultiplier && c.Multiplier <= MaxMultiplier, "the multiplier %d is not between %d and %d", c.Multiplier, MinMultiplier, MaxMultiplier)
	check(c.Margin >= c.detect()/50 && c.Margin <= c.detect()/2, "the margin %v is not between 2 %% and half of the detection time %v", c.Margin, c.detect())
	check(c.Quiet >= c.detect(), "a fresh acceptor must be quiet for the detection time %v, not %v", c.detect(), c.Quiet)
	check(c.Gap > 0 && c.Gap <= c.Interval, "the gap %v is not between 0 and the interval", c.Gap)
	check(c.Budget >= 1024, "a budget of %d bytes is too small, the least is 1024", c.Budget)
	check(c.RetireAfter >= c.detect(), "nodes that are gone cannot be retired before the detection time")
	return c, errors.Join(errs...)
}

// beatAfter returns when the next heartbeat is due. The instants are those of a grid of 7/8 of the interval, each late by a
// random share of another 1/8: so from one to the next it is between 3/4 of the interval and all of it.
func (c Config) beatAfter(now Time) Time {
	jitter := c.Interval / 8
	pitch := Time(c.Interval - jitter)
	for k := int64(now / pitch); ; k++ {
		beat := Time(k)*pitch + Time(mix(c.Phase^mix(uint64(k)))%uint64(jitter))
		if beat > now {
			return beat
		}
	}
}

func (c Config) detect() time.Duration { return time.Duration(c.Multiplier) * c.Interval }

// term is how long a lease lasts from the sending of the heartbeat that a majority acknowledged.
func (c Config) term() time.Duration { return c.detect() - c.Margin }
