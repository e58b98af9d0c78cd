package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seamark-io/seamark/integration/bench"
)

// burst is what was measured while many Services were made at once.
type burst struct {
	services int
	// From the first call on: how long making them takes where nothing of Seamark runs, how long where it does, and until the
	// last has its address.
	alone, made, served time.Duration
	// What had been used before the Services without Seamark, and after.
	aloneBefore, aloneAfter bench.Accounts
	// lag is, for each, the time from the return of the call to the address in its status, in milliseconds.
	lag []float64
	// before the first was made, and after the controller had done all that follows.
	before, after counters
	// atServed is what had been used when the last had its address.
	atServed bench.Accounts
}

// burst makes n Services at once: first while nothing of Seamark runs, then for a controller that has just started. With a file for
// it, the controller is profiled meanwhile.
func (c *cluster) burst(ctx context.Context, n int, profile string) (b *burst, err error) {
	b = &burst{services: n}
	if err := errors.Join(c.scale(ctx, 0), c.agents(ctx, false)); err != nil {
		return nil, err
	}
	if err := c.createAlone(ctx, b); err != nil {
		return nil, err
	}
	if err := errors.Join(c.agents(ctx, true), c.scale(ctx, 1)); err != nil {
		return nil, err
	}
	if err := c.warmUp(ctx); err != nil {
		return nil, err
	}
	if b.before, err = c.counters(ctx); err != nil {
		return nil, err
	}
	if err := c.serve(ctx, b, profile); err != nil {
		return nil, err
	}
	c.log.printf("all have an address after %.1f s; waiting until the controller has done the rest", b.served.Seconds())
	if err := c.quiet(ctx); err != nil {
		return nil, err
	}
	b.after, err = c.counters(ctx)
	return b, err
}

func names(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}

// createAlone makes the Services of the burst while nothing of Seamark runs, and deletes them.
func (c *cluster) createAlone(ctx context.Context, b *burst) (err error) {
	if err := c.quiet(ctx); err != nil {
		return err
	}
	if b.aloneBefore, err = bench.ReadAccounts(c.lab); err != nil {
		return err
	}
	var created moments
	progress := func() string {
		return fmt.Sprintf("%d of %d Services created, without Seamark", created.count(), b.services)
	}
	start := time.Now()
	err = c.log.during(progress, func() error { return c.create(ctx, names("alone", b.services), &created) })
	b.alone = time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w", progress(), err)
	}
	c.log.printf("without Seamark %d Services take %.1f s", b.services, b.alone.Seconds())
	if err := c.quiet(ctx); err != nil {
		return err
	}
	if b.aloneAfter, err = bench.ReadAccounts(c.lab); err != nil {
		return err
	}
	return c.remove(ctx)
}

const (
	warmUps     = 20
	warmUpLimit = time.Minute
)

// warmUp makes a few Services, waits until they have an address, deletes them, and waits until the lab is idle: then the
// controller leads, and has read and written everything once.
func (c *cluster) warmUp(ctx context.Context) error {
	if err := c.warm(ctx); err != nil {
		return fmt.Errorf("%d Services to warm up: %w", warmUps, err)
	}
	if err := c.remove(ctx); err != nil {
		return err
	}
	return c.quiet(ctx)
}

func (c *cluster) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, warmUpLimit, fmt.Errorf("no addresses within %s", warmUpLimit))
	defer cancel()
	a, err := c.arrivals(ctx, warmUps)
	if err != nil {
		return err
	}
	err = c.create(ctx, names("warm", warmUps), new(moments))
	if err == nil {
		err = a.await(ctx)
	}
	_, watchErr := a.stop()
	return errors.Join(err, watchErr)
}

// serve makes the Services of the burst and waits until all have an address.
func (c *cluster) serve(ctx context.Context, b *burst, profile string) error {
	limit := burstLimit(b.services)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("gave up after %s", limit))
	defer cancel()
	a, err := c.arrivals(ctx, b.services)
	if err != nil {
		return err
	}
	var created moments
	progress := func() string {
		return fmt.Sprintf("%d of %d Services created, %d have an address", created.count(), b.services, a.count())
	}
	start := time.Now()
	err = c.log.during(progress, func() error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error {
			defer func() { b.made = time.Since(start) }()
			return c.create(ctx, names("burst", b.services), &created)
		})
		group.Go(func() error { return a.await(ctx) })
		if profile != "" {
			group.Go(func() error { return c.profile(ctx, profile) })
		}
		return group.Wait()
	})
	accounts, accountsErr := bench.ReadAccounts(c.lab)
	seen, watchErr := a.stop()
	if err := errors.Join(err, accountsErr, watchErr); err != nil {
		return fmt.Errorf("%s: %w", progress(), err)
	}
	b.atServed = accounts
	for name, arrival := range seen {
		b.served = max(b.served, arrival.at.Sub(start))
		// The watch can be faster than the answer to the call.
		b.lag = append(b.lag, max(0, milliseconds(arrival.at.Sub(created.at[name]))))
	}
	return distinct(seen)
}

// burstLimit is how long a burst takes at most: five times what is the target for 10,000, and more for few.
func burstLimit(services int) time.Duration {
	return time.Minute + time.Duration(services)*60*time.Millisecond
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// profileFor is how long the controller's CPU is profiled, counted from the first Service.
const profileFor = 10 * time.Second

// profile writes a profile of the controller's CPU to a file.
func (c *cluster) profile(ctx context.Context, file string) error {
	answer, err := c.askController(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%.0f", profileFor.Seconds()))
	if err != nil {
		return err
	}
	defer answer.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, answer)
	return errors.Join(err, out.Close())
}
