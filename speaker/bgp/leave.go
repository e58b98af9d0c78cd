package bgp

import (
	"context"
	"slices"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// leave is how far the routes are given up. The zero value is not at all.
type leave struct {
	// timer runs from when routers were asked to prefer other nodes to when the routes are withdrawn; nil: not leaving.
	timer *time.Timer
	left  bool
}

func (l *leave) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	*l = leave{}
}

func (s *Speaker) leaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leave.timer != nil && !s.leave.left
}

// remaining returns the routes to have now.
func (s *Speaker) remaining(wanted plan.BGP) []plan.Route {
	if !wanted.Leaving {
		s.leave.stop()
		return wanted.Routes
	}
	if s.leave.timer == nil {
		s.leave.left = len(s.routes) == 0
		s.leave.timer = time.AfterFunc(s.leaveTime, s.finishLeaving)
	}
	if s.leave.left {
		return nil
	}
	var out []plan.Route
	last := map[*plan.Export][]plan.Export{}
	for _, r := range wanted.Routes {
		if _, ok := s.routes[r.Prefix]; !ok {
			continue
		}
		first := &r.Exports[0]
		if len(last[first]) != len(r.Exports) {
			last[first] = lastChoice(r.Exports)
		}
		out = append(out, plan.Route{Prefix: r.Prefix, Exports: last[first]})
	}
	return out
}

// lastChoice returns exports that routers use only where they have nothing else: GRACEFUL_SHUTDOWN for eBGP, the lowest
// LOCAL_PREF for iBGP (RFC 8326 section 4).
func lastChoice(exports []plan.Export) []plan.Export {
	out := slices.Clone(exports)
	for i := range out {
		a := *out[i].Attributes
		if !slices.Contains(a.Communities, cluster.GracefulShutdown) {
			a.Communities = append(slices.Clone(a.Communities), cluster.GracefulShutdown)
		}
		a.LocalPref = new(uint32)
		out[i].Attributes = &a
	}
	return out
}

func (s *Speaker) finishLeaving() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil || s.leave.timer == nil || s.leave.left {
		return
	}
	s.leave.left = true
	if err := s.setRoutes(context.Background(), nil); err != nil {
		s.log.Error("cannot withdraw the routes of a node that leaves", "err", err)
	}
}
