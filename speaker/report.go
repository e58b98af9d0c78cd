package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Reasons of Events on Services. NotAnnounced is about all nodes, the others about one.
const (
	ReasonAnnouncing    = "Announcing"
	ReasonNotAnnouncing = "NotAnnouncing"
	ReasonNotAnnounced  = "NotAnnounced"
	ReasonDuplicate     = "DuplicateAddress"
)

const (
	// writers is the number of objects that are written at a time.
	writers = 8
	// pause is the time between a change and the round that writes it, and so between two rounds. What changes within it is
	// written once, and a takeover is over before it is told: where many addresses move, all nodes that take some would
	// otherwise give the API server, and watchers everywhere, work at the moment when addresses wait for answers.
	pause = 200 * time.Millisecond
	// batch is the largest number of VIPs in a round. It makes 50 writes a second, as many as a kubelet may do.
	batch = 10
	// countPause is the least time between two writes of a BGPPeer of which only counts or passing states changed: Services
	// come by the thousand, and a session that fails goes through all states every few seconds.
	countPause = 10 * time.Second
	// inherit is how long what an earlier life of the agent announced is left standing after a start, so that a restart is
	// not seen in the API: sessions take seconds until they are established, and so may addresses until they are granted.
	inherit = 15 * time.Second
)

// reporter writes this node's entries in the status of VIPs, BGPPeers and IPPools, by server-side apply with a field manager of its
// own, and the Events on Services. It lives beside the loop and never holds it up: it is given observations, of which it
// skips those that are overtaken, and tries again as long as it takes.
//
// What it last wrote it reads back from the API once, when it starts: so it finds entries of an agent that died or was
// stopped, and a restart rewrites nothing and repeats no Event. For the same reason it leaves its entries when it ends: an
// agent that ends is nearly always followed by another. Those of a node that is gone the controller removes.
type reporter struct {
	cfg     Config
	manager string
	wake    chan struct{}

	mu sync.Mutex
	// look returns what there is to report now; nil before the first set.
	look func() observation

	// What is in the API, as far as this node wrote it. They belong to run; written guards them while it has writers.
	written   sync.Mutex
	announced map[netip.Addr]written
	sessions  map[string]peerWritten
	own       map[string][]v1alpha1.NodeAddress
	nobody    nobodyTeller
	// turn is where the next batch begins.
	turn int
	// started is when the entries were read.
	started time.Time
}

// written is what the API has of this node about one VIP.
type written struct {
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

type peerWritten struct {
	peerReport
	at time.Time
}

func newReporter(cfg Config) *reporter {
	return &reporter{
		cfg: cfg, manager: "seamark-node/" + cfg.Node, wake: make(chan struct{}, 1),
		announced: map[netip.Addr]written{}, sessions: map[string]peerWritten{}, own: map[string][]v1alpha1.NodeAddress{},
	}
}

// set has what look returns reported. It does not wait; look is called later, and again as long as it takes, from another
// goroutine.
func (r *reporter) set(look func() observation) {
	r.mu.Lock()
	r.look = look
	r.mu.Unlock()
	signal(r.wake)
}

// run reports until ctx ends.
func (r *reporter) run(ctx context.Context) {
	if r.cfg.Seamark == nil {
		<-ctx.Done()
		return
	}
	r.work(ctx)
}

func (r *reporter) work(ctx context.Context) {
	delay, failing := retryMin, ""
	retry := time.NewTimer(0)
	defer retry.Stop()
	loaded := false
	pacer := pace.New(pace.Share, pace.Burst)
	var seen *observation // nil: it is out of date
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			seen = nil
		case <-retry.C:
		}
		if !sleep(ctx, pause) {
			return
		}
		var again time.Duration
		err := error(nil)
		if !loaded {
			err = r.load(ctx)
			loaded = err == nil
		}
		var used time.Duration
		if loaded {
			used = cputime.Of(func() {
				if seen = r.see(seen); seen != nil {
					again, err = r.write(ctx, *seen)
				}
			})
		}
		text := ""
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			text = err.Error()
			again = delay
			delay = min(2*delay, retryMax)
		default:
			delay = retryMin
		}
		if text != "" && failing == "" {
			r.cfg.Log.Warn("cannot write status: announcing goes on, trying again", "err", text)
		}
		failing = text
		if again > 0 {
			retry.Reset(again)
		}
		if !sleep(ctx, pacer.Rest(time.Now(), used)) {
			return
		}
	}
}

// see returns what there is to report: what was seen last, if there is nothing new; nil before the first set.
func (r *reporter) see(last *observation) *observation {
	select {
	case <-r.wake:
	default:
		if last != nil {
			return last
		}
	}
	r.mu.Lock()
	look := r.look
	r.mu.Unlock()
	if look == nil {
		return nil
	}
	o := look()
	return &o
}

// load reads the entries that this node wrote in an earlier life.
func (r *reporter) load(ctx context.Context) error {
	vips, err := r.cfg.Seamark.VIPs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list VIPs: %w", err)
	}
	r.started = time.Now()
	for i := range vips.Items {
		if addr, w := r.ownEntries(&vips.Items[i]); len(w.ways) > 0 || w.duplicate != "" {
			r.announced[addr] = w
		}
	}
	peers, err := r.cfg.Seamark.BGPPeers.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list BGPPeers: %w", err)
	}
	for _, p := range peers.Items {
		if slices.ContainsFunc(p.Status.Nodes, func(n v1alpha1.BGPPeerNode) bool { return n.Node == r.cfg.Node }) {
			r.sessions[p.Name] = peerWritten{at: r.started} // of an earlier session: written anew, or removed
		}
	}
	pools, err := r.cfg.Seamark.IPPools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list IPPools: %w", err)
	}
	for _, p := range pools.Items {
		for _, a := range p.Status.NodeAddresses {
			if a.Node == r.cfg.Node {
				r.own[p.Name] = append(r.own[p.Name], a)
			}
		}
	}
	return nil
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
	w := written{inherited: true}
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

// write makes the API agree with the observation. again is when to call it once more although nothing changed.
func (r *reporter) write(ctx context.Context, o observation) (again time.Duration, err error) {
	var g errgroup.Group
	g.SetLimit(writers)
	var mu sync.Mutex
	var errs []error
	do := func(f func() error) {
		g.Go(func() error {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	changed, again := r.changedVIPs(o, time.Now())
	if len(changed) > batch {
		changed, again = r.some(changed), minInterval
	}
	for _, addr := range changed {
		do(func() error { return r.writeVIP(ctx, &o, addr) })
	}
	names, later := r.changedPeers(o, time.Now())
	again = sooner(again, later)
	for _, name := range names {
		do(func() error { return r.writePeer(ctx, name, o.peers) })
	}
	for _, name := range r.changedPools(o) {
		do(func() error { return r.writePool(ctx, name, o.own[name]) })
	}
	_ = g.Wait() // the functions return nil
	again = sooner(again, r.tellNobody(ctx, o, time.Now()))
	if len(errs) > 1 {
		return again, fmt.Errorf("%w (and %d more errors)", errs[0], len(errs)-1)
	}
	return again, errors.Join(errs...)
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
	after := written{duplicate: o.duplicate(addr)}
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

// sooner returns the shorter of two times to wait; 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
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

// changedPeers returns the BGPPeers to write now, and after how long others will be due.
func (r *reporter) changedPeers(o observation, now time.Time) (names []string, again time.Duration) {
	for name, p := range o.peers {
		w, ok := r.sessions[name]
		if ok && w.peerReport == p {
			continue
		}
		urgent := !ok || w.established() != p.established() || w.lastError != p.lastError
		if wait := w.at.Add(countPause).Sub(now); !urgent && wait > 0 {
			again = sooner(again, wait)
			continue
		}
		names = append(names, name)
	}
	for name := range r.sessions {
		if _, ok := o.peers[name]; !ok {
			names = append(names, name)
		}
	}
	return names, again
}

// writePeer applies this node's entry of one BGPPeer, or removes it when the node has no session with it.
func (r *reporter) writePeer(ctx context.Context, name string, peers map[string]peerReport) error {
	p, ok := peers[name]
	nodes := []v1alpha1.BGPPeerNode{}
	if ok {
		n := v1alpha1.BGPPeerNode{Node: r.cfg.Node, State: p.state, LastError: strings.ToValidUTF8(p.lastError, "?"), BFD: p.bfd, PrefixesSent: int32(p.prefixesSent)}
		if !p.since.IsZero() {
			since := metav1.NewTime(p.since).Rfc3339Copy()
			n.Since = &since
		}
		nodes = append(nodes, n)
	}
	object, _ := applied("BGPPeer", name, "nodes", nodes)
	err := client.ApplyStatus(ctx, r.cfg.Seamark.BGPPeers, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of BGPPeer %s: %w", name, err)
	}
	r.written.Lock()
	defer r.written.Unlock()
	if ok {
		r.sessions[name] = peerWritten{peerReport: p, at: time.Now()}
	} else {
		delete(r.sessions, name)
	}
	return nil
}

// changedPools returns the IPPools whose list of this node's own addresses is not as it is written.
func (r *reporter) changedPools(o observation) (names []string) {
	for name, own := range o.own {
		if !slices.Equal(r.own[name], own) {
			names = append(names, name)
		}
	}
	for name := range r.own {
		if _, ok := o.own[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// writePool applies the addresses of an IPPool that are this node's own.
func (r *reporter) writePool(ctx context.Context, name string, own []v1alpha1.NodeAddress) error {
	object, _ := applied("IPPool", name, "nodeAddresses", own)
	err := client.ApplyStatus(ctx, r.cfg.Seamark.IPPools, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of IPPool %s: %w", name, err)
	}
	r.written.Lock()
	defer r.written.Unlock()
	if len(own) > 0 {
		r.own[name] = own
	} else {
		delete(r.own, name)
	}
	return nil
}

// applied returns an object with this node's entries in one list of its status, and that status. Applying it without the
// list removes the entries that were applied before.
func applied[T any](kind, name, list string, entries []T) (object, status map[string]any) {
	status = map[string]any{}
	if len(entries) > 0 {
		status[list] = entries
	}
	return map[string]any{
		"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": kind,
		"metadata": map[string]any{"name": name}, "status": status,
	}, status
}
