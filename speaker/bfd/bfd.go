package bfd

import (
	"container/heap"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/fsm"
	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

// Speaker has the sessions of one network namespace. Its methods may be called from any goroutine.
type Speaker struct {
	wire    wire
	changed chan struct{}
	// wake tells the timer's goroutine that something is due earlier than it thinks.
	wake chan struct{}

	// setting is held by Set and Close, of which one runs at a time; mu also by all that a packet or a deadline causes.
	setting sync.Mutex
	mu      sync.Mutex

	sessions map[identity]*session
	// byDiscriminator and byPeer find the session of a packet. byPeer has more than one for a peer with several of this
	// host's addresses, or for a link-local address on several links.
	byDiscriminator map[uint32]*session
	byPeer          map[netip.Addr][]*session
	// due also has sessions that have been removed and still say goodbye.
	due   queue
	armed time.Time
	// quiet is closed, if there is one, as soon as nobody is in the queue.
	quiet chan struct{}

	listeners map[bool]listener // by whether it is IPv6
	stop      context.CancelFunc
	stopped   chan struct{}
	// watchdog does what the timer's goroutine should have done; nil if there is none.
	watchdog watchdog

	rnd   *rand.Rand
	buf   []byte
	stats Stats
}

// session is a wanted session, or one that says goodbye.
type session struct {
	Session
	machine *fsm.Machine
	// port is the UDP source port of all its packets (RFC 5881 section 4).
	port    uint16
	out     sender
	ifindex int

	// place in the queue, and the deadline it has there.
	place int
	due   time.Time

	since    time.Time
	failed   bool
	downs    uint64
	lastDown Down
	problem  string
	stats    Stats
}

// New returns a Speaker without sessions.
func New() *Speaker { return newSpeaker(kernel{}) }

func newSpeaker(w wire) *Speaker {
	return &Speaker{
		wire: w, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		sessions: map[identity]*session{}, byDiscriminator: map[uint32]*session{}, byPeer: map[netip.Addr][]*session{},
		listeners: map[bool]listener{},
		rnd:       rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		buf:       make([]byte, 0, packet.Len),
	}
}

// Set makes the sessions the wanted ones. A session whose intervals, multiplier or role changes stays up; one that is not
// wanted any more ends, and its peer is told that this is administrative. It does not wait for sessions to come up: that is
// seen in Status.
//
// The error says which sessions there cannot be, and why; the others are. Calling Set again retries.
func (s *Speaker) Set(_ context.Context, wanted []Session) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	return s.set(wanted)
}

// Close ends all sessions; peers are told that this is administrative. That takes a fraction of a second.
func (s *Speaker) Close() {
	s.setting.Lock()
	defer s.setting.Unlock()
	_ = s.set(nil)
	if s.stop == nil {
		return
	}
	quiet := make(chan struct{})
	s.mu.Lock()
	s.quiet = quiet
	s.mu.Unlock()
	s.rouse()
	<-quiet
	s.stop()
	<-s.stopped
	s.stop = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchdog != nil {
		s.watchdog.Stop()
		s.watchdog = nil
	}
}

// begin starts the timer's goroutine and, if it can, one that stands in for it.
func (s *Speaker) begin() error {
	w, err := s.wire.watchdog()
	if err != nil {
		w = nil
	}
	s.mu.Lock()
	s.watchdog = w
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.stopped = cancel, make(chan struct{})
	go s.run(ctx)
	if err != nil {
		return fmt.Errorf("be in time also when the processors are busy: %w", err)
	}
	if w != nil {
		go func() { _ = w.Run(func() bool { return s.standIn(w) }) }() // without a real-time policy it helps less
	}
	return nil
}

// set is called with s.setting held.
func (s *Speaker) set(wanted []Session) error {
	valid, errs := checkAll(wanted)
	for _, ipv6 := range []bool{false, true} {
		of := func(w Session) bool { return w.Peer.Is6() == ipv6 }
		if !slices.ContainsFunc(valid, of) {
			continue
		}
		if err := s.listen(ipv6); err != nil {
			errs = append(errs, err)
			valid = slices.DeleteFunc(valid, of)
		}
	}
	s.apply(valid)
	s.closeUnused()
	if len(valid) > 0 && s.stop == nil {
		if err := s.begin(); err != nil {
			errs = append(errs, err)
		}
	}
	s.rouse()
	return errors.Join(errs...)
}

// apply ends, changes and begins sessions.
func (s *Speaker) apply(wanted []Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	keep := map[identity]bool{}
	for _, w := range wanted {
		keep[w.identity()] = true
	}
	for id, have := range s.sessions {
		if !keep[id] {
			s.remove(now, have)
		}
	}
	for _, w := range wanted {
		if have := s.sessions[w.identity()]; have == nil {
			s.add(now, w)
		} else if have.Session != w {
			have.Session = w
			s.act(now, have, have.machine.Configure(now, w.config()))
		}
	}
	s.step(now)
}

// checkAll returns the sessions that there can be.
func checkAll(wanted []Session) (valid []Session, errs []error) {
	seen := map[identity]bool{}
	for _, w := range wanted {
		err := w.check()
		if err == nil && seen[w.identity()] {
			err = errors.New("is wanted twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("BFD session with %s: %w", w.name(), err))
			continue
		}
		seen[w.identity()] = true
		valid = append(valid, w)
	}
	return valid, errs
}

// listen opens the port of a family. It is called with s.setting held.
func (s *Speaker) listen(ipv6 bool) error {
	if s.listeners[ipv6] != nil {
		return nil
	}
	l, err := s.wire.listen(ipv6, func() { s.arrived(ipv6) })
	if err != nil {
		return fmt.Errorf("receive BFD packets: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[ipv6] = l
	return nil
}

// closeUnused closes the ports of families that no session has. The listener is closed without s.mu, which its arrived may
// be waiting for.
func (s *Speaker) closeUnused() {
	for _, ipv6 := range []bool{false, true} {
		s.mu.Lock()
		l := s.listeners[ipv6]
		for id := range s.sessions {
			if id.peer.Is6() == ipv6 {
				l = nil
			}
		}
		if l != nil {
			delete(s.listeners, ipv6)
		}
		s.mu.Unlock()
		if l != nil {
			l.close()
		}
	}
}

func (s *Speaker) add(now time.Time, w Session) {
	n := &session{Session: w, place: nowhere, since: now, port: s.freePort()}
	for i := len(s.due) - 1; i >= 0; i-- { // who is here again does not go on saying goodbye
		if old := s.due[i]; old.identity() == w.identity() {
			heap.Remove(&s.due, i)
			old.hangUp()
		}
	}
	n.machine = fsm.New(now, w.config(), s.freeDiscriminator(), s.rnd)
	s.sessions[w.identity()] = n
	s.byDiscriminator[n.machine.Discriminator()] = n
	s.byPeer[w.Peer] = append(s.byPeer[w.Peer], n)
	s.dial(n) // also tells the interface's index, which packets of the peer are held against
	s.due.update(n)
	s.signal()
}

// remove has the session say goodbye. Packets find it no more.
func (s *Speaker) remove(now time.Time, gone *session) {
	delete(s.sessions, gone.identity())
	delete(s.byDiscriminator, gone.machine.Discriminator())
	rest := slices.DeleteFunc(s.byPeer[gone.Peer], func(n *session) bool { return n == gone })
	if s.byPeer[gone.Peer] = rest; len(rest) == 0 {
		delete(s.byPeer, gone.Peer)
	}
	s.act(now, gone, gone.machine.Shutdown(now))
	s.signal()
}

// freeDiscriminator returns one that cannot be guessed and that no session has (RFC 5880 section 6.8.1).
func (s *Speaker) freeDiscriminator() uint32 {
	for {
		var b [4]byte
		_, _ = crand.Read(b[:]) // never fails
		d := binary.NativeEndian.Uint32(b[:])
		if d != 0 && s.byDiscriminator[d] == nil {
			return d
		}
	}
}

// The range of source ports (RFC 5881 section 4).
const (
	firstPort = 49152
	ports     = 1 << 14
)

// freePort returns a source port that no session has, as long as there are any.
func (s *Speaker) freePort() uint16 {
	used := make(map[uint16]bool, len(s.sessions))
	for _, n := range s.sessions {
		used[n.port] = true
	}
	for _, n := range s.due {
		used[n.port] = true
	}
	at := s.rnd.IntN(ports)
	for i := range ports {
		if p := uint16(firstPort + (at+i)%ports); !used[p] {
			return p
		}
	}
	return uint16(firstPort + at)
}
