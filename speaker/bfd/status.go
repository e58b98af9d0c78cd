package bfd

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

// Status of a session.
type Status struct {
	Session Session
	State   packet.State
	// Since when the session has been in that state.
	Since time.Time
	// Failed is true from when a session that was Up went Down until it is Up again: the path to the peer is to be taken for
	// broken, and a BGP session over it ended (RFC 5882 section 4.2). It is false for a session that was never Up (the peer
	// may not speak BFD) and for a peer that has ended BFD by itself, which say nothing of the path (sections 3.2, 4.1).
	Failed bool
	// Diag is why the state last changed; it remains until the session is Up. RemoteDiag is what the peer says of itself.
	Diag, RemoteDiag packet.Diag
	// RemoteState is Down also for a peer that is not heard.
	RemoteState packet.State
	// Discriminator and RemoteDiscriminator; the peer's is zero while it is not heard.
	Discriminator, RemoteDiscriminator uint32
	// TxInterval and RxInterval are agreed on with the peer, before jitter, and DetectionTime is how long it may be silent.
	// The last two are zero while it is not heard.
	TxInterval, RxInterval, DetectionTime time.Duration
	// Downs counts how often the session failed, and LastDown tells of the last time: a failure may be over before somebody
	// looks.
	Downs    uint64
	LastDown Down
	// Problem says in words why packets cannot be sent or do not arrive, as far as this host knows; empty if it does not.
	Problem string
	// Stats count this session's packets. Dropped are those that came from the peer's address or named this session.
	Stats Stats
}

// Down tells how a session failed.
type Down struct {
	At   time.Time
	Diag packet.Diag
	// RemoteState and RemoteDiag are what the peer said last; Down and none if it was silent.
	RemoteState packet.State
	RemoteDiag  packet.Diag
}

// Stats count packets.
type Stats struct {
	Sent uint64
	// SendErrors are packets that the kernel did not take.
	SendErrors uint64
	// Received packets that a session took.
	Received uint64
	// Dropped packets by packet.Verdict; that of packet.Accepted is 0.
	Dropped [packet.Verdicts]uint64
}

// Status returns the state of all sessions, sorted by peer, local address and interface.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.sessions))
	for _, n := range s.sessions {
		out = append(out, n.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return a.Session.identity().compare(b.Session.identity()) })
	return out
}

func (n *session) status() Status {
	m, r := n.machine, n.machine.Remote()
	return Status{
		Session: n.Session, State: m.State(), Since: n.since, Failed: n.failed, Diag: m.Diag(), RemoteDiag: r.Diag, RemoteState: r.State,
		Discriminator: m.Discriminator(), RemoteDiscriminator: r.Discriminator,
		TxInterval: m.TxInterval(), RxInterval: m.RxInterval(), DetectionTime: m.DetectionTime(),
		Downs: n.downs, LastDown: n.lastDown, Problem: n.problem, Stats: n.stats,
	}
}

// Changed is signalled when Status returns something new besides counters. It holds one signal; it is for one reader.
func (s *Speaker) Changed() <-chan struct{} { return s.changed }

func (s *Speaker) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Stats returns what was counted since New, also of sessions that are gone and of packets that belong to none.
func (s *Speaker) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// seen is what of a peer's packet is news to a reader of Status.
type seen struct {
	state         packet.State
	diag          packet.Diag
	discriminator uint32
	tx, detection time.Duration
}

func (n *session) seen() seen {
	r := n.machine.Remote()
	return seen{r.State, r.Diag, r.Discriminator, n.machine.TxInterval(), n.machine.DetectionTime()}
}

// sendWords says what an error of sending means.
func sendWords(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.ECONNREFUSED):
		return "the peer does not listen for BFD (UDP port 3784 unreachable)"
	case errors.Is(err, unix.EHOSTUNREACH):
		return "the peer does not answer ARP or NDP (host unreachable)"
	case errors.Is(err, unix.ENETUNREACH):
		return "there is no route to the peer"
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EINVAL):
		return "the local address is not on this host"
	case errors.Is(err, unix.ENODEV):
		return "there is no such interface"
	case errors.Is(err, unix.ENETDOWN):
		return "the interface is down"
	case errors.Is(err, unix.EPERM):
		return "packets are dropped by a packet filter of this host, or a capability is missing"
	}
	return err.Error()
}
