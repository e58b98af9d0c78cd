package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/proxy/conntrack"
	"github.com/seamark-io/seamark/proxy/healthcheck"
	"github.com/seamark-io/seamark/proxy/nft"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// Source is where the proxy learns about the cluster.
type Source interface {
	// Snapshot returns the latest Snapshot, nil until all objects have been seen.
	Snapshot() *cluster.Snapshot
	// Changed receives a value after each change of Snapshot; several changes may be told once.
	Changed() <-chan struct{}
}

// Config of a Proxy. Rules, Source and Log are required.
type Config struct {
	// Rules names the node and says what its rules depend on. The proxy sets DropInvalid itself where it is needed.
	Rules  ruleset.Config
	Source Source
	Log    *slog.Logger

	// MinInterval is the least time between two changes of the rules, so that changes that come together are made
	// together. Default: 15 ms.
	MinInterval time.Duration
	// CheckInterval is how often the proxy looks whether somebody has changed its tables. Default: 1 s.
	CheckInterval time.Duration
	// HealthAddress serves /healthz and /livez; the zero value serves neither. kube-proxy's is [::]:10256.
	HealthAddress netip.AddrPort
	// SysctlRoot is where the node's /proc/sys can be written. Default: /proc/sys.
	SysctlRoot string
	// Metrics receives the proxy's metrics; nil: none.
	Metrics prometheus.Registerer
	// Problem is told each Problem once when it begins; nil: it is logged.
	Problem func(ruleset.Problem)
}

const (
	defaultMinInterval   = 15 * time.Millisecond
	defaultCheckInterval = time.Second
	// healthTimeout is how long a change may wait before the proxy counts as unhealthy: kube-proxy's is twice its
	// syncPeriod of 30 s.
	healthTimeout = time.Minute
	// The delay after an error doubles from retryMin to retryMax.
	retryMin = 100 * time.Millisecond
	retryMax = 30 * time.Second
)

// Proxy is the service proxy of one node.
type Proxy struct {
	cfg     Config
	metrics *metrics
	health  *healthcheck.Proxy
	// synced is the Snapshot that rules and flows were last brought to.
	synced atomic.Pointer[cluster.Snapshot]
	pulse  pace.Pulse
	// told are the Problems that have been reported and last.
	told map[ruleset.Problem]struct{}
}

// New returns a Proxy. It touches nothing before Run.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Source == nil || cfg.Log == nil:
		return nil, errors.New("the proxy needs a source and a logger")
	case cfg.Rules.Node == "":
		return nil, errors.New("the proxy needs the name of its node")
	}
	if cfg.MinInterval <= 0 {
		cfg.MinInterval = defaultMinInterval
	}
	if cfg.CheckInterval <= 0 {
		cfg.CheckInterval = defaultCheckInterval
	}
	if cfg.SysctlRoot == "" {
		cfg.SysctlRoot = defaultSysctlRoot
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register the proxy's metrics: %w", err)
	}
	return &Proxy{
		cfg: cfg, metrics: m, health: &healthcheck.Proxy{Timeout: healthTimeout}, told: map[ruleset.Problem]struct{}{},
	}, nil
}

// Run works until the context ends, and then returns nil. It must be called in the node's network namespace. After an error
// it may be called again.
func (p *Proxy) Run(ctx context.Context) error {
	if err := conntrack.BeLiberal(p.cfg.SysctlRoot); err != nil {
		p.cfg.Rules.DropInvalid = true
		p.cfg.Log.Warn("Packets from pods that conntrack calls invalid are dropped instead", "error", err)
	}
	families := families(p.cfg.SysctlRoot)
	rules, err := nft.New(families...)
	if err != nil {
		return err
	}
	defer rules.Close()
	flows, err := conntrack.New()
	if err != nil {
		return err
	}
	defer flows.Close()
	checks := &healthcheck.Services{Healthy: p.health.Healthy}
	defer checks.Close()

	health := &http.Server{Handler: p.health.Handler(), ReadHeaderTimeout: 5 * time.Second}
	defer health.Close()
	// In this goroutine, so that whoever calls Run in a network namespace gets all sockets there.
	p.loop(ctx, &node{families: families, rules: rules, flows: newFlows(flows), checks: checks, health: health, builder: ruleset.NewBuilder(p.cfg.Rules)})
	return nil
}

// listenHealth starts to serve /healthz and /livez, if that is wanted and has not been done. A port that is taken, as a
// rule by an agent that is about to end, keeps nobody from working: it is tried again with each check.
func (p *Proxy) listenHealth(n *node) {
	if n.listening || !p.cfg.HealthAddress.IsValid() {
		return
	}
	l, err := net.Listen("tcp", listenAt(p.cfg.HealthAddress))
	if err != nil {
		if err.Error() != n.listenError {
			p.cfg.Log.Error("Health of the proxy is not served, trying again", "error", err)
		}
		n.listenError = err.Error()
		return
	}
	n.listening = true
	go n.health.Serve(l) //nolint:errcheck // ends with Close
}

// listenAt returns an address for net.Listen. All addresses of IPv6 are those of IPv4 as well, and as "" also where the kernel
// has no IPv6.
func listenAt(a netip.AddrPort) string {
	if a.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf(":%d", a.Port())
	}
	return a.String()
}

// Ready returns nil as soon as the rules have once been as wanted. Any goroutine may call it.
func (p *Proxy) Ready() error {
	if p.health.LastUpdated().IsZero() {
		return errors.New("the rules have not been programmed yet")
	}
	return nil
}

// Alive returns an error if the proxy hangs. Any goroutine may call it.
func (p *Proxy) Alive() error { return p.pulse.Stuck(time.Now(), pace.Hang) }

// node is what the loop works on.
type node struct {
	families []cluster.Family
	builder  *ruleset.Builder
	// snapshot is what the rules were last brought to.
	snapshot *cluster.Snapshot
	// addresses on the node's interfaces at the last sync.
	addresses []netip.Addr
	rules     *nft.Driver
	flows     *flows
	checks    *healthcheck.Services
	health    *http.Server
	// flowsError is why flows could not be deleted when that was last told.
	flowsError string
	// listening is true once health is served; listenError is why it was not.
	listening   bool
	listenError string
}

// loop runs until ctx ends.
func (p *Proxy) loop(ctx context.Context, n *node) {
	check := time.NewTicker(p.cfg.CheckInterval)
	defer check.Stop()
	retry := retryMin
	var again <-chan time.Time
	p.listenHealth(n)
	pacer := pace.New(pace.Share, pace.Burst)
	for {
		end := p.pulse.Begin(time.Now())
		var err error
		used := cputime.Of(func() { err = p.syncOnce(ctx, n) })
		end()
		rest := pacer.Rest(time.Now(), max(0, used-n.flows.used))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !errors.Is(err, errRefused) {
				p.cfg.Log.Error("The rules are not as wanted", "error", err, "retry", retry)
			}
			again = time.After(retry)
			retry = min(2*retry, retryMax)
		default:
			again, retry = nil, retryMin
		}
		if !p.wait(ctx, n, max(p.cfg.MinInterval, rest), check.C, again) {
			return
		}
	}
}

// wait returns true when it is time for the next sync, and false when ctx has ended. After a change of the cluster
// it waits for rest at least.
func (p *Proxy) wait(ctx context.Context, n *node, rest time.Duration, check, again <-chan time.Time) bool {
	earliest := time.After(rest)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-p.cfg.Source.Changed():
			p.health.Queued()
			select {
			case <-ctx.Done():
				return false
			case <-earliest:
			}
			return true
		case <-again:
			return true
		case <-n.flows.due:
			end := p.pulse.Begin(time.Now())
			p.deleteFlows(ctx, n)
			end()
		case <-check:
			if p.check(ctx, n) {
				return true
			}
		}
	}
}

// check looks at what others may have done to the node, and returns true if that calls for a sync.
func (p *Proxy) check(ctx context.Context, n *node) bool {
	defer p.pulse.Begin(time.Now())()
	p.listenHealth(n)
	changed, err := n.rules.Check(ctx)
	if err != nil {
		p.metrics.failures.WithLabelValues("check").Inc()
		p.cfg.Log.Error("Cannot tell whether the rules are as they were left", "error", err)
	}
	if len(changed) > 0 {
		p.metrics.drift.Inc()
		p.cfg.Log.Warn("Somebody else has changed the rules", "tables", changed)
		// The sync puts them right, and then nothing tells that flows were made without them.
		n.flows.set(n.rules.InForce(), n.snapshot)
	}
	return len(changed) > 0 || p.addressesChanged(n)
}

// deleteFlows deletes stale flows as far as that was not put off. What cannot be deleted keeps nothing else from being as
// wanted, and is told once.
func (p *Proxy) deleteFlows(ctx context.Context, n *node) {
	switch err := n.flows.delete(ctx); {
	case ctx.Err() != nil:
	case err != nil:
		p.metrics.failures.WithLabelValues("conntrack").Inc()
		if err.Error() != n.flowsError {
			p.cfg.Log.Error("Stale UDP flows are not deleted, trying again", "error", err)
		}
		n.flowsError = err.Error()
	case n.flows.due == nil:
		n.flowsError = ""
		p.synced.Store(n.snapshot)
	}
}

// syncOnce brings the kernel to what the Source says now. The parts are independent: the errors of all are joined. Flows are
// none of them, see deleteFlows.
func (p *Proxy) syncOnce(ctx context.Context, n *node) error {
	snap := p.cfg.Source.Snapshot()
	if snap == nil {
		return nil
	}
	start := time.Now()
	self := snap.Nodes[p.cfg.Rules.Node]
	p.health.SetNodeEligible(self != nil && !self.Leaving)
	addressErr := p.readAddresses(n)
	want, problems := n.builder.Build(snap)
	problems = append(problems, kernelProblems(p.cfg.SysctlRoot, n.families, &want)...)

	errs := []error{addressErr}
	refused := false
	part := func(name string, err error) {
		if err != nil {
			p.metrics.failures.WithLabelValues(name).Inc()
		}
		left, rest := split(err)
		problems, errs, refused = append(problems, left...), append(errs, rest), refused || len(left) > 0
	}
	part("rules", n.rules.Set(ctx, want))
	n.flows.set(n.rules.InForce(), snap)
	part("healthcheck", n.checks.Set(ctx, want.NodePortAddresses(), healthcheck.Checks(snap, p.cfg.Rules.Node)))

	p.report(problems)
	p.metrics.sync(time.Since(start), &want, len(problems))
	n.snapshot = snap
	err := errors.Join(errs...)
	if err == nil {
		p.health.Updated()
	}
	p.deleteFlows(ctx, n)
	if err == nil && refused {
		return errRefused
	}
	return err
}

// errRefused says that all is done but for Problems that have been reported and that may pass.
var errRefused = errors.New("some Services are left out")

// split takes the Problems out of a driver's error.
func split(err error) (problems []ruleset.Problem, rest error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as below
		var errs []error
		for _, e := range joined.Unwrap() {
			p, r := split(e)
			problems, errs = append(problems, p...), append(errs, r)
		}
		return problems, errors.Join(errs...)
	}
	if refused, ok := err.(*ruleset.RefusedError); ok { //nolint:errorlint // the tree is walked here, leaf by leaf
		return refused.Problems, nil
	}
	return nil, err
}

// report tells Problems that were not there before.
func (p *Proxy) report(problems []ruleset.Problem) {
	now := make(map[ruleset.Problem]struct{}, len(problems))
	for _, problem := range problems {
		now[problem] = struct{}{}
		if _, ok := p.told[problem]; ok {
			continue
		}
		if p.cfg.Problem != nil {
			p.cfg.Problem(problem)
		} else {
			p.cfg.Log.Warn(problem.Message, "service", problem.Service, "reason", problem.Reason)
		}
	}
	p.told = now
}
