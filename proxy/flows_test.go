package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/proxy/healthcheck"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/nft"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// slowFlows takes its time to delete what was set.
type slowFlows struct{ sets, deletes, deleted int }

func (s *slowFlows) Set([]*ruleset.Table, *cluster.Snapshot) bool { s.sets++; return true }
func (s *slowFlows) Pending() bool                                { return s.deleted < s.sets }

func (s *slowFlows) Delete(context.Context) error {
	s.deletes++
	s.deleted = s.sets
	work := func() {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
		}
	}
	for used := time.Duration(0); used < 30*time.Millisecond; { // the processor's, however busy the machine is
		used += cputime.Of(work)
	}
	return nil
}

// Flows are deleted at once after a few changes; where changes go on, all together now and then, and nothing is left. Of
// what that takes nothing is in the way of rules.
func TestFlowsHaveTheirOwnPace(t *testing.T) {
	s := &slowFlows{}
	f := newFlows(s)
	set := func() error {
		f.set(nil, nil)
		return f.delete(t.Context())
	}
	atOnce := 0
	for f.due == nil && atOnce < 100 {
		if err := set(); err != nil {
			t.Fatal(err)
		}
		if f.due == nil {
			atOnce++
		}
	}
	if atOnce < 2 || atOnce > 10 {
		t.Errorf("%d times at once", atOnce)
	}
	if f.used != 0 {
		t.Errorf("what was put off took %v", f.used)
	}
	before := s.deletes
	for range 10 {
		if err := set(); err != nil || f.due == nil {
			t.Fatalf("not put off: %v", err)
		}
	}
	<-f.due
	if err := f.delete(t.Context()); err != nil || s.Pending() || s.deletes != before+1 || f.due != nil || f.used == 0 {
		t.Errorf("%v; %d of %d deleted by %d more calls, which took %v", err, s.deleted, s.sets, s.deletes-before, f.used)
	}
}

// stuckFlows cannot delete what was set until it is told to.
type stuckFlows struct {
	more, pending bool
	sets, deletes atomic.Int32
	err           error
}

func (s *stuckFlows) Set([]*ruleset.Table, *cluster.Snapshot) (more bool) {
	s.sets.Add(1)
	more, s.more = s.more, false
	s.pending = s.pending || more
	return more
}

func (s *stuckFlows) Pending() bool { return s.pending }

func (s *stuckFlows) Delete(context.Context) error {
	s.deletes.Add(1)
	s.pending = s.err != nil
	return s.err
}

// What cannot be deleted is tried again at growing intervals. What comes later does not wait for that, and when all is done
// the intervals are short again.
func TestFlowsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stuckFlows{more: true, err: errors.New("busy")}
		f := newFlows(s)
		start := time.Now()
		var calls []string
		// run calls delete whenever it is due, for a while.
		run := func(d time.Duration) string {
			calls = nil
			end := time.After(d)
			for {
				before := s.deletes.Load()
				if err := f.delete(t.Context()); err != nil && f.due == nil {
					t.Fatal("not tried again")
				}
				if s.deletes.Load() > before {
					calls = append(calls, fmt.Sprint(time.Since(start).Round(100*time.Millisecond)))
				}
				select {
				case <-end:
					return strings.Join(calls, " ")
				case <-f.due:
				}
			}
		}
		f.set(nil, nil)
		if got, want := run(110*time.Second), "0s 100ms 300ms 700ms 1.5s 3.1s 6.3s 12.7s 25.5s 51.1s 1m21.1s"; got != want {
			t.Errorf("tried after %s, want %s", got, want)
		}
		// A sync that changes nothing does not matter, another change does, at once.
		f.set(nil, nil)
		if got := run(0); got != "" {
			t.Errorf("tried again after %s", got)
		}
		s.more = true
		f.set(nil, nil)
		if got := run(0); got != "1m50s" {
			t.Errorf("a change was tried after %q", got)
		}
		s.err = nil
		if got := run(time.Minute); got != "2m20s" || f.due != nil {
			t.Errorf("done after %q", got)
		}
		s.more, s.err, start = true, errors.New("busy again"), time.Now()
		f.set(nil, nil)
		if got, want := run(500*time.Millisecond), "0s 100ms 300ms"; got != want {
			t.Errorf("then tried after %s, want %s", got, want)
		}
	})
}

// Flows that cannot be deleted do not keep the rules from being as wanted, nor the node from being healthy, and are told of
// once.
func TestFlowsThatStay(t *testing.T) {
	h := nstest.New(t)
	var rules *nft.Driver
	var err error
	h.Do(func() { rules, err = nft.New() })
	if err != nil {
		t.Fatal(err)
	}
	defer rules.Close()
	var log bytes.Buffer
	source := newSource()
	p, err := New(Config{
		Rules: ruleset.Config{Node: "n1"}, Source: source, Log: slog.New(slog.NewTextHandler(&log, nil)),
		MinInterval: time.Millisecond, SysctlRoot: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	stuck := &stuckFlows{more: true, err: errors.New("the kernel says that it is busy")}
	n := &node{
		builder: ruleset.NewBuilder(p.cfg.Rules), rules: rules, flows: newFlows(stuck), checks: &healthcheck.Services{},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	source.set(Snapshot(node1, Service("web", "10.96.0.1", webPorts)))
	go func() {
		defer close(done)
		h.Run(func() { p.loop(ctx, n) })
	}()
	time.Sleep(1200 * time.Millisecond)
	cancel()
	<-done

	if err := p.Ready(); err != nil || !p.health.Healthy() {
		t.Errorf("healthy: %v, ready: %v", p.health.Healthy(), err)
	}
	// At 0, 100, 300 and 700 ms.
	deletes := stuck.deletes.Load()
	if syncs := stuck.sets.Load(); syncs > 2 || deletes < 2 || deletes > 4 {
		t.Errorf("%d syncs, of which the first two have a Snapshot to take over, and %d tries", syncs, deletes)
	}
	if n := testutil.ToFloat64(p.metrics.failures.WithLabelValues("conntrack")); n != float64(deletes) {
		t.Errorf("%v failures are counted, of %d", n, deletes)
	}
	if n := strings.Count(log.String(), "it is busy"); n != 1 || strings.Contains(log.String(), "not as wanted") {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
	if p.synced.Load() != nil {
		t.Error("flows count as deleted")
	}

	// The next error is told, and the same again once there was none.
	ctx = t.Context()
	for _, c := range []struct {
		err  error
		told int
	}{{errors.New("another"), 1}, {errors.New("another"), 1}, {nil, 1}, {errors.New("another"), 2}} {
		stuck.more, stuck.err = true, c.err
		if err := p.syncOnce(ctx, n); err != nil {
			t.Error(err)
		}
		if told := strings.Count(log.String(), "another"); told != c.told {
			t.Errorf("%v: told %d times:\n%s", c.err, told, log.String())
		}
	}
}
