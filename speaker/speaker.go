package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	leases "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/record"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/speaker/bfd"
	"github.com/seamark-io/seamark/speaker/bgp"
	"github.com/seamark-io/seamark/speaker/discover"
	"github.com/seamark-io/seamark/speaker/l2"
	"github.com/seamark-io/seamark/speaker/link"
	"github.com/seamark-io/seamark/speaker/ping"
	"github.com/seamark-io/seamark/speaker/plan"
	"github.com/seamark-io/seamark/speaker/segments"
)

// Source is the speaker's view of the API.
type Source interface {
	// Snapshot returns the newest Snapshot, nil as long as the API has not been read.
	Snapshot() *cluster.Snapshot
	// Changed receives when there is a newer Snapshot than at the last receive.
	Changed() <-chan struct{}
}

// Config of a Speaker.
type Config struct {
	// Node is the name of this node's Node object.
	Node   string
	Source Source
	Log    *slog.Logger
	// Namespace is Seamark's, Leases is the client for the one by which this node is a member of its segments; nil: it is not
	// written.
	Namespace string
	Leases    leases.LeasesGetter
	// Interval between heartbeats on a segment, and how many a node may miss until it counts as gone; zero: the defaults of
	// package liveness.
	Interval   time.Duration
	Multiplier int
	// Seamark is the client that status is written with; nil: none is written, and there are no Events.
	Seamark *client.Client
	// Recorder of Events on Services; nil: none.
	Recorder record.EventRecorder
	// Metrics receives the speaker's metrics; nil: none.
	Metrics prometheus.Registerer
	// Takeover is called when nodes were lost, or are back, and addresses may move for that long: what can wait should. It must not
	// block. nil: nothing can.
	Takeover func(time.Duration)
	// LeaveTime is how long routers keep routes after they were asked to prefer other nodes.
	LeaveTime time.Duration
	// Drain says whether Run gives the routes up when it ends, or leaves them to be found by the agent's next start.
	Drain DrainPolicy
}

const (
	// minInterval is the least time between two runs of the loop, so that changes that come together are made together.
	minInterval = 10 * time.Millisecond
	// hurries is how many runs in each hurry do not rest first, because a node was lost: on several segments, one of each
	// family at least, it is lost at slightly different moments.
	hurries = 8
	hurry   = time.Second
	// calm is how long after a run for a lost node the next one waits, but for another node: what changes then is mostly what that
	// run has brought about, and to work it into a plan would keep the announcements of many addresses waiting for a processor.
	calm = 100 * time.Millisecond
	// takeover is how long it takes until the addresses of a lost node are announced, where there are a thousand, and some more.
	takeover = 300 * time.Millisecond
	// gatherTime is how much later than on the first of its segments a node may be found lost on the others: all are told in
	// one turn of the thread that hears.
	gatherTime = 4 * time.Millisecond
	// resync is the longest time between two: drivers mend what was changed behind their back.
	resync = time.Minute
	// The delay after an error doubles from retryMin to retryMax.
	retryMin = time.Second
	retryMax = 30 * time.Second
)

// Speaker is the announcing part of one node.
type Speaker struct {
	cfg     Config
	metrics *metrics
	links   *link.Watcher
	// segments decide what l2 may answer.
	segments *segments.Driver
	l2       *l2.Speaker
	ping     *ping.Responder
	bgp      *bgp.Speaker
	bfd      *bfd.Speaker
	routers  *discover.Finder
	report   *reporter
	members  *membership

	// broken is signalled by l2 when it needs another Set, observed by drivers when there is something to report.
	broken, observed chan struct{}
	synced           atomic.Bool
	pulse            pace.Pulse
	// keyless is true as long as there is no key for heartbeats.
	keyless atomic.Bool
	// hurried are the last times that the loop ran at once because a node was lost.
	hurried [hurries]time.Time
	// told are the drivers' errors that were logged, by driver.
	told map[string]string
}

// New returns a Speaker. It touches nothing before Run.
func New(cfg Config) (*Speaker, error) {
	switch {
	case cfg.Source == nil || cfg.Log == nil:
		return nil, errors.New("the speaker needs a source and a logger")
	case cfg.Node == "":
		return nil, errors.New("the speaker needs the name of its node")
	}
	s := &Speaker{
		cfg: cfg, links: link.New(cfg.Log), ping: ping.New(), bgp: bgp.New(bgp.Config{Log: cfg.Log, LeaveTime: cfg.LeaveTime}),
		routers: discover.New(cfg.Log), bfd: bfd.New(),
		broken: make(chan struct{}, 1), observed: make(chan struct{}, 1), told: map[string]string{},
	}
	shared := segments.Config{
		Node: cfg.Node, Interval: cfg.Interval, Multiplier: cfg.Multiplier, Log: cfg.Log,
		Gained: func(addrs ...netip.Addr) { s.l2.Announce(addrs...) },
		Settle: func() { s.l2.Settle() },
	}
	if cfg.Leases != nil {
		shared.Locker = newLocks(cfg)
	}
	var err error
	if s.segments, err = segments.New(shared); err != nil {
		return nil, err
	}
	s.l2 = l2.New(l2.Config{
		Gate: s.segments, Neighbour: link.Neighbour,
		Broken: func() { signal(s.broken) }, Duplicated: func() { signal(s.observed) },
	})
	s.report, s.members = newReporter(cfg), newMembership(cfg)
	s.metrics = newMetrics(s.l2)
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.metrics); err != nil {
			return nil, fmt.Errorf("register the speaker's metrics: %w", err)
		}
		if err := cfg.Metrics.Register(newBGPMetrics(s.bgp)); err != nil {
			return nil, fmt.Errorf("register the metrics of BGP: %w", err)
		}
		if err := cfg.Metrics.Register(newBFDMetrics(s.bfd)); err != nil {
			return nil, fmt.Errorf("register the metrics of BFD: %w", err)
		}
		if err := cfg.Metrics.Register(newSegmentMetrics(s.segments)); err != nil {
			return nil, fmt.Errorf("register the metrics of segments: %w", err)
		}
	}
	return s, nil
}

// Run announces until ctx ends, and then returns nil after it has withdrawn everything, but for the routes that routers keep
// over a restart; what other nodes can answer for they are given time to take over first. It must be called in the node's
// network namespace, once.
func (s *Speaker) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	// The links and the segments outlive ctx, until others have taken over.
	last, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g.Go(func() error { return s.links.Run(last) })
	g.Go(func() error { return s.segments.Run(last) })
	g.Go(func() error { return s.routers.Run(gctx) })
	g.Go(func() error { s.report.run(gctx); return nil })
	g.Go(func() error { s.members.run(gctx); return nil })
	g.Go(func() error { s.followPaths(gctx); return nil })
	g.Go(func() error {
		defer end()
		s.loop(gctx)
		s.handOver(last)
		// Routers first: they are told, neighbours have to find out.
		s.leaveRouters()
		s.bfd.Close()
		s.l2.Close()
		return nil
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Ready returns what is missing until the node announces what it should: nil after the first complete run of the loop.
func (s *Speaker) Ready() error {
	switch {
	case !s.synced.Load():
		return errors.New("the speaker has not announced anything yet: it waits for the API or for the node's interfaces")
	case s.keyless.Load():
		return fmt.Errorf("the speaker answers for no address on its segments: there is no key for heartbeats, which Secret %s/%s must have as %q, of 16 bytes or more",
			s.cfg.Namespace, v1alpha1.HeartbeatSecret, v1alpha1.HeartbeatKey)
	default:
		return nil
	}
}

// Alive returns an error if the loop hangs, say in a driver: heartbeats would go on, and so would the node's hold on its
// addresses, while nothing moves any more. What is slow does not count as that: the longest piece of work, the first with
// ten thousand addresses, takes seconds on a slow node, since drivers wait neither for other nodes nor for routers. Any
// goroutine may call it.
func (s *Speaker) Alive() error { return s.pulse.Stuck(time.Now(), pace.Hang) }

// Cleanup removes what a speaker leaves in the node's kernel when it ends.
func Cleanup(ctx context.Context) error { return ping.New().Remove(ctx) }

func (s *Speaker) loop(ctx context.Context) {
	ticker := time.NewTicker(resync)
	defer ticker.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	<-retry.C
	delay := retryMin
	pacer := pace.New(pace.Share, pace.Burst)
	var current plan.Plan
	var uses *plan.Uses
	lost := false // a node was: the run is for that
	for {
		end := s.pulse.Begin(time.Now())
		used := cputime.Of(func() {
			start := time.Now()
			snap, ifaces := s.cfg.Source.Snapshot(), s.links.Interfaces()
			if snap == nil || ifaces == nil {
				return
			}
			facts := s.facts(snap, ifaces, start)
			facts.Untaken = current.Untaken
			if !uses.Of(snap) {
				uses = plan.UsesOf(snap)
			}
			current = uses.Build(facts)
			s.routers.Set(current.BGP.Discover)
			if s.apply(ctx, snap, current) {
				delay = retryMin
				retry.Stop()
			} else {
				retry.Reset(delay)
				delay = min(2*delay, retryMax)
			}
			s.members.set(snap, plan.SegmentsOf(ifaces))
			s.report.set(s.observer(snap, current))
			s.metrics.observe(current, time.Since(start))
			s.synced.Store(true)
		})
		end()
		rest := pacer.Rest(time.Now(), used)
		if lost {
			rest = max(rest, calm)
		}
		if !sleep(ctx, minInterval) {
			return
		}
		if lost = s.rest(ctx, rest); ctx.Err() != nil {
			return
		}
		for again := lost; !again; {
			select {
			case <-ctx.Done():
				return
			// These change what there is to report, and nothing else.
			case <-s.bgp.Changed():
				signal(s.report.wake)
			case <-s.observed:
				signal(s.report.wake)
			case <-s.cfg.Source.Changed():
				again = true
			case <-s.segments.Changed():
				again = true
			case <-s.segments.Lost():
				s.gather(ctx)
				lost, again = true, true
			case <-s.links.Changed():
				again = true
			case <-s.routers.Changed():
				again = true
			case <-s.broken:
				again = true
			case <-retry.C:
				again = true
			case <-ticker.C:
				s.ping.Doubt()
				again = true
			}
		}
	}
}

// rest waits, but not when a node was lost, which it reports; only nodes that come and go all the time are waited for as well.
func (s *Speaker) rest(ctx context.Context, d time.Duration) (lost bool) {
	if d <= 0 {
		return false
	}
	other := s.segments.Lost()
	if time.Since(s.hurried[0]) < hurry {
		other = nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-other:
		copy(s.hurried[:], s.hurried[1:])
		s.hurried[hurries-1] = time.Now()
		s.gather(ctx)
		return true
	case <-time.After(d):
		return false
	}
}

// gather waits until a node that was lost on one segment is found lost on the others, so that they need not wait for another
// run. What can wait is put off.
func (s *Speaker) gather(ctx context.Context) {
	s.report.putOff(takeover)
	if s.cfg.Takeover != nil {
		s.cfg.Takeover(takeover)
	}
	sleep(ctx, gatherTime)
	select {
	case <-s.segments.Lost():
	default:
	}
}

func (s *Speaker) facts(snap *cluster.Snapshot, ifaces []plan.Interface, now time.Time) plan.Facts {
	return plan.Facts{
		Node: s.cfg.Node, Interfaces: ifaces, Gateways: s.links.Gateways(), Routers: s.routers.Routers(),
		Segments: s.segments.Facts(snap.VIPs), Now: now,
	}
}

// observer returns what observes what has become of a plan by then.
func (s *Speaker) observer(snap *cluster.Snapshot, p plan.Plan) func() observation {
	return func() observation {
		return observe(s.cfg.Node, snap, p, made{s.bgp.Status(), s.bfd.Status(), s.segments.Grants(), s.l2.Duplicates()})
	}
}

// apply has each driver make its part of the plan true; what one cannot do does not keep the others. Errors are logged
// when they begin, change and end.
func (s *Speaker) apply(ctx context.Context, snap *cluster.Snapshot, p plan.Plan) (ok bool) {
	ok = true
	for _, driver := range []struct {
		name string
		set  func() error
	}{
		// What is let go of is not answered for any more before anybody is told so.
		{"segments", func() error { return s.segments.Set(p.LANs, p.L2, snap.Heartbeat) }},
		{"l2", func() error { return s.l2.Set(ctx, p.L2, p.Neighbours) }},
		{"bgp", func() error { return s.bgp.Set(ctx, p.BGP) }},
		{"bfd", func() error { return s.bfd.Set(ctx, bfdSessions(p.BGP)) }},
		{"ping", func() error { return s.ping.Set(ctx, p.Ping) }},
	} {
		// The counter is there before it counts, so that a first failure is an increase.
		text, failures := "", s.metrics.errors.WithLabelValues(driver.name)
		if err := driver.set(); err != nil {
			ok, text = false, err.Error()
			failures.Inc()
		}
		switch text {
		case s.told[driver.name]:
		case "":
			s.cfg.Log.Info("announcing works again", "driver", driver.name)
		default:
			s.cfg.Log.Error("cannot announce everything", "driver", driver.name, "err", text)
		}
		s.told[driver.name] = text
	}
	s.keyless.Store(len(p.LANs) > 0 && !s.segments.HasKeys())
	return ok
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep returns false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
