package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/seamark-io/seamark/speaker/plan"
)

// DefaultLeaveTime is usual for Config.LeaveTime.
const DefaultLeaveTime = 5 * time.Second

// limitPause is the time before a router that sent too many routes gets another chance.
const limitPause = time.Minute

// Config of a Speaker.
type Config struct {
	// Log gets gobgp's messages: that a session came up or was lost as info, what went wrong as gobgp ranks it, the rest
	// as debug.
	Log *slog.Logger
	// LeaveTime is how long routes stay after routers were asked to prefer other nodes.
	LeaveTime time.Duration
}

// Speaker holds the sessions. Its methods may be called from any goroutine.
type Speaker struct {
	log       *slog.Logger
	leaveTime time.Duration
	// limitPause is the constant, but in tests.
	limitPause time.Duration
	status     *statusBoard
	// poked is signalled when a session came to a state that asks for something to be done.
	poked chan struct{}

	mu sync.Mutex
	// server is nil while there are no peers.
	server *server.BgpServer
	unwind context.CancelFunc
	wanted plan.BGP

	peers map[string]*peer
	paths map[netip.Addr]Path
	// begun is when this Speaker was made; met are the names of peers that it has opened or given up since.
	begun time.Time
	met   map[string]bool

	tags   *tagger
	routes map[netip.Prefix][]tag
	// originated are the routes as they were set, nil where not all of them could be.
	originated []plan.Route
	// used are the tags of routes; statements are the export policy as gobgp has it.
	used       []tag
	statements []statement
	leave      leave
	// changed is when gobgp's routes or policies were last changed; withdrawn are the latest withdrawals. Sessions that begin may
	// have missed them.
	changed   time.Time
	withdrawn []withdrawal
	// attending is the next look at sessions that begin; nil: there are none.
	attending *time.Timer
}

// New returns a Speaker without sessions.
func New(c Config) *Speaker {
	return &Speaker{
		log: c.Log, leaveTime: c.LeaveTime, limitPause: limitPause, status: newStatusBoard(), poked: make(chan struct{}, 1),
		begun: time.Now(), met: map[string]bool{}, peers: map[string]*peer{}, paths: map[netip.Addr]Path{},
		tags: newTagger(), routes: map[netip.Prefix][]tag{},
	}
}

// Set makes the sessions and routes the wanted ones. A change of routes or of their attributes resets no session; a change
// of a peer touches that peer alone; a change of the router ID starts all sessions anew. It does not wait for sessions to
// come up: that is seen in Status.
//
// While wanted.Leaving is true no route is added. Those that routers have are sent again with the community
// GRACEFUL_SHUTDOWN (RFC 8326) and a LOCAL_PREF of 0, and withdrawn after the leave time; sessions stay.
//
// The error says what could not be done; the rest is done. Calling Set again retries.
func (s *Speaker) Set(ctx context.Context, wanted plan.BGP) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil && (len(wanted.Peers) == 0 || wanted.RouterID != s.wanted.RouterID) {
		s.stop(false)
	}
	if len(wanted.Peers) == 0 {
		clear(s.paths) // with the last peer BFD ends too
		return nil
	}
	if s.server == nil {
		if err := s.start(ctx, wanted.RouterID); err != nil {
			return fmt.Errorf("start the BGP server: %w", err)
		}
	}
	s.wanted = wanted
	// New sessions come last: they find policy and routes complete.
	var errs []error
	for _, p := range s.outdated(wanted.Peers) {
		if err := s.closePeer(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("end the session with %s: %w", p.Name, err))
		}
		s.forget(p)
		if !slices.ContainsFunc(wanted.Peers, func(w plan.Peer) bool { return samePath(p.Session, w.Session) }) {
			delete(s.paths, addressOf(p.Peer))
		}
	}
	s.adopt(wanted.Peers)
	if err := s.setRoutes(ctx, s.remaining(wanted)); err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, s.repay(ctx))
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		p := s.peers[name]
		if p.open || !s.mayOpen(p) {
			continue
		}
		if err := s.openPeer(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("open a session with %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Leave asks routers to prefer other nodes, as Set does with Leaving, and returns when they had the leave time for it, or
// when ctx ends; at once where no router has a route.
func (s *Speaker) Leave(ctx context.Context) error {
	wanted := s.lastWanted()
	wanted.Leaving = true
	err := s.Set(ctx, wanted)
	if s.leaving() && slices.ContainsFunc(s.Status(), func(st Status) bool { return st.PrefixesSent > 0 }) {
		select {
		case <-ctx.Done():
		case <-time.After(s.leaveTime):
		}
	}
	return err
}

func (s *Speaker) lastWanted() plan.BGP {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

// Close ends all sessions with a NOTIFICATION Cease: routers drop the routes at once.
func (s *Speaker) Close() { s.end(false) }

// Suspend ends the sessions as a crash would, without a NOTIFICATION, where the router agreed to keep the routes until this
// node is back (RFC 4724), and with a Cease elsewhere. The kernel is expected to go on forwarding.
func (s *Speaker) Suspend() { s.end(true) }

func (s *Speaker) end(restart bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.stop(restart)
	}
}

// outdated returns the peers that are not wanted, or not in that way.
func (s *Speaker) outdated(wanted []plan.Peer) []*peer {
	keep := map[string]bool{}
	for _, w := range wanted {
		have := s.peers[w.Name]
		keep[w.Name] = have != nil && have.Session == w.Session
	}
	var out []*peer
	for name, have := range s.peers {
		if !keep[name] {
			out = append(out, have)
		}
	}
	return out
}

// adopt makes the wanted peers the known ones. Those that stay but have another next hop are owed the routes with it.
func (s *Speaker) adopt(wanted []plan.Peer) {
	for _, w := range wanted {
		p := s.peers[w.Name]
		switch {
		case p == nil:
			p = &peer{}
			s.peers[w.Name] = p
			s.status.add(w)
		case p.NextHop4 != w.NextHop4 || p.NextHop6 != w.NextHop6:
			p.owed = true
		}
		p.Peer = w
	}
	known := map[netip.Addr]bool{}
	for _, p := range s.peers {
		known[addressOf(p.Peer)] = true
	}
	maps.DeleteFunc(s.paths, func(router netip.Addr, _ Path) bool { return !known[router] })
}

func (s *Speaker) forget(p *peer) {
	s.met[p.Name] = true
	s.status.remove(p.Peer)
	delete(s.peers, p.Name)
}
