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
	"sync/atomic"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Gate says whether an address may be answered for at this moment.
type Gate interface {
	// MayAnswer is asked for each answer and each announcement, from several goroutines. It must not block or allocate.
	MayAnswer(a netip.Addr) bool
}

// Config of a Speaker.
type Config struct {
	// Gate lets answers and announcements pass; nil: always.
	Gate Gate
	// Neighbour returns the Ethernet address that the kernel knows for a neighbour on an interface; nil: none is known.
	Neighbour func(ifindex int, a netip.Addr) (plan.MAC, bool)
	// Broken is called, from any goroutine and at most once per failure, when the speaker needs another Set. It must not
	// block.
	Broken func()
	// Duplicated is called, from any goroutine, when Duplicates returns something new. It must not block.
	Duplicated func()
	// Rate is how many frames are announced each second on a link, for a protocol, after a Burst. Zero: DefaultRate,
	// DefaultBurst. Answers do not count.
	Rate, Burst int
}

// The default pace. A fifth of the burst is for what repeats itself, the rest for addresses that have just been taken: enough
// for a thousand with two gateways. The rate is what switches and routers of modest means take for broadcasts.
const (
	DefaultRate  = 1000
	DefaultBurst = 5000
)

// Speaker answers ARP and NDP on the links of one network namespace. Its methods may be called from any goroutine.
type Speaker struct {
	shared *shared

	mu        sync.Mutex
	listeners map[segment]*listener
}

// shared is what all listeners use.
type shared struct {
	Config
	stats    [2]counters
	siblings siblings
	seen     *duplicates
	// live are the listeners, for who must not wait for a Set.
	live atomic.Pointer[[]*listener]
	// leaving are the joiners, which take their time to end.
	leaving sync.WaitGroup
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

// New returns a Speaker that answers for nothing.
func New(c Config) *Speaker {
	c.Rate, c.Burst = cmp.Or(c.Rate, DefaultRate), cmp.Or(c.Burst, DefaultBurst)
	if c.Neighbour == nil {
		c.Neighbour = func(int, netip.Addr) (plan.MAC, bool) { return plan.MAC{}, false }
	}
	for _, f := range []*func(){&c.Broken, &c.Duplicated} {
		if *f == nil {
			*f = func() {}
		}
	}
	s := &Speaker{shared: &shared{Config: c, seen: newDuplicates()}, listeners: map[segment]*listener{}}
	s.shared.siblings.lookUp = c.Neighbour
	s.shared.live.Store(&[]*listener{})
	return s
}

// mayAnswer asks the gate.
func (s *shared) mayAnswer(a netip.Addr) bool { return s.Gate == nil || s.Gate.MayAnswer(a) }

// prune forgets duplicates that are over.
func (s *shared) prune() {
	live := *s.live.Load()
	ours := func(a netip.Addr) bool { return slices.ContainsFunc(live, func(l *listener) bool { return l.has(a) }) }
	if s.seen.prune(time.Now(), ours) {
		s.Duplicated()
	}
}

// Set makes the speaker answer for the wanted addresses and for no others, as far as the gate lets it. An address that is new
// on its link and may be answered for is announced at once and 1, 3 and 10 seconds later, and like all others again every minute: to the default
// gateways first. One that is also fresh is probed for duplicates.
//
// The error says which links or addresses are not, or not fully, answered for; the others are. Calling Set again retries.
func (s *Speaker) Set(_ context.Context, wanted []plan.L2, near plan.Neighbours) error {
	type share struct {
		owned respond.Owned
		fresh []netip.Addr
	}
	shares := map[segment]*share{}
	sizes := map[segment]int{} // maps that grow while addresses wait for an answer are made in vain
	for i := range wanted {
		sizes[segmentOf(&wanted[i])]++
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range wanted {
		w := &wanted[i]
		key := segmentOf(w)
		if shares[key] == nil {
			shares[key] = &share{owned: make(respond.Owned, sizes[key])}
		}
		shares[key].owned[w.Addr] = struct{}{}
		if l := s.listeners[key]; w.Fresh && (l == nil || !l.has(w.Addr)) {
			shares[key].fresh = append(shares[key].fresh, w.Addr)
		}
	}
	s.shared.siblings.set(near.MACs, near.Nodes)
	var errs []error
	note := func(key segment, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s on %s: %w", key.proto, key.link.Name, err))
		}
	}
	for key, l := range s.listeners {
		err := l.failure()
		note(key, err)
		if err != nil || shares[key] == nil {
			l.close()
			delete(s.listeners, key)
		}
	}
	// ARP before NDP: it is quicker, there are no groups to join.
	order := slices.SortedFunc(maps.Keys(shares), func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.link.Index, b.link.Index))
	})
	for _, key := range order {
		note(key, s.open(key))
	}
	live := slices.Collect(maps.Values(s.listeners))
	s.shared.live.Store(&live)
	for _, key := range order {
		if l := s.listeners[key]; l != nil {
			l.gateways.Store(&near.Gateways)
			note(key, l.set(shares[key].owned, shares[key].fresh))
		}
	}
	s.shared.prune()
	return errors.Join(errs...)
}

func segmentOf(w *plan.L2) segment {
	if w.Addr.Is6() {
		return segment{w.Link, ndp}
	}
	return segment{w.Link, arp}
}

func (s *Speaker) open(key segment) error {
	if s.listeners[key] != nil {
		return nil
	}
	l, err := listen(key, s.shared)
	if err == nil {
		s.listeners[key] = l
	}
	return err
}

// Announce announces addresses anew, as if they had just been taken: when the gate begins to let them pass, or when neighbours
// may have heard another node meanwhile. Addresses that are not answered for are ignored, and so are those that Set has announced a
// moment ago: with a thousand that are taken over, every frame more makes the last ones later. It does not wait.
func (s *Speaker) Announce(addrs ...netip.Addr) {
	for _, l := range *s.shared.live.Load() {
		var own []netip.Addr
		for _, a := range addrs {
			if l.has(a) {
				own = append(own, a)
			}
		}
		l.burst.again(own)
	}
}

// Settle returns when nothing is sent any more that the gate let pass before: what it does not let pass now is not heard of after
// that, until it does again.
func (s *Speaker) Settle() {
	for _, l := range *s.shared.live.Load() {
		for _, out := range l.senders {
			out.settle()
		}
	}
}

// Duplicates returns the strangers that use addresses of ours, by address.
func (s *Speaker) Duplicates() []Duplicate { return s.shared.seen.list() }

// Close stops answering.
func (s *Speaker) Close() {
	_ = s.Set(context.Background(), nil, plan.Neighbours{})
	s.shared.leaving.Wait()
}

// Stats returns what was counted since New.
func (s *Speaker) Stats() (arpStats, ndpStats Stats) {
	return s.shared.stats[arp].read(), s.shared.stats[ndp].read()
}

// Defences returns how often an address was defended against a duplicate since New.
func (s *Speaker) Defences() uint64 { return s.shared.seen.defended() }
