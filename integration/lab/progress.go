package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress writes lines with the time since it was made. It may be used
// concurrently.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
}

func newProgress(w io.Writer) *progress {
	if w == nil {
		w = io.Discard
	}
	return &progress{w: w, start: time.Now()}
}

func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// Write passes on lines of others, such as the artifacts' cache.
func (p *progress) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		p.printf("%s", strings.TrimRight(line, "\n"))
	}
	return len(text), nil
}

// during does something that may take a while, for at most limit, and says every
// few seconds that it is still at it: what is as in "loading x.tar".
func (p *progress) during(ctx context.Context, limit time.Duration, what string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("gave up after %s", limit))
	defer cancel()
	done := make(chan struct{})
	var reminder sync.WaitGroup
	reminder.Go(func() {
		ticker := time.NewTicker(remindEvery)
		defer ticker.Stop()
		for start := time.Now(); ; {
			select {
			case <-done:
				return
			case <-ticker.C:
				p.printf("%s: %s so far", what, time.Since(start).Round(time.Second))
			}
		}
	})
	err := do(ctx)
	close(done)
	reminder.Wait()
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil && !errors.Is(err, cause): // "signal: killed", as a rule
		return fmt.Errorf("%s: %w: %w", what, cause, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// wait is something to wait for.
type wait struct {
	what  string
	limit time.Duration
	// watch names the processes that bring it about. If one of them ends the
	// wait is over, and their logs explain a failure.
	watch []watched
	// check reports whether it has come about, and what is missing if not.
	check func(ctx context.Context) (done bool, missing string)
}

type watched struct {
	host   *Host
	daemon string
}

const (
	checkEvery  = 200 * time.Millisecond
	remindEvery = 5 * time.Second
	checkLimit  = 10 * time.Second
	logLines    = 15
)

// await waits for w, saying what is missing every few seconds.
func (l *Lab) await(ctx context.Context, w wait) error {
	ctx, cancel := context.WithTimeoutCause(ctx, w.limit, fmt.Errorf("gave up after %s", w.limit))
	defer cancel()
	missing, reminded := "", time.Now()
	var blame []watched
	err := poll(ctx, checkEvery, func() (bool, error) {
		checkCtx, cancel := context.WithTimeout(ctx, checkLimit)
		defer cancel()
		done, m := w.check(checkCtx)
		if done {
			return true, nil
		}
		if ctx.Err() == nil {
			missing = m
		}
		for _, dead := range w.watch {
			if !dead.host.running(dead.daemon) {
				blame = []watched{dead}
				return false, errors.New(dead.daemon + " on " + dead.host.Name + " has ended")
			}
		}
		if time.Since(reminded) >= remindEvery {
			reminded = time.Now()
			l.progress.printf("waiting for %s: %s", w.what, missing)
		}
		return false, nil
	})
	if err == nil {
		return nil
	}
	if blame == nil {
		blame = w.watch
	}
	return fmt.Errorf("waiting for %s: %w: %s%s", w.what, err, missing, excerpts(blame))
}

// excerpts returns the ends of the logs of processes.
func excerpts(of []watched) string {
	var b strings.Builder
	for _, w := range of {
		file := w.host.logFile(w.daemon)
		fmt.Fprintf(&b, "\n--- end of %s\n%s", file, tail(file, logLines))
	}
	return b.String()
}
