package speaker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// written is what the API has of this node about one VIP.
type written struct {
	// uid of the object that it was written to.
	uid  string
	ways []writtenWay
	// duplicate and since when; empty: none.
	duplicate string
	since     metav1.Time
	// inherited: it is of an earlier life, and this one has not said the same yet.
	inherited bool
}

// writtenWay is a way in which a VIP is announced, and since when.
type writtenWay struct {
	via   plan.Via
	since metav1.Time
}

func (w *written) announces(via plan.Via) bool {
	return slices.ContainsFunc(w.ways, func(x writtenWay) bool { return x.via == via })
}

func (r *reporter) ownEntries(v *v1alpha1.VIP) (netip.Addr, written) {
	addr, err := netip.ParseAddr(v.Spec.Address)
	if err != nil {
		return addr, written{} // the CRD does not allow it
	}
	at := func(t *metav1.Time) metav1.Time {
		if t == nil {
			return metav1.Time{}
		}
		return *t
	}
	w := written{uid: string(v.UID), inherited: true}
	for _, a := range v.Status.Announcers {
		if a.Node == r.cfg.Node {
			w.ways = append(w.ways, writtenWay{plan.Via(a.Via), at(a.Since)})
		}
	}
	for _, d := range v.Status.Duplicates {
		if d.Node == r.cfg.Node {
			w.duplicate, w.since = d.MAC, at(d.Since)
		}
	}
	return addr, w
}

// some returns a batch of the VIPs, each time another one: those that cannot be written are not to keep the others waiting.
func (r *reporter) some(changed []netip.Addr) []netip.Addr {
	first := r.turn % len(changed)
	r.turn = first + batch
	return slices.Concat(changed[first:], changed[:first])[:batch]
}

// changedVIPs returns the VIPs to write now, and after how long others will be due.
func (r *reporter) changedVIPs(o observation, now time.Time) (out []netip.Addr, again time.Duration) {
	young := r.started.Add(inherit).Sub(now)
	known := 0
	for i := range o.vips {
		v := &o.vips[i]
		w, ok := r.announced[v.addr]
		if ok {
			known++
		}
		duplicate := o.duplicate(v.addr)
		switch {
		case ok && w.uid != v.uid: // it was deleted and made again: with it went what was written
			out = append(out, v.addr)
		case w.says(v, duplicate):
			if w.inherited {
				w.inherited = false
				r.announced[v.addr] = w
			}
		case w.inherited && young > 0 && w.promises(v, duplicate):
			again = sooner(again, young)
		default:
			out = append(out, v.addr)
		}
	}
	if known == len(r.announced) {
		return out, again
	}
	for addr := range r.announced {
		if o.vip(addr) == nil {
			out = append(out, addr)
		}
	}
	return out, again
}

// says reports whether the entries say what the report says.
func (w *written) says(v *vipReport, duplicate string) bool {
	n := 0
	for i := range v.ways {
		if v.ways[i].announced() {
			n++
		}
	}
	return len(w.ways) == n && w.promises(v, duplicate) && w.duplicate == duplicate
}

// promises reports whether the entries say all that the report says, and perhaps more.
func (w *written) promises(v *vipReport, duplicate string) bool {
	for i := range v.ways {
		if v.ways[i].announced() && !w.announces(v.ways[i].via) {
			return false
		}
	}
	return duplicate == "" || w.duplicate == duplicate
}

// writeVIP applies this node's entries of one VIP, and tells the Services what changed.
func (r *reporter) writeVIP(ctx context.Context, o *observation, addr netip.Addr) error {
	v := o.vip(addr)
	if v == nil {
		v = &vipReport{addr: addr} // it is gone, and with it what there is to say
	}
	r.written.Lock()
	before := r.announced[addr]
	r.written.Unlock()
	after := written{uid: v.uid, duplicate: o.duplicate(addr)}
	announcers := []v1alpha1.Announcer{}
	for _, via := range []plan.Via{plan.ARP, plan.NDP, plan.BGPRoute} {
		if !v.announces(via) {
			continue
		}
		way := writtenWay{via, metav1.Now().Rfc3339Copy()}
		if i := slices.IndexFunc(before.ways, func(w writtenWay) bool { return w.via == via }); i >= 0 {
			way = before.ways[i]
		}
		after.ways = append(after.ways, way)
		announcers = append(announcers, v1alpha1.Announcer{Node: r.cfg.Node, Via: string(via), Since: &way.since})
	}
	name := cluster.VIPName(addr)
	object, status := applied("VIP", name, "announcers", announcers)
	if after.announces(plan.ARP) || after.announces(plan.NDP) {
		status["owner"] = r.cfg.Node // in place of the node that had it before
	}
	if after.duplicate != "" {
		if after.since = before.since; before.duplicate != after.duplicate {
			after.since = metav1.NewTime(o.duplicates[addr].Since).Rfc3339Copy()
		}
		status["duplicates"] = []v1alpha1.Duplicate{{
			Node: r.cfg.Node, MAC: after.duplicate, Interface: o.duplicates[addr].Interface, Since: &after.since,
		}}
	}
	err := client.ApplyStatus(ctx, r.cfg.Seamark.VIPs, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) { // with the object, its status is gone
		return fmt.Errorf("write status of VIP %s: %w", name, err)
	}
	r.written.Lock()
	if len(after.ways) > 0 || after.duplicate != "" {
		r.announced[addr] = after
	} else {
		delete(r.announced, addr)
	}
	r.written.Unlock()
	r.tellChange(o, v, &before)
	if after.duplicate != "" && after.duplicate != before.duplicate {
		r.event(o, v, corev1.EventTypeWarning, ReasonDuplicate,
			"%s is used by another station as well: node %s sees it at %s on %s, which is none of the cluster's nodes; take the address away from it, or out of the pool", addr, r.cfg.Node, after.duplicate, o.duplicates[addr].Interface)
	}
	return nil
}

func (r *reporter) tellChange(o *observation, v *vipReport, before *written) {
	for _, via := range []plan.Via{plan.ARP, plan.NDP, plan.BGPRoute} {
		is, was, way := v.announces(via), before.announces(via), v.way(via)
		switch {
		case is && !was && via == plan.BGPRoute:
			r.event(o, v, corev1.EventTypeNormal, ReasonAnnouncing, "node %s announces %s by BGP to %s", r.cfg.Node, v.addr, way.where)
		case is && !was:
			r.event(o, v, corev1.EventTypeNormal, ReasonAnnouncing, "node %s announces %s by %s on %s", r.cfg.Node, v.addr, via, way.where)
		case was && !is:
			why := v.nobody.Text
			if way != nil {
				why = cmp.Or(way.why.Text, why)
			}
			if why != "" {
				r.event(o, v, corev1.EventTypeNormal, ReasonNotAnnouncing, "node %s no longer announces %s by %s: %s", r.cfg.Node, v.addr, via, why)
			}
		}
	}
}

// event tells the Services of a VIP.
func (r *reporter) event(o *observation, v *vipReport, eventType, reason, format string, args ...any) {
	if r.cfg.Recorder == nil {
		return
	}
	for _, name := range v.services {
		svc := o.services[name]
		if svc == nil {
			continue
		}
		ref := &corev1.ObjectReference{Kind: "Service", APIVersion: "v1", Namespace: name.Namespace, Name: name.Name, UID: types.UID(svc.UID)}
		r.cfg.Recorder.Eventf(ref, eventType, reason, format, args...)
	}
}
