package speaker

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/speaker/liveness/segment"
)

// One node has the lock at a time, renews it, and loses it to another when it has not done so for the lock's duration, or
// has given it up.
func TestLocks(t *testing.T) {
	kube := fake.NewClientset()
	version := 0
	kube.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		// The fake does not count versions.
		version++
		l := a.(clienttesting.UpdateAction).GetObject().(interface{ SetResourceVersion(string) })
		l.SetResourceVersion(strings.Repeat("1", version))
		return false, nil, nil
	})
	at := func(node string) *locks {
		return newLocks(Config{Node: node, Namespace: "seamark-system", Leases: kube.CoordinationV1()})
	}
	a, b := at("a"), at("b")
	subnet := netip.MustParsePrefix("fd00::/64")
	take := func(l *locks, want bool) {
		t.Helper()
		before := segment.Now()
		until, err := l.Lock(t.Context(), subnet)
		if got := err == nil; got != want {
			t.Fatalf("%s: %v", l.node, err)
		}
		if left := until.Sub(before); want && (left < lockDuration-2*clockError || left > lockDuration) {
			t.Errorf("%s has the lock for %s", l.node, left)
		}
	}
	take(a, true)
	take(b, false)
	take(a, true)
	take(b, false)
	// As if b had seen the lock like this for long.
	for name, s := range b.seen {
		s.at = s.at.Add(-lockDuration - 2*clockError)
		b.seen[name] = s
	}
	take(b, true)
	take(a, false)
	if err := a.Unlock(t.Context(), subnet); err != nil {
		t.Error(err)
	}
	take(a, false) // it was not a's to give up
	if err := b.Unlock(t.Context(), subnet); err != nil {
		t.Error(err)
	}
	take(a, true)
	if err := at("c").Unlock(t.Context(), netip.MustParsePrefix("10.0.0.0/24")); err != nil {
		t.Errorf("a lock that is not there: %v", err)
	}
	kube.PrependReactor("get", "leases", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, errors.New("away") })
	take(a, false)
	if lockDuration%time.Second != 0 {
		t.Error("the Lease says another duration")
	}
}
