package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/seamark-io/seamark/speaker/plan"
)

// Speaker holds the sessions. Its methods may be called from any goroutine.
type Speaker struct {
	log    *slog.Logger
	status *statusBoard

	mu sync.Mutex
	// server is nil while there are no peers.
	server *server.BgpServer
	unwind context.CancelFunc

	routerID netip.Addr
	peers    map[string]plan.Peer
	routes   map[netip.Prefix]plan.Route
	// tags number the peers by name: a route carries the tags of the peers that get it, and the export policy looks for
	// them. A number is never given to another name.
	tags map[string]uint32
}

// New returns a Speaker without sessions. gobgp's messages go to the log: that a
// session came up or was lost as info, what went wrong as gobgp ranks it, the rest as debug.
func New(log *slog.Logger) *Speaker {
	return &Speaker{log: log, status: newStatusBoard(), peers: map[string]plan.Peer{}, routes: map[netip.Prefix]plan.Route{}, tags: map[string]uint32{}}
}

// Set makes the sessions and routes the wanted ones. A change of routes resets no session; a change of a peer touches that
// peer alone; a change of the router ID starts all sessions anew. It does not wait for sessions to come up: that is seen in
// Status.
//
// The error says what could not be done; the rest is done. Calling Set again retries.
func (s *Speaker) Set(ctx context.Context, wanted plan.BGP) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil && (len(wanted.Peers) == 0 || wanted.RouterID != s.routerID) {
		s.stop()
	}
	if len(wanted.Peers) == 0 {
		return nil
	}
	if s.server == nil {
		if err := s.start(ctx, wanted.RouterID); err != nil {
			return fmt.Errorf("start the BGP server: %w", err)
		}
	}
	// New sessions come last: they find policy and routes complete.
	var errs []error
	gone, added := s.diffPeers(wanted.Peers)
	for _, p := range gone {
		if err := s.deletePeer(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("end the session with %s: %w", p.Name, err))
		}
	}
	moved := s.adopt(wanted.Peers)
	if err := s.server.SetPolicies(ctx, policies(s.peers, s.tags)); err != nil {
		return errors.Join(append(errs, fmt.Errorf("set the policies: %w", err))...)
	}
	if err := s.setRoutes(wanted.Routes); err != nil {
		errs = append(errs, err)
	}
	for _, p := range moved { // send again with the new next hop
		if err := s.server.ResetPeer(ctx, &api.ResetPeerRequest{Address: addressOf(p).String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT}); err != nil {
			errs = append(errs, fmt.Errorf("send the routes to %s again: %w", p.Name, err))
		}
	}
	for _, p := range added {
		s.status.add(p)
		if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: neighbor(p)}); err != nil {
			errs = append(errs, fmt.Errorf("open a session with %s: %w", p.Name, err))
			delete(s.peers, p.Name)
			s.status.remove(p)
		}
	}
	s.status.setRoutes(wanted.Routes)
	return errors.Join(errs...)
}

// Close ends all sessions with a NOTIFICATION Cease: routers drop the routes at once.
func (s *Speaker) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.stop()
	}
}

func (s *Speaker) start(ctx context.Context, routerID netip.Addr) error {
	srv := server.NewBgpServer(server.LoggerOption(slog.New(newTap(s.log.Handler(), s.status)), nil))
	go srv.Serve()
	err := srv.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn:        globalASN,
		RouterId:   routerID.String(),
		ListenPort: -1,
	}})
	if err != nil {
		return err
	}
	if err := startPolicies(ctx, srv); err != nil {
		srv.Stop()
		return err
	}
	watch, cancel := context.WithCancel(context.Background())
	err = srv.WatchEvent(watch, server.WatchEventMessageCallbacks{OnPeerUpdate: s.status.peerEvent}, server.WatchPeer())
	if err != nil {
		cancel()
		srv.Stop()
		return err
	}
	s.server, s.unwind, s.routerID = srv, cancel, routerID
	return nil
}

// startPolicies takes in nothing and sends nothing but what the export policy lets out.
func startPolicies(ctx context.Context, srv *server.BgpServer) error {
	if err := srv.SetPolicies(ctx, policies(nil, nil)); err != nil {
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

func (s *Speaker) stop() {
	s.server.Stop()
	s.unwind()
	s.server = nil
	for _, p := range s.peers {
		s.status.remove(p)
	}
	clear(s.peers)
	clear(s.routes)
}

// diffPeers returns the sessions to end and those to open.
func (s *Speaker) diffPeers(wanted []plan.Peer) (gone, added []plan.Peer) {
	keep := map[string]bool{}
	for _, w := range wanted {
		if have, ok := s.peers[w.Name]; ok && have.Session == w.Session {
			keep[w.Name] = true
		} else {
			added = append(added, w)
		}
	}
	for name, have := range s.peers {
		if !keep[name] {
			gone = append(gone, have)
		}
	}
	return gone, added
}

// adopt makes the wanted peers the known ones and returns those that stay but have another next hop.
func (s *Speaker) adopt(wanted []plan.Peer) (moved []plan.Peer) {
	for _, w := range wanted {
		if have, ok := s.peers[w.Name]; ok && have != w {
			moved = append(moved, w)
		}
		if s.tags[w.Name] == 0 {
			s.tags[w.Name] = uint32(len(s.tags) + 1)
		}
		s.peers[w.Name] = w
	}
	return moved
}

func (s *Speaker) deletePeer(ctx context.Context, p plan.Peer) error {
	delete(s.peers, p.Name)
	s.status.remove(p)
	return s.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: addressOf(p).String()})
}

// batchSize bounds how long gobgp is kept from its sessions' keepalives.
const batchSize = 1000

// setRoutes withdraws what is not wanted and originates what is new or changed.
func (s *Speaker) setRoutes(wanted []plan.Route) error {
	var gone, changed []*apiutil.Path
	keep := map[netip.Prefix]bool{}
	for _, r := range wanted {
		keep[r.Prefix] = true
	}
	for prefix, have := range s.routes {
		if !keep[prefix] {
			p, err := path(have, s.tags)
			if err != nil {
				return err
			}
			p.Withdrawal = true
			gone = append(gone, p)
		}
	}
	for _, r := range wanted {
		if have, ok := s.routes[r.Prefix]; ok && have.Equal(r) {
			continue
		}
		p, err := path(r, s.tags)
		if err != nil {
			return err
		}
		changed = append(changed, p)
	}
	for batch := range slices.Chunk(gone, batchSize) {
		if err := s.server.DeletePath(apiutil.DeletePathRequest{Paths: batch}); err != nil {
			return fmt.Errorf("withdraw %d routes: %w", len(gone), err)
		}
	}
	for batch := range slices.Chunk(changed, batchSize) {
		if _, err := s.server.AddPath(apiutil.AddPathRequest{Paths: batch}); err != nil {
			return fmt.Errorf("originate %d routes: %w", len(changed), err)
		}
	}
	clear(s.routes)
	for _, r := range wanted {
		s.routes[r.Prefix] = r
	}
	return nil
}
