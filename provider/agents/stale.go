package agents

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// watch remembers since when each Lease has been as it is. The times in Leases are of other machines' clocks: they do not
// matter.
type watch struct {
	seen map[string]sighting
	last time.Time
}

type sighting struct {
	version string
	since   time.Time
}

// stale returns the Leases that have not been renewed for their duration, as far as could be seen: where there was a
// time in which nobody looked, as when the API server was away, agents could not renew either, and all begin anew.
func (w *watch) stale(now time.Time, leases []coordinationv1.Lease) []*coordinationv1.Lease {
	blind := now.Sub(w.last) > 2*interval
	w.last = now
	seen := make(map[string]sighting, len(leases))
	var out []*coordinationv1.Lease
	for i := range leases {
		l := &leases[i]
		s, ok := w.seen[l.Name]
		if !ok || blind || s.version != l.ResourceVersion {
			s = sighting{l.ResourceVersion, now}
		}
		seen[l.Name] = s
		if now.Sub(s.since) >= v1alpha1.AgentLeaseDuration {
			out = append(out, l)
		}
	}
	w.seen = seen
	return out
}
