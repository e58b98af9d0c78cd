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
	pollEvery    = 100 * time.Millisecond
)

// await calls check until it returns nil. After limit the test fails with what was awaited and check's last error, which
// therefore says what was seen, and not only that it was wrong.
func await(t *testing.T, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	if err := poll(t.Context(), limit, check); err != nil {
		t.Fatalf("not within %s: %s\n\tlast seen: %v", limit, what, err)
	}
}

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
			return last
		case <-time.After(pollEvery):
		}
	}
}

// holds calls check for the given time and fails the test when it first returns an error.
func holds(t *testing.T, during time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(pollEvery) {
		if err := check(t.Context()); err != nil {
			t.Fatalf("not so for %s: %s: %v", during, what, err)
		}
	}
}

// want returns an error that tells got from want, unless they are equal.
func want[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, want %v", what, got, want)
	}
	return nil
}
