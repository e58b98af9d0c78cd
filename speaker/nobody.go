package speaker

import (
	"context"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/speaker/plan"
)

const (
	// nobodyGrace is how long nobody may announce a VIP before that is told: pods take a while to start.
	nobodyGrace = 10 * time.Second
	// nobodyPause is the least time between two of these Events of a node: ten thousand Services without pods are one mistake.
	nobodyPause = time.Second
	// nobodyMax is the longest time until it is looked again whether another node still announces what this one cannot.
	nobodyMax = 10 * time.Minute
)

// nobodyTeller remembers the VIPs that no node announces, as far as this node can know, if this node is the one to tell.
type nobodyTeller struct {
	silences map[netip.Addr]silence
	// told is when the last of them was told.
	told time.Time
	// elsewhere are the VIPs that other nodes announced, as their status said when it was read.
	elsewhere map[netip.Addr]bool
	read      time.Time
}

// silence is why nobody announces a VIP.
type silence struct {
	reason plan.Reason
	// at is when to tell, or to look again; after that it takes twice as long as it took.
	at   time.Time
	wait time.Duration
	told bool
}

// tellNobody tells, once for each reason, why no node announces a VIP, if that lasts. A node cannot see everything that
// another can do (the other may be on a segment that this one is not on), so it reads first who announces what. It returns
// after how long it has more to tell; 0: not at all.
func (r *reporter) tellNobody(ctx context.Context, o observation, now time.Time) (again time.Duration) {
	n := &r.nobody
	if n.silences == nil {
		n.silences = map[netip.Addr]silence{}
	}
	for addr := range n.silences {
		if v := o.vip(addr); v == nil || v.nobody.Code == "" {
			delete(n.silences, addr)
		}
	}
	var due []netip.Addr
	for i := range o.vips {
		v, addr := &o.vips[i], o.vips[i].addr
		if v.nobody.Code == "" {
			continue
		}
		s, known := n.silences[addr]
		if !known || s.reason != v.nobody {
			s = silence{reason: v.nobody, at: now.Add(nobodyGrace), wait: nobodyGrace}
			n.silences[addr] = s
		}
		switch wait := s.at.Sub(now); {
		case s.told:
		case wait > 0:
			again = sooner(again, wait)
		default:
			due = append(due, addr)
		}
	}
	if len(due) > 0 && now.Sub(n.read) >= nobodyGrace {
		elsewhere, err := r.readElsewhere(ctx, o.ready)
		if err != nil {
			return sooner(again, retryMin) // an Event could not be written either
		}
		n.elsewhere, n.read = elsewhere, now
	}
	for _, addr := range due {
		s := n.silences[addr]
		switch wait := n.told.Add(nobodyPause).Sub(now); {
		case n.elsewhere[addr]:
			s.wait = min(2*s.wait, nobodyMax)
			s.at = now.Add(s.wait)
			again = sooner(again, s.wait)
		case wait > 0:
			again = sooner(again, wait)
		default:
			s.told, n.told = true, now
			r.event(&o, o.vip(addr), corev1.EventTypeWarning, ReasonNotAnnounced, "%s is not announced: %s", addr, s.reason.Text)
		}
		n.silences[addr] = s
	}
	return again
}

// readElsewhere returns the VIPs that other nodes announce, of those that are ready: one that is not may have left its entry
// behind.
func (r *reporter) readElsewhere(ctx context.Context, ready map[string]bool) (map[netip.Addr]bool, error) {
	vips, err := r.cfg.Seamark.VIPs.List(ctx, metav1.ListOptions{ResourceVersion: "0"}) // from the API server's memory
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]bool{}
	for i := range vips.Items {
		for _, a := range vips.Items[i].Status.Announcers {
			if a.Node == r.cfg.Node || !ready[a.Node] {
				continue
			}
			if addr, err := netip.ParseAddr(vips.Items[i].Spec.Address); err == nil {
				out[addr] = true
			}
		}
	}
	return out, nil
}
