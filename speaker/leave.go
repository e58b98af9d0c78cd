package speaker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/bgp"
	"github.com/seamark-io/seamark/speaker/plan"
)

// DefaultLeaveTime is usual for Config.LeaveTime.
const DefaultLeaveTime = bgp.DefaultLeaveTime

// DrainPolicy says when the end of the agent is the end of its routes.
type DrainPolicy string

// The policies.
const (
	// DrainAuto: when the node is leaving service: it is cordoned, excluded or not ready. Otherwise the agent is expected
	// back.
	DrainAuto   DrainPolicy = "auto"
	DrainAlways DrainPolicy = "always"
	DrainNever  DrainPolicy = "never"
)

// ParseDrainPolicy reads a policy.
func ParseDrainPolicy(s string) (DrainPolicy, error) {
	switch p := DrainPolicy(s); p {
	case DrainAuto, DrainAlways, DrainNever:
		return p, nil
	default:
		return "", fmt.Errorf("%q is not one of auto, always, never", s)
	}
}

// drains reports whether the agent of a node ends for good, as far as the policy goes.
func (p DrainPolicy) drains(n *cluster.Node) bool {
	switch p {
	case DrainAlways:
		return true
	case DrainNever:
		return false
	default:
		return n != nil && (n.Unschedulable || n.Excluded || !n.Ready)
	}
}

// handOverTime is how long other nodes are given to take over what this one answers for: some times what they need.
const handOverTime = 2 * time.Second

// handOver has the other nodes of the segments take over what this one has, and answers until each of them asks. It ends when
// nothing is left that others could have.
func (s *Speaker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	s.segments.SetDraining(true)
	for {
		snap, ifaces := s.cfg.Source.Snapshot(), s.links.Interfaces()
		if held, others := s.segments.Holds(); held == 0 || !others || snap == nil || ifaces == nil {
			return
		}
		facts := s.facts(snap, ifaces, time.Now())
		facts.Draining = true
		p := plan.Build(snap, facts)
		if err := errors.Join(s.segments.Set(p.LANs, p.L2, snap.Heartbeat), s.l2.Set(ctx, p.L2, p.Neighbours)); err != nil {
			s.cfg.Log.Warn("addresses could not be handed over", "err", err)
			return
		}
		select {
		case <-ctx.Done():
			s.cfg.Log.Warn("the other nodes have not taken over all addresses in time", "timeout", handOverTime)
			return
		case <-s.segments.Changed():
		case <-s.segments.Lost():
		}
		if !sleep(ctx, minInterval) {
			return
		}
	}
}

// leaveRouters ends the BGP sessions. If the agent ends for good, routers are asked to prefer other nodes (RFC 8326), get time
// for it and then a Cease; otherwise they keep the routes until the agent is back (RFC 4724), because the kernel forwards
// without it.
func (s *Speaker) leaveRouters() {
	var node *cluster.Node
	if snap := s.cfg.Source.Snapshot(); snap != nil {
		node = snap.Nodes[s.cfg.Node]
	}
	if !s.cfg.Drain.drains(node) {
		s.bgp.Suspend()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.LeaveTime+time.Second)
	defer cancel()
	if err := s.bgp.Leave(ctx); err != nil {
		s.cfg.Log.Warn("routers could not be asked to prefer other nodes", "err", err)
	}
	s.bgp.Close()
}
