package bgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
)

// gobgp 4.8 dumps its table to a session that has come up, tells that it is established, lets go of its lock, and only then
// takes it for established itself (pkg/server/server.go, handleFSMMessage, and fsm.go, loop). What it is asked to do in
// between is neither in the dump nor sent, without a word: the router would be without a route, or have one that is gone,
// for as long as the session lasts. So a session is early until gobgp says, when it is asked, that it is established; who
// was early while routes changed is sent them again.

// recall is how long withdrawals are remembered: gobgp's word that a session was established comes within milliseconds.
const recall = 10 * time.Second

// The time between two looks whether gobgp takes early sessions for established doubles from attendMin to attendMax.
const (
	attendMin = 10 * time.Millisecond
	attendMax = time.Second
)

// withdrawal is what was withdrawn at once, and when that was over.
type withdrawal struct {
	at       time.Time
	prefixes []netip.Prefix
}

// follow does what the states of sessions ask for.
func (s *Speaker) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.poked:
			s.catchUp(ctx)
		}
	}
}

// catchUp attends to sessions that have begun. It opens IPv4 to routers that just agreed to IPv6 next hops, and closes it to
// those that are gone: what was not negotiated must not be sent (RFC 8950 section 4). Routers that sent too many routes are
// tried again later.
func (s *Speaker) catchUp(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil || ctx.Err() != nil {
		return
	}
	changed := false
	for _, p := range s.peers {
		now := s.status.asks(addressOf(p.Peer))
		switch {
		case now.limited && p.pause == nil:
			s.reopenLater(p)
		case !now.limited:
			p.endPause()
		}
		if !now.since.Equal(p.since) {
			p.since, p.early = now.since, !now.since.IsZero()
		}
		if now.extended != p.extended {
			changed = true
			p.extended = now.extended
			p.owed = p.owed || now.extended && p.Session.ExtendedNextHop
		}
	}
	if changed {
		if err := s.setPolicies(ctx, s.used); err != nil {
			s.log.Error("cannot set the BGP policies", "err", err)
		}
	}
	s.attend(ctx, attendMin)
}

// attend sends what they are owed to routers whose sessions gobgp takes for established by now, and looks again after a
// while as long as there are others.
func (s *Speaker) attend(ctx context.Context, delay time.Duration) {
	if s.attending != nil {
		s.attending.Stop()
		s.attending = nil
	}
	err := s.settleEarly(ctx)
	if err := errors.Join(err, s.repay(ctx)); err != nil {
		s.log.Error("cannot send BGP routes again", "err", err)
	}
	if !s.anyEarly() {
		return
	}
	s.attending = time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.server != nil && ctx.Err() == nil {
			s.attend(ctx, min(2*delay, attendMax))
		}
	})
}

func (s *Speaker) anyEarly() bool {
	for _, p := range s.peers {
		if p.early {
			return true
		}
	}
	return false
}

// settleEarly finds the early sessions that are not early any more and works out what their routers are owed.
func (s *Speaker) settleEarly(ctx context.Context) error {
	if !s.anyEarly() {
		return nil
	}
	var settled []*peer
	var lost []netip.Prefix
	err := s.server.ListPeer(ctx, &api.ListPeerRequest{}, func(n *api.Peer) {
		p := s.peers[n.GetConf().GetDescription()]
		if p != nil && p.early && n.GetState().GetSessionState() == api.PeerState_SESSION_STATE_ESTABLISHED {
			settled = append(settled, p)
			lost = append(lost, s.withdrawnSince(p.since)...)
		}
	})
	if err != nil {
		return err
	}
	if err := s.withdrawAgain(lost); err != nil {
		return err
	}
	for _, p := range settled {
		p.early = false
		p.owed = p.owed || s.changed.After(p.since)
	}
	return nil
}

// repay sends all routes once more to routers that are owed that. One without a session gets them when it has one; an early
// one has to wait. What fails is still owed.
func (s *Speaker) repay(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.peers)) {
		p := s.peers[name]
		switch {
		case !p.owed || p.early:
			continue
		case !p.since.IsZero():
			if err := s.resend(ctx, p); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		p.owed = false
	}
	return errors.Join(errs...)
}

// resend sends all routes to the peer once more, as the policy now has them, and withdraws those that it rejects.
func (s *Speaker) resend(ctx context.Context, p *peer) error {
	err := s.server.ResetPeer(ctx, &api.ResetPeerRequest{
		Address: addressOf(p.Peer).String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT,
	})
	if err != nil {
		return fmt.Errorf("send the routes to %s again: %w", p.Name, err)
	}
	return nil
}

// withdrawnSince returns what was withdrawn after an instant and is not originated again.
func (s *Speaker) withdrawnSince(t time.Time) []netip.Prefix {
	var out []netip.Prefix
	for _, w := range s.withdrawn {
		if !w.at.After(t) {
			continue
		}
		for _, prefix := range w.prefixes {
			if _, ok := s.routes[prefix]; !ok {
				out = append(out, prefix)
			}
		}
	}
	return out
}

// withdrawAgain tells all routers that there are no such routes. gobgp withdraws only what it has, so it gets them first,
// without a tag, with which no router is told of them.
func (s *Speaker) withdrawAgain(prefixes []netip.Prefix) error {
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	for batch := range slices.Chunk(slices.Compact(prefixes), batchSize) {
		paths := make([]*apiutil.Path, 0, len(batch))
		for _, prefix := range batch {
			p, err := path(prefix, nil)
			if err != nil {
				return err
			}
			paths = append(paths, p)
		}
		if _, err := s.server.AddPath(apiutil.AddPathRequest{Paths: paths}); err != nil {
			return fmt.Errorf("withdraw routes again: %w", err)
		}
		if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: paths}); err != nil {
			return fmt.Errorf("withdraw routes again: %w", err)
		}
	}
	return nil
}

// forgetWithdrawn forgets withdrawals that no session can have missed.
func (s *Speaker) forgetWithdrawn() {
	until := time.Now().Add(-recall)
	for _, p := range s.peers {
		if p.early && p.since.Before(until) {
			until = p.since
		}
	}
	s.withdrawn = slices.DeleteFunc(s.withdrawn, func(w withdrawal) bool { return w.at.Before(until) })
}
