package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seamark-io/seamark/cluster/preflight"
)

// part is one of the agent's loops. What happens to one does not concern the others.
type part struct {
	name string
	// run works until ctx ends. again is true where it may be called again after an error.
	run   func(ctx context.Context) error
	again bool
	// first is true for a part that ends before the others: it has traffic come here that they serve.
	first bool
	// ready says what is missing until the part does its work, alive that it hangs; nil: nobody can tell.
	ready, alive func() error

	failed atomic.Pointer[failure]
}

// failure is how run has ended.
type failure struct{ err error }

// The delay before a part is run again doubles from restartMin to restartMax.
const (
	restartMin = time.Second
	restartMax = 30 * time.Second
)

// patience is how long the parts that come first may take to end until the others end all the same: that leaves these their
// share of the pod's terminationGracePeriodSeconds, after which no part ends in order.
const patience = 10 * time.Second

// keepAll keeps the parts, and serves beside them, until ctx ends. Then those parts end that come first, and when they have,
// the others and serve. What somebody must put right ends all at once, and is returned.
func keepAll(ctx context.Context, log *slog.Logger, parts []*part, serve func(context.Context) error) error {
	g, all := errgroup.WithContext(context.WithoutCancel(ctx))
	early, endEarly := context.WithCancel(all)
	late, endLate := context.WithCancel(all)
	defer context.AfterFunc(ctx, endEarly)()
	var first sync.WaitGroup
	for _, p := range parts {
		if p.first {
			first.Add(1)
			g.Go(func() error {
				defer first.Done()
				return p.keep(early, log)
			})
			continue
		}
		g.Go(func() error { return p.keep(late, log) })
	}
	g.Go(func() error { return serve(late) })
	g.Go(func() error {
		<-early.Done()
		timer := time.AfterFunc(patience, func() {
			log.Warn("A part takes long to end: the others do not wait for it", "after", patience)
			endLate()
		})
		defer timer.Stop()
		first.Wait()
		endLate()
		return nil
	})
	return g.Wait()
}

// keep runs the part until ctx ends, again and again where that is possible. Where it is not, the part stays down: the kubelet
// learns from /livez that the agent is to be started anew, and until it does the others work. It returns an error only
// for what somebody must put right before there is any use in going on.
func (p *part) keep(ctx context.Context, log *slog.Logger) error {
	for delay := restartMin; ; delay = min(2*delay, restartMax) {
		err := p.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("it has ended")
		}
		err = fmt.Errorf("%s: %w", p.name, err)
		var missing *preflight.MissingError
		if errors.As(err, &missing) {
			return err
		}
		p.failed.Store(&failure{err})
		if !p.again {
			log.Error("A part has failed", "err", err)
			<-ctx.Done()
			return nil
		}
		log.Error("A part has failed", "err", err, "retry", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		p.failed.Store(nil)
	}
}

// checkReady returns what keeps the part from its work.
func (p *part) checkReady() error {
	if f := p.failed.Load(); f != nil {
		return f.err
	}
	return p.say(p.ready())
}

// checkAlive returns an error if only a new start of the agent can help the part.
func (p *part) checkAlive() error {
	if f := p.failed.Load(); f != nil && !p.again {
		return f.err
	}
	if p.alive == nil {
		return nil
	}
	return p.say(p.alive())
}

func (p *part) say(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", p.name, err)
}
