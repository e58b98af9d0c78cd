package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
)

// labName is that of the lab that is made.
const labName = "failover"

// Options of Run.
type Options struct {
	// Repetitions of each fault.
	Repetitions int
	// Many is the number of Services in the measurements with many. Addresses is how many there are where an agent's size is measured,
	// and a router with many routes.
	Many, Addresses int
	// Outage is how long the API server is gone before a fault, Busy how long all processors are kept busy.
	Outage, Busy time.Duration
	// Limit is how long measuring in the lab may take.
	Limit time.Duration
	// Only names the measurements to make; empty: all.
	Only []string
	Log  io.Writer
}

// measurement is one row of the report, or several.
type measurement struct {
	name  string
	about string
	run   func(ctx context.Context, w *world) error
}

// bare are the measurements that need no lab: they are made before there is one, which would be in their way.
func bare() []measurement {
	return []measurement{
		{"arp", "ARP requests answered", func(ctx context.Context, w *world) error { return w.answerARP(ctx) }},
	}
}

func inLab() []measurement {
	return []measurement{
		{"link4", "owner's link cut, one IPv4 address", func(ctx context.Context, w *world) error { return w.cutOwner(ctx, w.one, 0) }},
		{"link6", "owner's link cut, one IPv6 address", func(ctx context.Context, w *world) error { return w.cutOwner(ctx, w.one, 1) }},
		{"killed", "owner's agent killed", func(ctx context.Context, w *world) error { return w.killAgent(ctx) }},
		{"frozen", "owner's agent frozen for 10 s", func(ctx context.Context, w *world) error { return w.freezeAgent(ctx) }},
		{"restart", "agents restarted one after the other", func(ctx context.Context, w *world) error { return w.restartAgents(ctx) }},
		{"drain", "owner drained", func(ctx context.Context, w *world) error { return w.drainOwner(ctx) }},
		{"bfd", "link of a node cut, seen from behind the router", func(ctx context.Context, w *world) error { return w.cutRoute(ctx) }},
		{"create", "a new Service", func(ctx context.Context, w *world) error { return w.create(ctx) }},
		{"idle", "agents with nothing to do", func(ctx context.Context, w *world) error { return w.footprint(ctx) }},
		{"api", "owner's link cut without an API server", func(ctx context.Context, w *world) error { return w.withoutAPI(ctx) }},
		{"busy", "all processors busy", func(ctx context.Context, w *world) error { return w.busy(ctx) }},
		{"many", "owner's link cut, many addresses", func(ctx context.Context, w *world) error { return w.cutMany(ctx) }},
		{"footprint", "an agent that is a speaker only, with many addresses", func(ctx context.Context, w *world) error { return w.speakerOnly(ctx) }},
		{"keepalived", "keepalived, owner's link cut", func(ctx context.Context, w *world) error { return w.keepalived(ctx) }},
		{"routes", "link of a node cut, seen from behind a router with many routes", func(ctx context.Context, w *world) error { return w.cutRoutes(ctx) }},
	}
}

// Names returns the names that Options.Only may have.
func Names() (out []string) {
	for _, m := range slices.Concat(bare(), inLab()) {
		out = append(out, m.name)
	}
	return out
}

// Run measures in a lab that it makes and takes down.
func Run(ctx context.Context, o Options) (r bench.Report, err error) {
	log := &progress{w: o.Log, start: time.Now()}
	r = bench.Report{Title: "The speaker: failover", Samples: bench.Samples{Columns: []string{"measurement", "repetition", "ms", "lost"}}}
	source, err := bench.Checkout(ctx)
	if err != nil {
		return r, err
	}
	if r.Environment, err = bench.ReadEnvironment(ctx, source); err != nil {
		return r, err
	}
	if err := lab.Down(ctx, labName, nil); err != nil { // what a killed run left
		return r, err
	}
	w := &world{source: source, options: o, log: log, report: &r}
	if err := w.measure(ctx, bare()); err != nil || !slices.ContainsFunc(inLab(), o.wanted) {
		return r, err
	}
	options := lab.DefaultOptions()
	options.Name, options.Source, options.Progress, options.Images = labName, source, o.Log, []string{"agnhost"}
	w.lab, err = lab.Up(ctx, options)
	if w.lab != nil {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), labName, o.Log)) }()
	}
	if err != nil {
		return r, err
	}
	defer w.lab.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("measuring in the lab took longer than %s", o.Limit))
	defer cancel()
	if err := w.furnish(ctx); err != nil {
		return r, err
	}
	err = w.measure(ctx, inLab()) // writes into r
	return r, err
}

// wanted reports whether a measurement is to be made.
func (o Options) wanted(m measurement) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, m.name)
}

// measure makes those of the measurements that are wanted, one after the other.
func (w *world) measure(ctx context.Context, list []measurement) error {
	for _, m := range list {
		if !w.options.wanted(m) {
			continue
		}
		w.log.printf("%s: %s", m.name, m.about)
		if err := m.run(ctx, w); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", m.name, err), context.Cause(ctx))
		}
	}
	return nil
}

// progress writes lines with the time since the start.
type progress struct {
	w     io.Writer
	start time.Time
}

func (p *progress) printf(format string, args ...any) {
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
