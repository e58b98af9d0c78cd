package segments

import (
	"context"
	"net/netip"
	"time"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// Locker has a lock for each segment, of which one node at most has it at a time.
type Locker interface {
	// Lock takes or renews the lock for this node, and returns until when, by CLOCK_BOOTTIME, no other can have it.
	Lock(ctx context.Context, subnet netip.Prefix) (liveness.Time, error)
	// Unlock gives it up.
	Unlock(ctx context.Context, subnet netip.Prefix) error
}

const (
	// lockEvery is how often a lock is renewed, or tried for.
	lockEvery = 1500 * time.Millisecond
	// lockTimeout is how long one request may take.
	lockTimeout = time.Second
)

// guard takes the lock of a segment while this node hears exactly half of the acceptors, so that of two halves one can go
// on, and gives it up when that is over. It is off the path of a failover that a majority sees through.
//
// The lock is the node's: when a part takes the place of another, as when its interface was made anew, it waits for its turn
// until the other has given the lock up. Otherwise that could come after the new one has taken it, and leave it to the other
// half.
func (d *Driver) guard(ctx context.Context, p *part) {
	if d.cfg.Locker == nil {
		return
	}
	p.turn.Lock()
	defer p.turn.Unlock()
	// locked: this node may have the lock, in whole or by a request of which it did not hear the end.
	locked, told := false, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if locked {
				d.unlock(context.WithoutCancel(ctx), p)
			}
			return
		case <-p.tied:
		case <-timer.C:
		}
		switch {
		case p.segment.View().Tie:
			locked = true
			err := d.lock(ctx, p)
			if err != nil && !told && ctx.Err() == nil {
				d.cfg.Log.Warn("half of the nodes of a segment are not heard, and this node cannot get the lock that decides", "segment", p.subnet, "err", err)
			}
			told = err != nil
			timer.Reset(lockEvery)
		case locked:
			if locked = !d.unlock(ctx, p); locked {
				timer.Reset(lockEvery)
			}
		}
	}
}

func (d *Driver) lock(ctx context.Context, p *part) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	until, err := d.cfg.Locker.Lock(ctx, p.subnet)
	if err != nil {
		return err // what is left of the last one still counts
	}
	p.segment.LockedUntil(until)
	return nil
}

func (d *Driver) unlock(ctx context.Context, p *part) bool {
	p.segment.LockedUntil(liveness.Never)
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	return d.cfg.Locker.Unlock(ctx, p.subnet) == nil
}
