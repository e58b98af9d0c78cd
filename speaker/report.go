package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
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
	// maxPutOff is how often a round can be put off.
	maxPutOff = 5
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
	// notBefore is when it may be reported.
	notBefore time.Time

	// What is in the API, as far as this node wrote it. They belong to run; written guards them while it has writers.
	written   sync.Mutex
	announced map[netip.Addr]written
	sessions  map[string]peerWritten
	own       map[string]poolReport
	nobody    nobodyTeller
	// turn is where the next batch begins.
	turn int
	// started is when the entries were read.
	started time.Time
}

func newReporter(cfg Config) *reporter {
	return &reporter{
		cfg: cfg, manager: "seamark-node/" + cfg.Node, wake: make(chan struct{}, 1),
		announced: map[netip.Addr]written{}, sessions: map[string]peerWritten{}, own: map[string]poolReport{},
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
		if !r.rest(ctx) {
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

// putOff has the next rounds wait for that long: addresses move, and the API server, the nodes and this process all have something to
// do for each that is reported.
func (r *reporter) putOff(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notBefore = time.Now().Add(d)
}

// rest waits for the pause, and then while reports are put off, but not on and on: nodes may come and go all the time. It returns
// false when ctx ended.
func (r *reporter) rest(ctx context.Context) bool {
	wait := pause
	for n := 0; n < maxPutOff && wait > 0; n++ {
		if !sleep(ctx, wait) {
			return false
		}
		r.mu.Lock()
		wait = time.Until(r.notBefore)
		r.mu.Unlock()
	}
	return true
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
			r.sessions[p.Name] = peerWritten{peerReport: peerReport{uid: string(p.UID)}, at: r.started} // of an earlier session: written anew, or removed
		}
	}
	pools, err := r.cfg.Seamark.IPPools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list IPPools: %w", err)
	}
	for _, p := range pools.Items {
		for _, a := range p.Status.NodeAddresses {
			if a.Node == r.cfg.Node {
				r.own[p.Name] = poolReport{string(p.UID), append(r.own[p.Name].addresses, a)}
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

// sooner returns the shorter of two times to wait; 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
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
