package bgp

import (
	"context"
	"errors"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/seamark-io/seamark/speaker/plan"
)

// peer is a wanted peer and how far the session with it is.
type peer struct {
	plan.Peer
	// open is true for those that gobgp has; the others wait for BFD.
	open bool
	// extended is true when the router agreed to IPv6 next hops of IPv4 routes.
	extended bool
	// since is when the session was established that is known of; the zero time is none. early is true until gobgp takes it for
	// established too.
	since time.Time
	early bool
	// owed is true when the router is to be sent all routes once more.
	owed bool
	// pause runs while gobgp does not try because the router sent too many routes, until it is made to; nil: it tries.
	pause *time.Timer
}

func (p *peer) endPause() {
	if p.pause != nil {
		p.pause.Stop()
		p.pause = nil
	}
}

func (s *Speaker) openPeer(ctx context.Context, p *peer) error {
	if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: neighbor(p.Peer, s.restarted(p))}); err != nil {
		return err
	}
	p.open = true
	s.met[p.Name] = true
	s.status.opened(p.Peer)
	return nil
}

// restarted reports whether the router may still have the routes of an agent before this one. It keeps them no longer than
// the restart time from when it lost that agent, which was before this one began. Which peers there are is not known at
// once: some routers have to be found first.
func (s *Speaker) restarted(p *peer) bool {
	return !s.met[p.Name] && time.Since(s.begun) < time.Duration(p.Session.RestartTime)*time.Second
}

func (s *Speaker) closePeer(ctx context.Context, p *peer) error {
	p.endPause()
	if !p.open {
		return nil
	}
	p.open, p.since, p.early, p.owed = false, time.Time{}, false, false
	return s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: addressOf(p.Peer).String()})
}

// reopenLater begins anew with a router after the pause, unless something else does before.
func (s *Speaker) reopenLater(p *peer) {
	var pause *time.Timer
	pause = time.AfterFunc(s.limitPause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.pause != pause { // ended at the last moment
			return
		}
		ctx := context.Background()
		err := s.closePeer(ctx, p)
		if err := errors.Join(err, s.openPeer(ctx, p)); err != nil {
			s.log.Error("cannot try a BGP session anew", "peer", p.Name, "err", err)
		}
	})
	p.pause = pause
}
