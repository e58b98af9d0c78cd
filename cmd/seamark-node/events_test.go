package main

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// recorded keeps Events as text.
type recorded struct{ events []string }

func (r *recorded) Event(object runtime.Object, eventType, reason, message string) {
	o := object.(*corev1.ObjectReference)
	r.events = append(r.events, fmt.Sprintf("%s %s/%s %s %s %s: %s", o.Kind, o.Namespace, o.Name, o.UID, eventType, reason, message))
}
func (r *recorded) Eventf(runtime.Object, string, string, string, ...any) {}
func (r *recorded) AnnotatedEventf(runtime.Object, map[string]string, string, string, string, ...any) {
}

func world(nodes, services int) *cluster.Snapshot {
	s := cluster.NewSnapshot()
	for i := range nodes {
		s.AddNode(&cluster.Node{Name: fmt.Sprintf("n%d", i), Ready: i > 0})
	}
	for i := range services {
		name := cluster.Name{Namespace: "default", Name: fmt.Sprintf("s%d", i)}
		s.AddService(&cluster.Service{Name: name, UID: "uid-" + name.Name})
	}
	return s
}

// TestProblemEvents: what is this node's, every node tells of its own; what all find, one ready node does.
func TestProblemEvents(t *testing.T) {
	snap := world(4, 40)
	told := map[string]int{}
	for i := range 4 {
		r := &recorded{}
		teller := &problemTeller{
			node: fmt.Sprintf("n%d", i), snapshot: func() *cluster.Snapshot { return snap },
			recorder: r, limit: flowcontrol.NewFakeAlwaysRateLimiter(), log: quiet,
		}
		for name := range snap.Services {
			teller.tell(ruleset.Problem{Service: name, Reason: ruleset.ReasonConflict, Message: "shared"})
		}
		for _, e := range r.events {
			told[e]++
		}
		switch n := len(r.events); {
		case i == 0 && n > 0:
			t.Error("a node that is not ready is to tell")
		case i > 0 && n == 0:
			t.Errorf("n%d is to tell of nothing", i)
		}
		r.events = nil
		svc := cluster.Name{Namespace: "default", Name: "s1"}
		teller.tell(ruleset.Problem{Service: svc, Reason: ruleset.ReasonHealthCheck, Message: "port taken"})
		teller.tell(ruleset.Problem{Reason: ruleset.ReasonNoPodCIDR, Message: "no CIDR"})
		teller.tell(ruleset.Problem{Service: cluster.Name{Name: "gone"}, Reason: ruleset.ReasonRefused, Message: "gone"})
		want := fmt.Sprintf("Service default/s1 uid-s1 Warning FailedToStartServiceHealthcheck: node n%d: port taken\nNode /n%[1]d n%[1]d Warning NoPodCIDR: no CIDR", i)
		if got := strings.Join(r.events, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if len(told) != 40 {
		t.Errorf("%d of 40 Services are told of", len(told))
	}
	for e, n := range told {
		if n != 1 || !strings.HasSuffix(e, " Warning FrontendConflict: shared") {
			t.Errorf("%q is told %d times", e, n)
		}
	}
}

// TestProblemEventsAreLimited: a mistake that hits all Services makes no storm.
func TestProblemEventsAreLimited(t *testing.T) {
	snap := world(2, 1000)
	r := &recorded{}
	a := &problemTeller{
		node: "n1", snapshot: func() *cluster.Snapshot { return snap }, recorder: r,
		limit: flowcontrol.NewTokenBucketPassiveRateLimiter(problemEvents, problemEventBurst), log: quiet,
	}
	for name := range snap.Services {
		a.tell(ruleset.Problem{Service: name, Reason: ruleset.ReasonRefused, Message: "no"})
	}
	if n := len(r.events); n < problemEventBurst || n > 10*problemEventBurst {
		t.Errorf("%d events", n)
	}
}
