package l2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Speaker answers ARP and NDP on the links of one network namespace. Its methods may be called from any goroutine.
type Speaker struct {
	// broken is called when a listener failed on its own: Set opens it anew.
	broken func()
	stats  [2]counters

	mu        sync.Mutex
	listeners map[segment]*listener
}

// protocol is what a listener speaks.
type protocol uint8

const (
	arp protocol = iota
	ndp
)

// String returns the protocol's name.
func (p protocol) String() string { return [...]string{"ARP", "NDP"}[p] }

// segment is what one listener serves.
type segment struct {
	link  plan.Link
	proto protocol
}

// New returns a Speaker that answers for nothing. broken is called, from any goroutine and at most once per failure, when
// the speaker needs another Set; it must not block.
func New(broken func()) *Speaker {
	return &Speaker{broken: broken, listeners: map[segment]*listener{}}
}

// Set makes the speaker answer for the wanted addresses and for no others. An address that is new on its link is announced
// at once and 1, 3 and 10 seconds later, and like all others again every minute.
//
// The error says which links or addresses are not, or not fully, answered for; the others are. Calling Set again retries.
func (s *Speaker) Set(_ context.Context, wanted []plan.L2) error {
	bySegment := map[segment]respond.Owned{}
	for _, w := range wanted {
		key := segment{w.Link, arp}
		if w.Addr.Is6() {
			key.proto = ndp
		}
		if bySegment[key] == nil {
			bySegment[key] = respond.Owned{}
		}
		bySegment[key][w.Addr] = struct{}{}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for key, l := range s.listeners {
		err := l.failure()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s on %s: %w", key.proto, key.link.Name, err))
		}
		if err != nil || bySegment[key] == nil {
			l.close()
			delete(s.listeners, key)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(bySegment), func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.link.Index, b.link.Index), cmp.Compare(a.proto, b.proto))
	}) {
		if err := s.serve(key, bySegment[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s on %s: %w", key.proto, key.link.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Speaker) serve(key segment, owned respond.Owned) error {
	l := s.listeners[key]
	if l == nil {
		var err error
		if l, err = listen(key, &s.stats[key.proto], s.broken); err != nil {
			return err
		}
		s.listeners[key] = l
	}
	return l.set(owned)
}

// Close stops answering.
func (s *Speaker) Close() {
	_ = s.Set(context.Background(), nil)
}

// Stats returns what was counted since New.
func (s *Speaker) Stats() (arpStats, ndpStats Stats) {
	return s.stats[arp].read(), s.stats[ndp].read()
}

// bounds returns the lowest and the highest address.
func bounds(owned respond.Owned) (lo, hi netip.Addr) {
	for a := range owned {
		if !lo.IsValid() || a.Less(lo) {
			lo = a
		}
		if !hi.IsValid() || hi.Less(a) {
			hi = a
		}
	}
	return lo, hi
}
