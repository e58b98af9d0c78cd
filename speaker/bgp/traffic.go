package bgp

import (
	"context"

	"github.com/osrg/gobgp/v4/api"
)

// Traffic counts what went over the sessions with a peer since gobgp was last given the peer: when its Session changed, when
// BFD ended it, or after the pause for too many routes.
type Traffic struct {
	Peer                           string
	UpdatesSent, UpdatesReceived   uint64
	MessagesSent, MessagesReceived uint64
	// Prefixes4 and Prefixes6 are what the router has sent of each family and not withdrawn.
	Prefixes4, Prefixes6 uint64
}

// Traffic returns the counts of all peers that sessions are tried with.
func (s *Speaker) Traffic() []Traffic {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	var out []Traffic
	err := s.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		m := p.GetState().GetMessages()
		t := Traffic{
			Peer:             p.GetConf().GetDescription(),
			UpdatesSent:      m.GetSent().GetUpdate(),
			UpdatesReceived:  m.GetReceived().GetUpdate(),
			MessagesSent:     m.GetSent().GetTotal(),
			MessagesReceived: m.GetReceived().GetTotal(),
		}
		for _, f := range p.GetAfiSafis() {
			switch f.GetConfig().GetFamily().GetAfi() {
			case api.Family_AFI_IP:
				t.Prefixes4 = f.GetState().GetReceived()
			case api.Family_AFI_IP6:
				t.Prefixes6 = f.GetState().GetReceived()
			}
		}
		out = append(out, t)
	})
	if err != nil {
		s.log.Debug("cannot list the BGP peers", "err", err)
	}
	return out
}
