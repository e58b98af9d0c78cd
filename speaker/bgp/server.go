package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/config/oc"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/seamark-io/seamark/speaker/plan"
)

// start runs a gobgp server that neither listens nor offers gRPC, and follows its sessions.
func (s *Speaker) start(ctx context.Context, routerID netip.Addr) error {
	srv := server.NewBgpServer(server.LoggerOption(slog.New(newTap(s.log.Handler(), s.status)), nil))
	go srv.Serve()
	// The families that a peer may have. Where they are not named gobgp keeps tables for all that it knows, 11 MB of empty ones.
	tables := []uint32{
		uint32(oc.AfiSafiTypeToIntMap[oc.AFI_SAFI_TYPE_IPV4_UNICAST]), //nolint:gosec // small
		uint32(oc.AfiSafiTypeToIntMap[oc.AFI_SAFI_TYPE_IPV6_UNICAST]), //nolint:gosec // small
	}
	err := srv.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn:        globalASN,
		RouterId:   routerID.String(),
		ListenPort: -1,
		Families:   tables,
	}})
	if err != nil {
		return err
	}
	if err := startPolicies(ctx, srv); err != nil {
		srv.Stop()
		return err
	}
	follow, cancel := context.WithCancel(context.Background())
	err = srv.WatchEvent(follow, server.WatchEventMessageCallbacks{OnPeerUpdate: s.peerEvent}, server.WatchPeer())
	if err != nil {
		cancel()
		srv.Stop()
		return err
	}
	go s.follow(follow)
	s.server, s.unwind = srv, cancel
	return nil
}

// startPolicies takes in nothing and sends nothing but what the export policy lets out.
func startPolicies(ctx context.Context, srv *server.BgpServer) error {
	if err := srv.SetPolicies(ctx, policies(nil)); err != nil {
		return err
	}
	for direction, policies := range map[api.PolicyDirection][]*api.Policy{
		api.PolicyDirection_POLICY_DIRECTION_IMPORT: {{Name: importName}},
		api.PolicyDirection_POLICY_DIRECTION_EXPORT: {{Name: exportName}},
	} {
		err := srv.AddPolicyAssignment(ctx, &api.AddPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: globalTable, Direction: direction, Policies: policies, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// settleTime bounds settle. An attempt to connect ends at once when it is told to.
const settleTime = time.Second

// settle ends the attempts to connect and waits until they ended: gobgp 4.8's StopBgp clears the configuration that they
// read, without a lock, when they make an OPEN or check one (pkg/server/fsm.go, outgoingConnManager.run and handleOpen).
// Sessions that are established stay as they are.
func (s *Speaker) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	asked := map[string]bool{}
	for {
		var trying []string
		err := s.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
			state := p.GetState()
			over := state.GetSessionState() == api.PeerState_SESSION_STATE_IDLE && state.GetAdminState() == api.PeerState_ADMIN_STATE_DOWN
			if !over && state.GetSessionState() != api.PeerState_SESSION_STATE_ESTABLISHED {
				trying = append(trying, p.GetConf().GetNeighborAddress())
			}
		})
		if err != nil || len(trying) == 0 {
			return
		}
		for _, address := range trying {
			if !asked[address] {
				asked[address] = s.server.DisablePeer(ctx, &api.DisablePeerRequest{Address: address}) == nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *Speaker) stop(restart bool) {
	s.settle()
	if restart {
		if err := s.server.StopBgp(context.Background(), &api.StopBgpRequest{AllowGracefulRestart: true}); err != nil {
			s.log.Warn("the BGP sessions did not end in order", "err", err)
		}
	} else {
		s.server.Stop()
	}
	s.unwind()
	s.server = nil
	for _, p := range s.peers {
		p.endPause()
		s.status.remove(p.Peer)
	}
	if s.attending != nil {
		s.attending.Stop()
	}
	s.leave.stop()
	s.wanted, s.used, s.statements, s.originated, s.withdrawn, s.attending = plan.BGP{}, nil, nil, nil, nil, nil
	clear(s.peers)
	clear(s.routes)
}

// peerEvent takes gobgp's word that a session went to another state. gobgp waits for it, so it calls nothing.
func (s *Speaker) peerEvent(e *apiutil.WatchEventMessage_PeerEvent, at time.Time) {
	s.status.peerEvent(e, at)
	select {
	case s.poked <- struct{}{}:
	default:
	}
}
