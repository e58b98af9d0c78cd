package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/speaker/bfd"
	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/bgp"
	"github.com/seamark-io/seamark/speaker/plan"
)

// bfdSessions returns the BFD sessions with the routers of peers that want them.
func bfdSessions(b plan.BGP) []bfd.Session {
	var out []bfd.Session
	for i := range b.Peers {
		p := &b.Peers[i]
		if !p.BFD.Enabled {
			continue
		}
		router := p.Session.Address.Addr()
		out = append(out, bfd.Session{
			Peer: router.WithZone(""), Interface: router.Zone(), Local: p.Session.Source.WithZone(""),
			MinTx: p.BFD.MinTx, MinRx: p.BFD.MinRx, Multiplier: p.BFD.Multiplier,
		})
	}
	return out
}

// followPaths tells BGP what BFD says of the paths to routers, until ctx ends. It waits for nothing else.
func (s *Speaker) followPaths(ctx context.Context) {
	seen := downs{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.bfd.Changed():
		}
		for _, w := range seen.look(s.bfd.Status()) {
			s.bgp.SetPath(w.router, w.path)
		}
		signal(s.observed)
	}
}

// word is what BFD says of the path to a router.
type word struct {
	router netip.Addr
	path   bgp.Path
}

// downs are how often each BFD session had gone down when it was looked at, by router.
type downs map[netip.Addr]uint64

// look returns what BFD says by now, to be told in this order: also of a path that was down between two looks, and of
// routers that there is no BFD session with any more, of which it says nothing.
func (d downs) look(sessions []bfd.Status) []word {
	var out []word
	there := map[netip.Addr]bool{}
	for _, st := range sessions {
		router := routerOf(st.Session)
		there[router] = true
		if st.Downs > d[router] && st.State == packet.Up {
			out = append(out, word{router, bgp.PathDown})
		}
		d[router] = st.Downs
		out = append(out, word{router, pathOf(st)})
	}
	for _, router := range slices.SortedFunc(maps.Keys(d), netip.Addr.Compare) {
		if !there[router] {
			delete(d, router)
			out = append(out, word{router, bgp.PathUnknown})
		}
	}
	return out
}

// routerOf returns the router as BGP has it: an IPv6 address with the interface, where one is given.
func routerOf(s bfd.Session) netip.Addr {
	if s.Peer.Is6() {
		return s.Peer.WithZone(s.Interface)
	}
	return s.Peer
}

func pathOf(st bfd.Status) bgp.Path {
	switch {
	case st.State == packet.Up:
		return bgp.PathUp
	case st.Failed:
		return bgp.PathDown
	default:
		return bgp.PathUnknown
	}
}

// bfdWords says how a BFD session is: its state, and for how long the router lets this node be silent, or why it is not up
// where that is known.
func bfdWords(st bfd.Status) string {
	text := st.State.String()
	switch {
	case st.State == packet.Up:
		text += fmt.Sprintf(" (%d x %v)", st.Session.Multiplier, st.TxInterval)
	case st.Problem != "":
		text += " (" + st.Problem + ")"
	case st.Diag != 0:
		text += " (" + st.Diag.String() + ")"
	}
	return text
}
