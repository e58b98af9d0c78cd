package segment

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// Config of a Segment.
type Config struct {
	// Member's Segment, Node and timing; the incarnation is drawn by Run.
	Member liveness.Config
	// Interface on which the segment is.
	Interface *net.Interface
	Keys      *wire.Keys
	// Loop sends and receives for the segment. Nothing happens as long as it does not run.
	Loop *Loop
	Log  *slog.Logger
}

// Segment is this node's part in one segment. Its methods may be called from any goroutine, before Run and while it runs.
type Segment struct {
	cfg     Config
	stats   counters
	changed chan struct{}
	// leases and view are read without the lock.
	leases atomic.Pointer[liveness.Leases]
	view   atomic.Pointer[liveness.View]

	mu sync.Mutex
	// What was set last, for a Run that begins later.
	members []string
	wanted  []liveness.Want
	keys    *wire.Keys

	draining bool
	// stations are the Ethernet addresses that nodes send from.
	stations map[liveness.NodeID][6]byte
	// run is what there is only while Run runs.
	run *run
}

// run is one run of the process in the protocol: one incarnation.
type run struct {
	segment *Segment
	member  *liveness.Member
	socket  *socket
	sealer  wire.Sealer
	opener  wire.Opener
	frame   []byte
	// arrivals tell when frames came that were read later.
	arrivals arrivals
	// next is when something is due, sleeps until when the loop sleeps, Never if it does not or was woken; viewAt is when the
	// View may be made anew.
	next, sleeps, viewAt liveness.Time
	// failed is why it cannot go on; then broken is closed, and it is over.
	failed error
	broken chan struct{}
	over   bool
}

// New returns a Segment that does nothing yet.
func New(cfg Config) (*Segment, error) {
	if cfg.Interface == nil || cfg.Keys == nil || cfg.Loop == nil || cfg.Log == nil {
		return nil, errors.New("a segment needs an interface, keys, a loop and a logger")
	}
	probe := cfg.Member
	probe.Incarnation = 1
	if _, err := liveness.New(0, probe); err != nil {
		return nil, err
	}
	s := &Segment{cfg: cfg, keys: cfg.Keys, changed: make(chan struct{}, 1), stations: map[liveness.NodeID][6]byte{}}
	s.view.Store(&liveness.View{})
	return s, nil
}

// MayAnswer says whether this node may answer for an address at this moment. It is for the reply path: an answer must be
// sent at once, or not at all.
func (s *Segment) MayAnswer(a netip.Addr) bool {
	l := s.leases.Load()
	return l != nil && l.MayAnswer(a, Now)
}

// View returns what is known; it is never nil.
func (s *Segment) View() *liveness.View { return s.view.Load() }

// Holders returns what liveness.Member's Holders does, and the View of the same instant.
func (s *Segment) Holders() (*liveness.View, map[liveness.AddressID]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return s.View(), nil
	}
	if s.run.member.Changed() {
		s.publish(Now())
	}
	return s.View(), s.run.member.Holders()
}

// Changed receives when there is another View than at the last receive.
func (s *Segment) Changed() <-chan struct{} { return s.changed }

// Set replaces the addresses that this node should have; it is for one goroutine at a time. When it returns, nothing is answered any
// more for those that were taken out.
func (s *Segment) Set(wanted []liveness.Want) {
	s.mu.Lock()
	same := slices.Equal(wanted, s.wanted)
	s.mu.Unlock()
	if same {
		return // heartbeats need not wait for what changes nothing
	}
	s.do(func(now liveness.Time, m *liveness.Member) { m.SetWanted(now, wanted) }, func() { s.wanted = slices.Clone(wanted) })
}

// SetMembers replaces the names of the nodes that are configured for the segment.
func (s *Segment) SetMembers(names []string) {
	s.do(func(now liveness.Time, m *liveness.Member) { m.SetMembers(now, names) }, func() { s.members = slices.Clone(names) })
}

// SetDraining says whether the others are to take over what this node has.
func (s *Segment) SetDraining(draining bool) {
	s.do(func(now liveness.Time, m *liveness.Member) { m.SetDraining(now, draining) }, func() { s.draining = draining })
}

// Station returns the Ethernet address that the node's last heartbeat came from; false if there was none.
func (s *Segment) Station(node string) ([6]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mac, ok := s.stations[liveness.NodeOf(node)]
	return mac, ok
}

// LockedUntil says until when this node alone has the segment's lock.
func (s *Segment) LockedUntil(until liveness.Time) {
	s.do(func(now liveness.Time, m *liveness.Member) { m.LockedUntil(now, until) }, func() {})
}

// SetKeys replaces the keys.
func (s *Segment) SetKeys(k *wire.Keys) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = k
	if s.run == nil {
		return nil
	}
	s.run.opener.SetKeys(k)
	return s.run.sealer.SetKeys(k, liveness.NodeOf(s.cfg.Member.Node))
}

// do remembers something, and does it if there is a Member.
func (s *Segment) do(f func(liveness.Time, *liveness.Member), remember func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	remember()
	if s.run == nil {
		return
	}
	now := Now()
	f(now, s.run.member)
	s.proceed(now)
}

// Run takes part until ctx ends, and returns nil then, after it has let go of everything and said so; or an error when the
// interface has gone. It waits while another process of this node is still taking part on the interface: two with one
// name would vote twice. It must be called in the node's network namespace, and may be called again after it has returned.
func (s *Segment) Run(ctx context.Context) error {
	unlock, err := s.alone(ctx)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	if err := s.begin(); err != nil {
		return err
	}
	r := s.run
	s.cfg.Loop.add(r)
	select {
	case <-ctx.Done():
	case <-r.broken:
	}
	s.cfg.Loop.remove(r)
	s.end()
	if ctx.Err() != nil {
		return nil
	}
	return r.failed
}

// alone takes the place of this node in the segment on the interface: an abstract address of the network namespace, which the kernel
// frees when its process ends, however that ends. It returns nil if ctx ends first.
func (s *Segment) alone(ctx context.Context) (func(), error) {
	addr := &net.UnixAddr{Name: "@seamark/liveness/" + strconv.Itoa(s.cfg.Interface.Index) + "/" + s.cfg.Member.Segment, Net: "unixgram"}
	for told := false; ; told = true {
		conn, err := net.ListenUnixgram("unixgram", addr)
		if err == nil {
			return func() { _ = conn.Close() }, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("take this node's place on %s: %w", s.cfg.Interface.Name, err)
		}
		if !told {
			s.cfg.Log.Info("another agent of this node still takes part on the interface: waiting for its end", "interface", s.cfg.Interface.Name)
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// begin opens the socket and makes a Member.
func (s *Segment) begin() error {
	sock, err := open(s.cfg.Interface, wire.Tag(s.cfg.Member.Segment))
	if err != nil {
		return err
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		sock.close()
		return fmt.Errorf("draw an incarnation: %w", err)
	}
	cfg := s.cfg.Member
	cfg.Incarnation = max(binary.BigEndian.Uint64(b[:]), 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Now()
	member, err := liveness.New(now, cfg)
	if err != nil {
		sock.close()
		return err
	}
	r := &run{segment: s, member: member, socket: sock, sleeps: liveness.Never, viewAt: now, broken: make(chan struct{})}
	r.opener.SetKeys(s.keys)
	if err := r.sealer.SetKeys(s.keys, liveness.NodeOf(cfg.Node)); err != nil {
		sock.close()
		return err
	}
	member.SetMembers(now, s.members)
	member.SetWanted(now, s.wanted)
	member.SetDraining(now, s.draining)
	s.run = r
	s.leases.Store(member.Leases())
	s.proceed(now)
	return nil
}

// end lets go of everything, says so, and closes the socket.
func (s *Segment) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leases.Store(nil)
	r := s.run
	r.member.Leave(Now())
	for said := false; !said; { // it may speak only so often
		now := Now()
		out := r.member.Tick(now)
		s.send(out)
		if said = len(out) > 0; !said {
			time.Sleep(max(r.member.Next().Sub(now), time.Millisecond))
		}
	}
	s.run = nil
	r.socket.close()
	s.view.Store(&liveness.View{})
	signal(s.changed)
}

// take has the Member take a frame. The time is read after the frame: a peer counts as heard for no shorter than it was. The
// lock is held.
func (s *Segment) take(r *run, f *frame, h *liveness.Heartbeat) {
	opened := r.opener.Open(f.bytes, h)
	s.stats.opened[opened].Add(1)
	if opened != wire.Opened {
		return
	}
	now := Now()
	drop := r.member.ReceiveAt(now, r.arrivals.at(now, f.stamp), h)
	s.stats.dropped[drop].Add(1)
	if drop == liveness.Used && s.stations[h.From] != f.station {
		s.stations[h.From] = f.station
		signal(s.changed)
	}
}

// proceed sends what is due, publishes the View and sees to it that the loop wakes in time. The lock is held, and the
// time was read under it.
func (s *Segment) proceed(now liveness.Time) {
	r := s.run
	if r == nil {
		return
	}
	if r.member.Next() <= now {
		s.send(r.member.Tick(now))
	}
	if err := r.socket.setAcceptor(r.member.IsAcceptor()); err != nil {
		r.failed = err
	}
	next := r.member.Next()
	if r.member.Changed() {
		if now >= r.viewAt {
			s.publish(now)
		} else {
			next = min(next, r.viewAt)
		}
	}
	r.next = next
	if r.sleeps != liveness.Never && (r.failed != nil || next < r.sleeps) {
		r.sleeps = liveness.Never
		s.cfg.Loop.alarm.ring()
	}
}

// publish makes the View anew. It takes no more than a quarter of the time, however many addresses there are; more would be in
// the way of heartbeats, and less would keep addresses that were taken over from being announced.
func (s *Segment) publish(now liveness.Time) {
	v := s.run.member.View()
	s.view.Store(v)
	signal(s.changed)
	took := Now().Sub(now)
	s.run.viewAt = now.Add(max(4*took, time.Millisecond))
}

// send puts heartbeats on the link. The lock is held.
func (s *Segment) send(out []liveness.Outgoing) {
	r := s.run
	for i := range out {
		o := &out[i]
		var err error
		if r.frame, err = r.sealer.Seal(r.frame[:0], &o.Heartbeat, o.Prompt); err != nil {
			// Only a number that was used, after four billion heartbeats: another run begins with others.
			r.failed = fmt.Errorf("seal heartbeat: %w", err)
			return
		}
		group := toAll
		if o.To == liveness.ToAcceptors {
			group = toAcceptors
		}
		if err := r.socket.send(group, r.frame); err != nil {
			s.stats.sendErrors.Add(1)
			if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) { // a link that is down is ENETDOWN
				r.failed = fmt.Errorf("send on %s: %w", s.cfg.Interface.Name, err)
			}
			continue
		}
		s.stats.sent.Add(1)
		s.stats.sentBytes.Add(uint64(len(r.frame)))
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
