package speaker

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

const (
	// nobodyGrace is how long nobody may announce a VIP before that is told: pods take a while to start.
	nobodyGrace = 10 * time.Second
	// nobodyPause is the least time between two of these Events of a node: ten thousand Services without pods are one mistake.
	nobodyPause = time.Second
	// nobodyMax is the longest time until it is looked again whether another node still announces what this one cannot.
	nobodyMax = 10 * time.Minute
	// nobodyLooks is how many VIPs are looked at in a round. Each is read for itself: to list ten thousand because one may be
	// told is a burden for the API server.
	nobodyLooks = 8
)

// nobodyTeller remembers the VIPs that no node announces, as far as this node can know, if this node is the one to tell.
type nobodyTeller struct {
	silences map[netip.Addr]silence
	// told is when the last of them was told.
	told time.Time
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
// another can do (the other may be on a segment that this one is not on), so it reads first who announces the VIP. It returns
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
	slices.SortFunc(due, func(a, b netip.Addr) int {
		return cmp.Or(n.silences[a].at.Compare(n.silences[b].at), a.Compare(b))
	})
	for looks, addr := range due {
		if wait := n.told.Add(nobodyPause).Sub(now); wait > 0 {
			return sooner(again, wait)
		}
		if looks == nobodyLooks {
			return sooner(again, minInterval)
		}
		elsewhere, err := r.announcedElsewhere(ctx, addr, o.ready)
		if err != nil {
			return sooner(again, retryMin) // an Event could not be written either
		}
		s := n.silences[addr]
		if elsewhere {
			s.wait = min(2*s.wait, nobodyMax)
			s.at = now.Add(s.wait)
			again = sooner(again, s.wait)
		} else {
			s.told, n.told = true, now
			r.event(&o, o.vip(addr), corev1.EventTypeWarning, ReasonNotAnnounced, "%s is not announced: %s", addr, s.reason.Text)
		}
		n.silences[addr] = s
	}
	return again
}

// announcedElsewhere reports whether another node announces the VIP, of those that are ready: one that is not may have left its
// entry behind.
func (r *reporter) announcedElsewhere(ctx context.Context, a netip.Addr, ready map[string]bool) (bool, error) {
	vip, err := r.cfg.Seamark.VIPs.Get(ctx, cluster.VIPName(a), metav1.GetOptions{ResourceVersion: "0"}) // from the API server's memory
	if apierrors.IsNotFound(err) {
		return false, nil // it goes, and with it what there is to tell
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(vip.Status.Announcers, func(x v1alpha1.Announcer) bool { return x.Node != r.cfg.Node && ready[x.Node] }), nil
}
