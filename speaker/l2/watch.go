package l2

import (
	"context"
	"net/netip"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/plan"
)

// watch looks, beside the reply path, at stations that use addresses which are ours: it tells nodes of the cluster from
// strangers, remembers those, and defends the address against them.
type watch struct {
	link     plan.Link
	siblings *siblings
	seen     *duplicates
	stats    *counters
	// news is called when there is a duplicate that was not there before, or one has gone.
	news   func()
	defend func(netip.Addr)
	// suspects wait to be looked at; what does not fit is not missed: strangers that matter come again.
	suspects chan respond.Decision
}

// suspect hands over a frame's decision. It does not wait.
func (w *watch) suspect(d respond.Decision) {
	select {
	case w.suspects <- d:
	default:
		w.stats.dropped[respond.Conflict].Add(1)
	}
}

// run looks at suspects until ctx ends.
func (w *watch) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-w.suspects:
			w.look(d, time.Now())
		}
	}
}

func (w *watch) look(d respond.Decision, now time.Time) {
	mac := plan.MAC(d.MAC)
	if w.siblings.has(w.link.Index, mac, now) {
		w.stats.dropped[respond.Sibling].Add(1)
		return
	}
	w.stats.dropped[respond.Conflict].Add(1)
	news, defend := w.seen.saw(d.Addr, mac, w.link.Name, now)
	if news {
		w.news()
	}
	if defend {
		w.defend(d.Addr)
	}
}
