package provider

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
)

// calls are what controllers have asked of the API server in all tests, as "verb resource.group". What the tests do themselves, as users, is not among them.
type calls struct {
	mu   sync.Mutex
	seen map[string]bool
}

var called = calls{seen: map[string]bool{}}

func (c *calls) add(actions []clienttesting.Action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range actions {
		if discovery := a.GetResource().Resource == "resource"; discovery {
			continue // which everybody may
		}
		resource := a.GetResource().Resource
		if sub := a.GetSubresource(); sub != "" {
			resource += "/" + sub
		}
		c.seen[call(a.GetVerb(), a.GetResource().Group, resource)] = true
	}
}

func call(verb, group, resource string) string {
	if group != "" {
		resource += "." + group
	}
	return verb + " " + resource
}

// compare returns how what was called differs from Access.
func (c *calls) compare() (problems []string) {
	declared := map[string]bool{}
	for _, a := range Access() {
		for _, verb := range a.Verbs {
			declared[call(verb, a.Group, a.Resource)] = true
		}
		if a.Namespace != "" || a.Name != "" {
			problems = append(problems, fmt.Sprintf("%+v is limited: the controllers work in all namespaces", a))
		}
	}
	for _, call := range slices.Sorted(maps.Keys(c.seen)) {
		if !declared[call] {
			problems = append(problems, "called, but not declared: "+call)
		}
	}
	for _, call := range slices.Sorted(maps.Keys(declared)) {
		if !c.seen[call] {
			problems = append(problems, "declared, but never called: "+call)
		}
	}
	return problems
}

// The provider tells through a recorder that the program makes for it; this is what that calls when the same is told twice.
func TestEventsRecorderCalls(t *testing.T) {
	kube := fake.NewClientset()
	events := record.NewBroadcaster()
	defer events.Shutdown()
	events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kube.CoreV1().Events("")})
	recorder := events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: FieldManager})
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	for range 2 {
		recorder.Event(svc, corev1.EventTypeWarning, "PoolExhausted", "no free IPv4 address")
	}
	patched := func() bool {
		return slices.ContainsFunc(kube.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "patch" })
	}
	for range 1000 {
		if patched() {
			called.add(kube.Actions())
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("it never patched the event: %v", kube.Actions())
}

// checkCalls runs after all tests, when nothing was left out.
func checkCalls(m *testing.M) int {
	code := m.Run()
	if code != 0 || testing.Short() || !allTests() {
		return code
	}
	for _, p := range called.compare() {
		fmt.Println("access:", p)
		code = 1
	}
	return code
}

// allTests reports whether neither -run nor -skip selects among the tests.
func allTests() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
}
