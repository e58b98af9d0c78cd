package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
)

// labName is the name of the lab that is made where none is given.
const labName = "bench"

// Options of a run.
type Options struct {
	// Lab is the name of a lab that is up, with Seamark as its load balancer. If it is empty one is made, and taken down in
	// any case.
	Lab string
	// Services are the sizes of the bursts, in order; each at most 50,000, so that the addresses suffice.
	Services []int
	// Samples is how many Services are made one at a time.
	Samples int
	// Profile is a file for a profile of the controller's CPU during the first burst; none if empty. It adds to what is
	// measured there.
	Profile string
	// Limit is how long measuring in the lab may take, once that is up.
	Limit time.Duration
	// Log receives progress.
	Log io.Writer
}

const maxServices = 50_000

// Validate says what is wrong with the options.
func (o Options) Validate() error {
	for _, n := range o.Services {
		if n < 1 || n > maxServices {
			return fmt.Errorf("%d Services at once: give 1 to %d", n, maxServices)
		}
	}
	if o.Samples < 1 || o.Samples > maxServices {
		return fmt.Errorf("%d samples: give 1 to %d", o.Samples, maxServices)
	}
	if o.Limit <= 0 {
		return fmt.Errorf("a limit of %s: give one that is longer than nothing", o.Limit)
	}
	return nil
}

// Run measures. That targets were missed is in the report. With an error the report has what was measured until then.
func Run(ctx context.Context, o Options) (r bench.Report, err error) {
	if err := o.Validate(); err != nil {
		return r, err
	}
	log := &progress{w: o.Log, start: time.Now()}
	r = bench.Report{Title: "The provider: giving out addresses"}
	source, err := o.source(ctx)
	if err != nil {
		return r, err
	}
	if r.Environment, err = bench.ReadEnvironment(ctx, source); err != nil {
		return r, err
	}
	log.printf("measuring %s", r.Environment)
	log.printf("one allocation, without a cluster: about 20 s")
	if r.Figures, err = allocation(ctx, source); err != nil {
		return r, err
	}
	l, err := o.openLab(ctx, source)
	if l != nil && o.Lab == "" {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx), labName, o.Log)) }()
	}
	if err != nil {
		return r, err
	}
	defer l.Close()
	c, err := connect(l, log)
	if err != nil {
		return r, err
	}
	if o.Lab != "" {
		defer func() { err = errors.Join(err, c.clear(context.WithoutCancel(ctx))) }()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("measuring in the lab took longer than %s", o.Limit))
	defer cancel()
	if err = c.measure(ctx, o, &r); err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return r, err
}

// source returns the checkout that is measured: that of the lab, or the one around the working directory.
func (o Options) source(ctx context.Context) (string, error) {
	if o.Lab != "" {
		l, err := lab.Open(o.Lab)
		if err != nil {
			return "", err
		}
		defer l.Close()
		return l.Options().Source, nil
	}
	return bench.Checkout(ctx)
}

func (o Options) openLab(ctx context.Context, source string) (*lab.Lab, error) {
	if o.Lab == "" {
		if err := lab.Down(ctx, labName, nil); err != nil { // what a killed run left
			return nil, err
		}
		options := lab.DefaultOptions()
		options.Name, options.Source, options.Progress = labName, source, o.Log
		return lab.Up(ctx, options)
	}
	l, err := lab.Open(o.Lab)
	if err == nil && l.Options().LB != lab.Seamark {
		return nil, fmt.Errorf("the load balancer of lab %s is %s: take one with --lb %s", o.Lab, l.Options().LB, lab.Seamark)
	}
	return l, err
}

// measure fills in what is measured in the cluster.
func (c *cluster) measure(ctx context.Context, o Options, r *bench.Report) error {
	if err := c.furnish(ctx); err != nil {
		return err
	}
	parts := len(o.Services) + 1
	c.log.printf("part 1 of %d: %d Services, one at a time", parts, o.Samples)
	i, err := c.idle(ctx, o.Samples)
	if err != nil {
		return fmt.Errorf("%d Services, one at a time: %w", o.Samples, err)
	}
	splits := []split{i.split()}
	r.Figures = append(r.Figures, i.figures()...)
	tables := i.tables()
	r.Tables = append([]bench.Table{writesTable(splits)}, tables...)
	r.Samples = i.csv()
	profile := o.Profile
	var alone time.Duration
	for n, services := range o.Services {
		c.log.printf("part %d of %d: %d Services at once, first without Seamark", n+2, parts, services)
		b, err := c.burst(ctx, services, profile)
		if err != nil {
			return fmt.Errorf("%d Services at once: %w", services, err)
		}
		profile = ""
		splits, tables = append(splits, b.split()), append(tables, b.tables()...)
		r.Figures = append(r.Figures, b.figures()...)
		if services == referenceServices {
			alone = b.alone
		}
		r.Tables = append([]bench.Table{writesTable(splits)}, tables...)
		if n < len(o.Services)-1 {
			if err := c.remove(ctx); err != nil {
				return err
			}
		}
	}
	if alone > 0 {
		forThisMachine(r.Figures, alone)
	}
	return nil
}
