package l2

import (
	"context"
	"sync/atomic"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// joiner keeps the groups of a link in a goroutine of its own: the kernel looks through all groups of an interface for each
// that is joined, so ten thousand take seconds, for which nobody should wait who has an address to take.
type joiner struct {
	groups *groups
	wanted atomic.Pointer[respond.Owned]
	wake   chan struct{}
	err    atomic.Pointer[error]
	// failed is called when groups cannot be joined that could be before.
	failed func()
}

func newJoiner(ifindex int, failed func()) *joiner {
	return &joiner{groups: newGroups(ifindex), wake: make(chan struct{}, 1), failed: failed}
}

// set has the groups of the addresses joined and all others left, and returns why that did not work the last time, which it
// tries again. It does not wait.
func (j *joiner) set(owned respond.Owned) error {
	err := j.err.Load()
	if before := j.wanted.Swap(&owned); err != nil || before == nil || !same(*before, owned) {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
	if err != nil {
		return *err
	}
	return nil
}

func same(a, b respond.Owned) bool {
	if len(a) != len(b) {
		return false
	}
	for x := range a {
		if _, ok := b[x]; !ok {
			return false
		}
	}
	return true
}

// run joins and leaves until ctx ends, and leaves all then.
func (j *joiner) run(ctx context.Context) {
	defer j.groups.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-j.wake:
		}
		err := j.groups.set(ctx, *j.wanted.Load())
		switch {
		case ctx.Err() != nil:
		case err == nil:
			j.err.Store(nil)
		case j.err.Swap(&err) == nil:
			j.failed()
		}
	}
}
