package l2

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// refresh is the interval at which everything is announced again: a switch forgets a silent station after five minutes
// (IEEE 802.1D ageing time) and a router keeps its ARP entry for longer, so an address that only receives would be lost.
const refresh = time.Minute

// repeats are the moments, after an address was taken, at which it is announced: the first frame may be lost, because a
// switch port has just come up or a neighbour has only just learned the old entry.
var repeats = [...]time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second} //nolint:gochecknoglobals // a constant

// announcer sends gratuitous frames for the addresses that its listener takes, as long as it has them.
type announcer struct {
	owned    func() respond.Owned
	announce func(netip.Addr)
	wake     chan struct{}

	mu      sync.Mutex
	batches []batch
}

// batch are addresses that were taken at one moment.
type batch struct {
	addrs []netip.Addr
	taken time.Time
	// sent counts how often the batch was announced.
	sent int
}

func newAnnouncer(owned func() respond.Owned, announce func(netip.Addr)) *announcer {
	return &announcer{owned: owned, announce: announce, wake: make(chan struct{}, 1)}
}

// take has the addresses announced now and at the later moments. It does not wait for it.
func (a *announcer) take(addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	a.mu.Lock()
	a.batches = append(a.batches, batch{addrs: addrs, taken: time.Now()})
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run announces until ctx ends.
func (a *announcer) run(ctx context.Context) {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	timer := time.NewTimer(refresh)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		case <-ticker.C:
			for addr := range a.owned() {
				a.announce(addr)
			}
		}
		for _, addrs := range a.due(time.Now()) {
			owned := a.owned()
			for _, addr := range addrs {
				if _, ok := owned[addr]; ok {
					a.announce(addr)
				}
			}
		}
		timer.Reset(a.next(time.Now()))
	}
}

// due returns what is to be announced now, and forgets what has been announced often enough.
func (a *announcer) due(now time.Time) [][]netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out [][]netip.Addr
	kept := a.batches[:0]
	for _, b := range a.batches {
		if !now.Before(b.taken.Add(repeats[b.sent])) {
			out = append(out, b.addrs)
			b.sent++
		}
		if b.sent < len(repeats) {
			kept = append(kept, b)
		}
	}
	clear(a.batches[len(kept):])
	a.batches = kept
	return out
}

// next returns how long nothing is due.
func (a *announcer) next(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := refresh
	for _, b := range a.batches {
		wait = min(wait, b.taken.Add(repeats[b.sent]).Sub(now))
	}
	return max(wait, 0)
}
