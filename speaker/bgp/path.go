package bgp

import (
	"context"
	"net/netip"

	"github.com/seamark-io/seamark/speaker/plan"
)

// Path is what BFD (RFC 5880) says of the path to a router.
type Path uint8

// The states of a path. PathUnknown: nothing has been heard yet, there is no BFD session (any more), or the router does not
// take part, its state being AdminDown.
const (
	PathUnknown Path = iota
	PathUp
	PathDown
)

// SetPath tells the state of the path to a router, by the address of plan.Session; it is for who runs the BFD sessions of the
// peers that have BFD.Enabled, and may be called as often as one likes with the same state.
//
// A path that goes down after it was up takes the session down at once with a Cease, so that a router which has not noticed
// yet drops the routes as well (RFC 5882 section 4.2). The session is tried anew right away, from the beginning: a path that
// stays down is seen by TCP, and a BFD session that does not come back is no reason to be without BGP for ever. With
// BFD.Strict there is no session, and no attempt at one, until the path is up.
func (s *Speaker) SetPath(router netip.Addr, now Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.paths[router]
	s.paths[router] = now
	if s.server == nil || before == now {
		return
	}
	ctx := context.Background()
	for _, p := range s.peers {
		if addressOf(p.Peer) != router || !p.BFD.Enabled {
			continue
		}
		if before == PathUp && now == PathDown && p.open {
			if err := s.closePeer(ctx, p); err != nil {
				s.log.Error("cannot end the BGP session of a path that is down", "peer", p.Name, "err", err)
			}
			s.status.pathDown(p.Peer)
		}
		if !p.open && s.mayOpen(p) {
			if err := s.openPeer(ctx, p); err != nil {
				s.log.Error("cannot open a BGP session", "peer", p.Name, "err", err)
			}
		}
	}
}

// samePath reports whether two sessions have one BFD session, which goes on when the one is replaced by the other. What BFD
// said then still holds; of another path it is yet to be heard.
func samePath(a, b plan.Session) bool {
	return a.Address.Addr() == b.Address.Addr() && a.Source == b.Source
}

// mayOpen reports whether a session with the peer may be tried.
func (s *Speaker) mayOpen(p *peer) bool {
	if p.BFD.Enabled && p.BFD.Strict && s.paths[addressOf(p.Peer)] != PathUp {
		s.status.waitsForPath(p.Peer)
		return false
	}
	return true
}
