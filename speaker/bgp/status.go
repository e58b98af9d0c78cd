package bgp

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Status of a session.
type Status struct {
	// Peer is the name of the BGPPeer.
	Peer string
	// State of RFC 4271 section 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm, Established.
	State string
	// Since when the session has been established, or not been it.
	Since time.Time
	// LastError says in words why the session is not established; empty when it is.
	LastError string
	// IPv4 and IPv6 are the families that both sides speak.
	IPv4, IPv6 bool
	// PrefixesSent is the number of routes that the router was sent and that were not withdrawn.
	PrefixesSent int
}

// Established reports whether the session carries routes.
func (s *Status) Established() bool { return s.State == stateNames[bgp.BGP_FSM_ESTABLISHED] }

// Speaks reports whether the session carries routes of the family.
func (s *Status) Speaks(f cluster.Family) bool {
	return s.Established() && (f == cluster.IPv4 && s.IPv4 || f == cluster.IPv6 && s.IPv6)
}

var stateNames = map[bgp.FSMState]string{ //nolint:gochecknoglobals // a constant
	bgp.BGP_FSM_IDLE:        "Idle",
	bgp.BGP_FSM_CONNECT:     "Connect",
	bgp.BGP_FSM_ACTIVE:      "Active",
	bgp.BGP_FSM_OPENSENT:    "OpenSent",
	bgp.BGP_FSM_OPENCONFIRM: "OpenConfirm",
	bgp.BGP_FSM_ESTABLISHED: "Established",
}

// The states that gobgp does not tell of.
const (
	idle     = "Idle"
	openSent = "OpenSent"
)

// Status returns the state of all sessions, sorted by the peers' names.
func (s *Speaker) Status() []Status { return s.status.list() }

// Changed is signalled when Status returns something new. It holds one signal; it is for one reader.
func (s *Speaker) Changed() <-chan struct{} { return s.status.changed }

// Failure is why a session was lost, or why an attempt at one failed, in the words of a metric's label.
type Failure string

// The failures.
const (
	FailedConnect        Failure = "connect"               // no TCP connection
	FailedClosed         Failure = "closed"                // closed by the router before a BGP message
	FailedSent           Failure = "notification_sent"     // this side did not like what the router sent
	FailedReceived       Failure = "notification_received" // the router ended it
	FailedHoldTimer      Failure = "hold_timer"
	FailedPrefixLimit    Failure = "prefix_limit"
	FailedConnectionLost Failure = "connection_lost"
	FailedPath           Failure = "bfd"
)

// Failures returns how often each failure happened, by peer and since its session was configured.
func (s *Speaker) Failures() map[string]map[Failure]uint64 { return s.status.countFailures() }

// statusBoard gathers what gobgp tells of the sessions. gobgp calls it from its own goroutines, so it calls nothing.
type statusBoard struct {
	changed chan struct{}

	mu       sync.Mutex
	sessions map[netip.Addr]*session
}

type session struct {
	Status
	peer     plan.Peer
	failures map[Failure]uint64
	// why an established session is about to end, where the log tells before the event.
	why string
	// connectedAt is when the router took the connection that waits for its OPEN.
	connectedAt time.Time
	// refused is true when LastError is about an OPEN that one side did not accept. Some routers answer the attempts that
	// follow by closing the connection for a while (BIRD: error wait time), which must not hide it.
	refused bool
	// extended is true when the router agreed to IPv6 next hops of IPv4 routes.
	extended bool
	// limited is true from when gobgp gave the session up because of too many routes until it is opened anew or established: an
	// event of the session before may come late.
	limited bool
	// routes that the peer is meant to get, by family.
	routes4, routes6 int
}

func newStatusBoard() *statusBoard {
	return &statusBoard{changed: make(chan struct{}, 1), sessions: map[netip.Addr]*session{}}
}

func (b *statusBoard) list() []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Status, 0, len(b.sessions))
	for s := range maps.Values(b.sessions) {
		st := s.Status
		if st.Speaks(cluster.IPv4) {
			st.PrefixesSent += s.routes4
		}
		if st.Speaks(cluster.IPv6) {
			st.PrefixesSent += s.routes6
		}
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

func (b *statusBoard) countFailures() map[string]map[Failure]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]map[Failure]uint64{}
	for _, s := range b.sessions {
		out[s.Peer] = maps.Clone(s.failures)
	}
	return out
}

// update changes the session with the router, if there is one, and tells that something changed.
func (b *statusBoard) update(router netip.Addr, change func(*session)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[router]
	if s == nil {
		return
	}
	before := s.Status
	change(s)
	if s.Status != before {
		b.signal()
	}
}

func (b *statusBoard) signal() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *statusBoard) add(p plan.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions[addressOf(p)] = &session{peer: p, failures: map[Failure]uint64{}, Status: Status{Peer: p.Name, State: idle, Since: time.Now()}}
	b.signal()
}

func (b *statusBoard) remove(p plan.Peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sessions, addressOf(p))
	b.signal()
}

// asked is what a session's state asks for.
type asked struct {
	// since is when the session was established; zero: it is not.
	since time.Time
	// extended is true when the router agreed to IPv6 next hops of IPv4 routes.
	extended bool
	// limited is true when gobgp has given the session up because of too many routes.
	limited bool
}

func (b *statusBoard) asks(router netip.Addr) (a asked) {
	b.update(router, func(s *session) {
		a.limited = s.limited
		if s.Established() {
			a.since, a.extended = s.Since, s.extended
		}
	})
	return a
}

// opened notes that gobgp begins anew with the router.
func (b *statusBoard) opened(p plan.Peer) {
	b.update(addressOf(p), func(s *session) { s.limited = false })
}

// pathDown notes that BFD took a session down.
func (b *statusBoard) pathDown(p plan.Peer) {
	b.update(addressOf(p), func(s *session) {
		if s.Established() {
			s.Since = time.Now()
		}
		s.State, s.why = idle, ""
		s.fail(FailedPath, pathWords(p), true)
	})
}

// waitsForPath notes that BFD keeps a session from being tried.
func (b *statusBoard) waitsForPath(p plan.Peer) {
	b.update(addressOf(p), func(s *session) {
		if s.LastError == "" {
			s.LastError = pathWords(p)
		}
	})
}

func (b *statusBoard) setRoutes(routes []plan.Route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	byName := map[string]*session{}
	for _, s := range b.sessions {
		byName[s.Peer] = s
		s.routes4, s.routes6 = 0, 0
	}
	for _, r := range routes {
		for _, e := range r.Exports {
			switch s := byName[e.Peer]; {
			case s == nil:
			case r.Prefix.Addr().Is4():
				s.routes4++
			default:
				s.routes6++
			}
		}
	}
	b.signal()
}

// peerEvent takes gobgp's word that a session went to another state.
func (b *statusBoard) peerEvent(e *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
	if e.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	b.update(e.Peer.State.NeighborAddress, func(s *session) {
		was := s.Established()
		reason := e.Peer.State.DisconnectReason
		opening := s.State == stateNames[bgp.BGP_FSM_OPENCONFIRM]
		s.State = stateNames[e.Peer.State.SessionState]
		s.limited = !s.Established() && (s.limited || e.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT)
		if s.Established() != was {
			s.Since = at
		}
		switch {
		case s.Established():
			s.LastError, s.why, s.refused = "", "", false
			s.IPv4, s.IPv6, s.extended = negotiated(e.Peer.State.RemoteCap, s.peer)
		case was && s.why != "":
			s.LastError, s.why, s.refused = s.why, "", true
		case was:
			failure, words := downWords(reason, e.Peer.State.DisconnectMessage, s.peer)
			s.fail(failure, words, false)
		case opening && reason == api.PeerState_DISCONNECT_REASON_INVALID_MSG:
			s.fail(FailedReceived, refusedWords(s.peer), true)
		case opening && reason == api.PeerState_DISCONNECT_REASON_READ_FAILED:
			s.closed()
		}
	})
}

// fail notes and counts an error; for an established session it is why it ends.
func (s *session) fail(f Failure, words string, refused bool) {
	s.failures[f]++
	if s.Established() {
		s.why = words
	} else {
		s.LastError, s.refused = words, refused
	}
}

// silence is how long a router may take for its OPEN before the status mentions it.
const silence = 5 * time.Second

// connected notes that the router took the connection and has our OPEN.
func (b *statusBoard) connected(router netip.Addr) {
	at := time.Now()
	b.update(router, func(s *session) {
		if !s.Established() {
			s.State, s.connectedAt = openSent, at
		}
	})
	time.AfterFunc(silence, func() {
		b.update(router, func(s *session) {
			if s.State == openSent && s.connectedAt.Equal(at) {
				s.LastError = silentWords(s.peer)
			}
		})
	})
}

// closed notes that the router accepted the connection and closed it without a message.
func (s *session) closed() {
	if s.State == openSent {
		s.State = stateNames[bgp.BGP_FSM_ACTIVE]
	}
	words, refused := closedWords(s.peer), false
	if s.refused {
		words, refused = s.LastError, true
	}
	s.fail(FailedClosed, words, refused)
}

// negotiated returns the families that both sides speak, and whether IPv4 routes may have IPv6 next hops. A router that names
// no family speaks IPv4 (RFC 4760 section 8).
func negotiated(caps []bgp.ParameterCapabilityInterface, p plan.Peer) (v4, v6, extended bool) {
	remote := map[bgp.Family]bool{}
	for _, c := range caps {
		switch c := c.(type) {
		case *bgp.CapMultiProtocol:
			remote[c.CapValue] = true
		case *bgp.CapExtendedNexthop:
			for _, t := range c.Tuples {
				if t.NLRIAFI == bgp.AFI_IP && t.NLRISAFI == bgp.SAFI_UNICAST && t.NexthopAFI == bgp.AFI_IP6 {
					extended = true
				}
			}
		}
	}
	if len(remote) == 0 {
		remote[bgp.RF_IPv4_UC] = true
	}
	v4 = p.Session.IPv4 && remote[bgp.RF_IPv4_UC] && (extended || !p.Session.ExtendedNextHop)
	return v4, p.Session.IPv6 && remote[bgp.RF_IPv6_UC], extended
}
