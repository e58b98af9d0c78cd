package speaker

import (
	"context"
	"net/netip"

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
	downs := map[netip.Addr]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.bfd.Changed():
		}
		for _, st := range s.bfd.Status() {
			router := routerOf(st.Session)
			if st.Downs > downs[router] && st.State == packet.Up {
				s.bgp.SetPath(router, bgp.PathDown) // it was, between two looks
			}
			downs[router] = st.Downs
			s.bgp.SetPath(router, pathOf(st))
		}
		signal(s.observed)
	}
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

// bfdWords says how a BFD session is: its state, and why it is not up where that is known.
func bfdWords(st bfd.Status) string {
	text := st.State.String()
	switch {
	case st.State == packet.Up:
	case st.Problem != "":
		text += " (" + st.Problem + ")"
	case st.Diag != 0:
		text += " (" + st.Diag.String() + ")"
	}
	return text
}
