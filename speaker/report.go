package speaker

import (
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
	"github.com/seamark-io/seamark/speaker/plan"
)

// Reasons of Events on Services. NotAnnounced is about all nodes, the others about one.
const (
	ReasonAnnouncing    = "Announcing"
	ReasonNotAnnouncing = "NotAnnouncing"
	ReasonNotAnnounced  = "NotAnnounced"
)

const (
	// writers is the number of objects that are written at a time.
	writers = 8
	// pause is the least time between two rounds: what changes within it is written once.
	pause = 200 * time.Millisecond
	// countPause is the least time between two writes of a BGPPeer of which only counts or passing states changed: Services
	// come by the thousand, and a session that fails goes through all states every few seconds.
	countPause = 10 * time.Second
	// nobodyGrace is how long nobody may announce a VIP before that is told: pods take a while to start.
	nobodyGrace = 10 * time.Second
	// nobodyPause is the least time between two of these events of a node: ten thousand Services without pods are one mistake.
	nobodyPause = time.Second
	// farewell is how long the end of the agent may wait for its entries to be removed.
	farewell = 3 * time.Second
)

// reporter writes this node's entries in the status of VIPs, BGPPeers and IPPools, by server-side apply with a field manager of its
// own, and the Events on Services. It lives beside the loop and never holds it up: it is given observations, of which it
// skips those that are overtaken, and tries again as long as it takes.
//
// What it last wrote it reads back from the API once, when it starts: so it finds entries of an agent that died, and a
// restart repeats no Event.
type reporter struct {
	cfg     Config
	manager string
	wake    chan struct{}

	mu   sync.Mutex
	next *observation

	// What is in the API, as far as this node wrote it. They belong to run; written guards them while it has writers.
	written   sync.Mutex
	announced map[netip.Addr]map[plan.Via]metav1.Time
	sessions  map[string]peerWritten
	own       map[string][]v1alpha1.NodeAddress
	// nobody are the VIPs that no node announces, if this node is the one to tell.
	nobody map[netip.Addr]silence
	// toldNobody is when the last of them was told.
	toldNobody time.Time
}

// silence is why nobody announces a VIP, and since when.
type silence struct {
	reason plan.Reason
	since  time.Time
	told   bool
}

type peerWritten struct {
	peerReport
	at time.Time
}

func newReporter(cfg Config) *reporter {
	return &reporter{
		cfg: cfg, manager: "seamark-node/" + cfg.Node, wake: make(chan struct{}, 1),
		announced: map[netip.Addr]map[plan.Via]metav1.Time{}, sessions: map[string]peerWritten{}, own: map[string][]v1alpha1.NodeAddress{}, nobody: map[netip.Addr]silence{},
	}
}

// set has the observation reported. It does not wait.
func (r *reporter) set(o observation) {
	r.mu.Lock()
	r.next = &o
	r.mu.Unlock()
	signal(r.wake)
}

// run reports until ctx ends. When nothing is announced any more, which silent says, it removes the node's entries.
func (r *reporter) run(ctx context.Context, silent <-chan struct{}) error {
	if r.cfg.Seamark == nil {
		<-ctx.Done()
		return nil
	}
	r.work(ctx)
	<-silent
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if _, err := r.write(last, observation{}); err != nil {
		r.cfg.Log.Warn("cannot remove this node from the status of what it announced: the controller will", "err", err)
	}
	return nil
}

func (r *reporter) work(ctx context.Context) {
	delay, failing := retryMin, ""
	retry := time.NewTimer(0)
	defer retry.Stop()
	loaded := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-retry.C:
		}
		var again time.Duration
		err := error(nil)
		if !loaded {
			err = r.load(ctx)
			loaded = err == nil
		}
		r.mu.Lock()
		next := r.next
		r.mu.Unlock()
		if loaded && next != nil {
			again, err = r.write(ctx, *next)
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
		if !sleep(ctx, pause) {
			return
		}
	}
}

// load reads the entries that this node wrote in an earlier life.
func (r *reporter) load(ctx context.Context) error {
	vips, err := r.cfg.Seamark.VIPs.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list VIPs: %w", err)
	}
	for _, v := range vips.Items {
		addr, err := netip.ParseAddr(v.Spec.Address)
		if err != nil {
			continue // the CRD does not allow it
		}
		for _, a := range v.Status.Announcers {
			if a.Node != r.cfg.Node {
				continue
			}
			if r.announced[addr] == nil {
				r.announced[addr] = map[plan.Via]metav1.Time{}
			}
			since := metav1.Time{}
			if a.Since != nil {
				since = *a.Since
			}
			r.announced[addr][plan.Via(a.Via)] = since
		}
	}
	peers, err := r.cfg.Seamark.BGPPeers.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list BGPPeers: %w", err)
	}
	for _, p := range peers.Items {
		if slices.ContainsFunc(p.Status.Nodes, func(n v1alpha1.BGPPeerNode) bool { return n.Node == r.cfg.Node }) {
			r.sessions[p.Name] = peerWritten{} // of an earlier session: written anew, or removed
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
	for _, addr := range r.changedVIPs(o) {
		do(func() error { return r.writeVIP(ctx, addr, o.vips[addr]) })
	}
	names, again := r.changedPeers(o, time.Now())
	for _, name := range names {
		do(func() error { return r.writePeer(ctx, name, o.peers) })
	}
	for _, name := range r.changedPools(o) {
		do(func() error { return r.writePool(ctx, name, o.own[name]) })
	}
	_ = g.Wait() // the functions return nil
	again = sooner(again, r.tellNobody(o, time.Now()))
	if len(errs) > 1 {
		return again, fmt.Errorf("%w (and %d more errors)", errs[0], len(errs)-1)
	}
	return again, errors.Join(errs...)
}

func (r *reporter) changedVIPs(o observation) []netip.Addr {
	var out []netip.Addr
	for addr, v := range o.vips {
		if !sameKeys(v.via, r.announced[addr]) {
			out = append(out, addr)
		}
	}
	for addr := range r.announced {
		if _, ok := o.vips[addr]; !ok {
			out = append(out, addr)
		}
	}
	return out
}

func sameKeys(a map[plan.Via]string, b map[plan.Via]metav1.Time) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}

// writeVIP applies this node's entries of one VIP, and tells the Services what changed.
func (r *reporter) writeVIP(ctx context.Context, addr netip.Addr, v vipReport) error {
	r.written.Lock()
	before := r.announced[addr]
	r.written.Unlock()
	after := map[plan.Via]metav1.Time{}
	announcers := []v1alpha1.Announcer{}
	for _, via := range []plan.Via{plan.ARP, plan.NDP, plan.BGPRoute} {
		if _, ok := v.via[via]; !ok {
			continue
		}
		since, ok := before[via]
		if !ok {
			since = metav1.Now().Rfc3339Copy()
		}
		after[via] = since
		announcers = append(announcers, v1alpha1.Announcer{Node: r.cfg.Node, Via: string(via), Since: &since})
	}
	name := cluster.VIPName(addr)
	object, status := applied("VIP", name, "announcers", announcers)
	_, arp := after[plan.ARP]
	if _, ndp := after[plan.NDP]; arp || ndp {
		status["owner"] = r.cfg.Node // in place of the node that had it before
	}
	err := client.ApplyStatus(ctx, r.cfg.Seamark.VIPs, r.manager, name, object)
	if err != nil && !apierrors.IsNotFound(err) { // with the object, its status is gone
		return fmt.Errorf("write status of VIP %s: %w", name, err)
	}
	r.written.Lock()
	if len(after) > 0 {
		r.announced[addr] = after
	} else {
		delete(r.announced, addr)
	}
	r.written.Unlock()
	r.tellChange(addr, v, before)
	return nil
}

func (r *reporter) tellChange(addr netip.Addr, v vipReport, before map[plan.Via]metav1.Time) {
	for _, via := range []plan.Via{plan.ARP, plan.NDP, plan.BGPRoute} {
		where, is := v.via[via]
		_, was := before[via]
		switch {
		case is && !was && via == plan.BGPRoute:
			r.event(v.services, corev1.EventTypeNormal, ReasonAnnouncing, "node %s announces %s by BGP to %s", r.cfg.Node, addr, where)
		case is && !was:
			r.event(v.services, corev1.EventTypeNormal, ReasonAnnouncing, "node %s announces %s by %s on %s", r.cfg.Node, addr, via, where)
		case was && !is:
			why := v.why[via].Text
			if why == "" {
				why = v.nobody.Text
			}
			if why != "" {
				r.event(v.services, corev1.EventTypeNormal, ReasonNotAnnouncing, "node %s no longer announces %s by %s: %s", r.cfg.Node, addr, via, why)
			}
		}
	}
}

// tellNobody tells, once for each reason, why no node announces a VIP, if that lasts. It returns after how long it has more
// to tell; 0: not at all.
func (r *reporter) tellNobody(o observation, now time.Time) (again time.Duration) {
	for addr := range r.nobody {
		if o.vips[addr].nobody.Code == "" {
			delete(r.nobody, addr)
		}
	}
	for addr, v := range o.vips {
		if v.nobody.Code == "" {
			continue
		}
		s, known := r.nobody[addr]
		if !known || s.reason != v.nobody {
			s = silence{reason: v.nobody, since: now}
		}
		wait := max(s.since.Add(nobodyGrace).Sub(now), r.toldNobody.Add(nobodyPause).Sub(now))
		switch {
		case s.told:
		case wait > 0:
			again = sooner(again, wait)
		default:
			s.told, r.toldNobody = true, now
			r.event(v.services, corev1.EventTypeWarning, ReasonNotAnnounced, "%s is not announced: %s", addr, v.nobody.Text)
		}
		r.nobody[addr] = s
	}
	return again
}

// sooner returns the shorter of two times to wait; 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (r *reporter) event(services []service, eventType, reason, format string, args ...any) {
	if r.cfg.Recorder == nil {
		return
	}
	for _, s := range services {
		ref := &corev1.ObjectReference{Kind: "Service", APIVersion: "v1", Namespace: s.Namespace, Name: s.Name.Name, UID: types.UID(s.uid)}
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
		n := v1alpha1.BGPPeerNode{Node: r.cfg.Node, State: p.state, LastError: strings.ToValidUTF8(p.lastError, "?"), PrefixesSent: int32(p.prefixesSent)}
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
