package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// slowFlows takes its time to delete what was set.
type slowFlows struct{ sets, deletes, deleted int }

func (s *slowFlows) Set([]*ruleset.Table, *cluster.Snapshot) { s.sets++ }
func (s *slowFlows) Pending() bool                           { return s.deleted < s.sets }

func (s *slowFlows) Delete(context.Context) error {
	s.deletes++
	s.deleted = s.sets
	for start := time.Now(); time.Since(start) < 30*time.Millisecond; { // the processor's, not only the clock's
	}
	return nil
}

// Flows are deleted at once after a few changes; where changes go on, all together now and then, and nothing is left. Of what that takes
// nothing is in the way of rules.
func TestFlowsHaveTheirOwnPace(t *testing.T) {
	s := &slowFlows{}
	f := newFlows(s)
	atOnce := 0
	for f.due == nil && atOnce < 100 {
		if err := f.set(t.Context(), nil, nil); err != nil {
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
		if err := f.set(t.Context(), nil, nil); err != nil || f.due == nil {
			t.Fatalf("not put off: %v", err)
		}
	}
	<-f.due
	if err := f.delete(t.Context()); err != nil || s.Pending() || s.deletes != before+1 || f.due != nil || f.used == 0 {
		t.Errorf("%v; %d of %d deleted by %d more calls, which took %v", err, s.deleted, s.sets, s.deletes-before, f.used)
	}
}
