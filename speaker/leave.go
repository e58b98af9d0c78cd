package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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

// handOver has the other nodes of the segments take over what this one has, and answers until each of them asks.
type handOver struct {
	segments holder
	l2       answerer
	// plan returns the plan of a node that drains, and the keys for heartbeats; false if there is nothing to make it of.
	plan func() (plan.Plan, *cluster.HeartbeatKeys, bool)
	// changed receives when plan may return another one although the segments are as they were.
	changed <-chan struct{}
	log     *slog.Logger
}

// holder is what hands over: the driver of the segments.
type holder interface {
	SetDraining(draining bool)
	Set(lans []plan.LAN, wanted []plan.L2, keys *cluster.HeartbeatKeys) error
	Holds() []netip.Addr
	Changed() <-chan struct{}
	Lost() <-chan struct{}
}

// answerer is what answers for addresses meanwhile.
type answerer interface {
	Set(ctx context.Context, wanted []plan.L2, near plan.Neighbours) error
}

// run ends when nothing is left that others could have, after handOverTime at the latest. What cannot be done keeps it from
// nothing else: some errors come with every Set, such as one about a key that is left out, some with one that has worked.
func (h *handOver) run(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	h.segments.SetDraining(true)
	for told := false; ; {
		held := h.segments.Holds()
		p, keys, ok := h.plan()
		if len(held) == 0 || !ok {
			return
		}
		err := errors.Join(h.segments.Set(p.LANs, p.L2, keys), h.l2.Set(ctx, p.L2, p.Neighbours))
		if err != nil && !told {
			h.log.Warn("not everything can be done while addresses are handed over", "err", err)
			told = true
		}
		left := awaited(held, p.L2)
		if left == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-h.segments.Changed():
		case <-h.segments.Lost():
		case <-h.changed:
		}
		if !sleep(ctx, minInterval) {
			h.log.Warn("the other nodes have not taken over all addresses in time", "timeout", handOverTime, "addresses", left)
			return
		}
	}
}

// awaited returns how many of the held addresses are to be another node's. That takes in those that are let go of just now:
// nobody else has them yet.
func awaited(held []netip.Addr, wanted []plan.L2) int {
	alone := map[netip.Addr]bool{}
	for i := range wanted {
		if wanted[i].Kind == plan.Alone {
			alone[wanted[i].Addr] = true
		}
	}
	n := 0
	for _, a := range held {
		if !alone[a] {
			n++
		}
	}
	return n
}

// handOver runs a handOver, while the cluster may go on changing.
func (s *Speaker) handOver(ctx context.Context) {
	h := handOver{
		segments: s.segments, l2: s.l2, changed: s.cfg.Source.Changed(), log: s.cfg.Log,
		plan: func() (plan.Plan, *cluster.HeartbeatKeys, bool) {
			snap, ifaces := s.cfg.Source.Snapshot(), s.links.Interfaces()
			if snap == nil || ifaces == nil {
				return plan.Plan{}, nil, false
			}
			facts := s.facts(snap, ifaces, time.Now())
			facts.Draining = true
			return plan.Build(snap, facts), snap.Heartbeat, true
		},
	}
	h.run(ctx)
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
