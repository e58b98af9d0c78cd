package scenarios

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Limits of waiting. They are far above what is usual on two busy cores, and no scenario passes by reaching one.
const (
	podLimit     = 60 * time.Second // a pod starts, or a kubelet's probe is noticed
	changeLimit  = 20 * time.Second // the API says it; the nodes do it
	requestLimit = 2 * time.Second  // one request is answered
	// refusalLimit is the time within which "no" is said by a packet rather than by silence.
	refusalLimit = 500 * time.Millisecond
	// silenceLimit is the time without any packet that is silence: the first SYN may be lost, the next comes after a second
	// (RFC 6298 section 2).
	silenceLimit = 3 * time.Second
	commandLimit = 60 * time.Second // a command ends
	cleanupLimit = 30 * time.Second // something is put back
	pollEvery    = 100 * time.Millisecond
)

// await calls check until it returns nil. After limit the test fails with what was awaited and check's last error, which
// therefore says what was seen, and not only that it was wrong.
func await(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := poll(contextOf(t), limit, check); err != nil {
		t.Fatalf("not within %s: %s\n\tlast seen: %v", limit, what, err)
	}
}

// poll is [await] for where there is no test that could fail.
func poll(ctx context.Context, limit time.Duration, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := errors.New("nothing yet")
	for {
		err := check(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() == nil: // otherwise it may only say that its time was up
			last = err
		}
		select {
		case <-ctx.Done():
			if cluster.running.Err() != nil {
				return context.Cause(cluster.running)
			}
			return last
		case <-time.After(pollEvery):
		}
	}
}

// holds calls check for the given time and fails the test when it first returns an error.
func holds(t *testing.T, during time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); pause(t, pollEvery) {
		if err := check(contextOf(t)); err != nil {
			t.Fatalf("not so for %s: %s: %v", during, what, err)
		}
	}
}

// pause waits for a while.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-contextOf(t).Done():
		t.Fatal(context.Cause(contextOf(t)))
	}
}

// contextOf returns a context that ends with the test, or with the run if that is interrupted.
func contextOf(t *testing.T) context.Context {
	if ctx, ok := cluster.contexts.Load(t); ok {
		return ctx.(context.Context)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := context.AfterFunc(cluster.running, func() { cancel(context.Cause(cluster.running)) })
	if other, loaded := cluster.contexts.LoadOrStore(t, ctx); loaded {
		stop()
		cancel(nil)
		return other.(context.Context)
	}
	t.Cleanup(func() {
		stop()
		cancel(nil)
		cluster.contexts.Delete(t)
	})
	return ctx
}

// commandContext is for a command that ends by itself.
func commandContext(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(contextOf(t), commandLimit, fmt.Errorf("gave up after %s", commandLimit))
}

// putBack undoes something when the test ends, also when it was interrupted: unless the whole lab goes then.
func putBack(t *testing.T, undo func(ctx context.Context)) {
	t.Helper()
	t.Cleanup(func() {
		parent := context.Background()
		if ownsLab() {
			parent = cluster.running
		}
		ctx, cancel := context.WithTimeout(parent, cleanupLimit)
		defer cancel()
		undo(ctx)
	})
}

// want returns an error that tells got from want, unless they are equal.
func want[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, want %v", what, got, want)
	}
	return nil
}
