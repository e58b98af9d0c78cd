package provider

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// An event is made for each thing that goes wrong: not when only figures or names in its text change, and not again by a
// controller that takes over.
func TestEventsOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.controller()
		w.pool("default", "192.0.2.0/32")
		for _, name := range []string{"a", "b", "c", "d"} {
			w.service(name)
		}
		w.service("torn", both(annotated("seamark.io/pool", "none"), annotated("metallb.io/address-pool", "default")))
		w.wantWaiting("torn", "PoolUnknown", `note: seamark.io/pool ("none")`)
		w.wantEvents("a", "EnsuredLoadBalancer")
		for _, name := range []string{"b", "c", "d"} {
			w.wantEvents(name, "PoolExhausted")
		}
		w.wantEvents("torn", "ConflictingRequest", "PoolUnknown")
		w.pool("default", "192.0.2.0/31")
		w.wantAddress("b", "192.0.2.1")
		w.pool("other", "198.51.100.0/32")
		w.wantAddress("c", "198.51.100.0")
		time.Sleep(detailsDelay)
		w.settle()
		w.wantWaiting("d", "PoolExhausted", "IPPools default, other (3 of 3 in use)")
		stop()
		w.controller()
		time.Sleep(3 * sweepPeriod)
		w.update("a", annotated("example.com/note", "wakes the stock controller"))
		w.wantEvents("a", "EnsuredLoadBalancer")
		w.wantEvents("b", "PoolExhausted", "EnsuredLoadBalancer")
		w.wantEvents("c", "PoolExhausted", "EnsuredLoadBalancer")
		w.wantEvents("d", "PoolExhausted")
		w.wantEvents("torn", "ConflictingRequest", "PoolUnknown")

		// An event for each request, and for each change of the address.
		w.update("d", annotated("seamark.io/addresses", "192.0.2.0"))
		w.wantWaiting("d", "AddressTaken", "shop/a")
		w.update("d", annotated("seamark.io/addresses", "192.0.2.1"))
		w.wantWaiting("d", "AddressTaken", "shop/b")
		w.wantEvents("d", "PoolExhausted", "AddressTaken", "AddressTaken")
		w.pool("third", "203.0.113.0/32")
		w.update("a", annotated("seamark.io/addresses", "203.0.113.0"))
		w.wantAddress("a", "203.0.113.0")
		w.wantEvents("a", "EnsuredLoadBalancer", "EnsuredLoadBalancer")
	})
}

// The conditions of Services that wait are not written anew at once whenever the figures in them change.
func TestConditionsOfManyThatWait(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/32")
		for i := range 10 {
			w.service(fmt.Sprint("s", i))
		}
		w.kube.ClearActions()
		for i := range 5 {
			w.pool(fmt.Sprint("more", i), fmt.Sprintf("198.51.100.%d/32", i))
		}
		writes := 0
		for _, a := range w.kube.Actions() {
			if a.GetVerb() == "patch" && a.GetResource().Resource == "services" {
				writes++
			}
		}
		if writes != 5 {
			t.Errorf("%d writes of Services; want one for each that got an address", writes)
		}
	})
}

// A Service that waits and then is no load balancer any more, or one of another class, has no condition of ours.
func TestNoLongerWaits(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.controller()
		for _, name := range []string{"type", "class", "later"} {
			w.service(name)
			w.wantWaiting(name, "NoPool", "")
		}
		other := "example.com/other"
		w.update("type", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		w.update("class", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other })
		stop()
		w.update("later", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other })
		w.controller()
		time.Sleep(2 * alongWith)
		w.pool("default", "192.0.2.0/29")
		for _, name := range []string{"type", "class", "later"} {
			w.wantAddress(name, "")
			if c := w.get(name).Status.Conditions; len(c) > 0 {
				t.Errorf("%s: conditions %+v", name, c)
			}
		}
	})
}

// A controller that died after it had given back the addresses of a Service that is of another class now leaves nothing
// behind; the finalizer of one that never was ours stays.
func TestClassChangedHalfWay(t *testing.T) {
	other := "example.com/other"
	inWorld(t, func(w *world) {
		half := func(s *corev1.Service) {
			s.Spec.LoadBalancerClass = &other
			s.Finalizers = []string{"service.kubernetes.io/load-balancer-cleanup"}
		}
		w.create("half", both(half, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.0"}}
			meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{Type: v1alpha1.ServiceAddressAllocated, Status: metav1.ConditionTrue, Reason: "Allocated"})
		}))
		w.create("foreign", half)
		w.controller()
		if s := w.get("half"); len(s.Finalizers)+len(s.Status.Conditions)+len(s.Status.LoadBalancer.Ingress) > 0 {
			t.Errorf("left behind: finalizers %q, status %+v", s.Finalizers, s.Status)
		}
		if s := w.get("foreign"); len(s.Finalizers) != 1 {
			t.Error("another's finalizer was taken off")
		}
	})
}

// An API server that fails costs nothing but time, a few seconds of it, and one event if it goes on.
func TestWritesThatFail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		var broken atomic.Bool
		broken.Store(true)
		fails := func(clienttesting.Action) (bool, runtime.Object, error) {
			return broken.Load(), nil, errors.New("etcd is not there")
		}
		w.fake.PrependReactor("create", "vips", fails)
		w.service("web")
		if len(w.vips()) > 0 {
			t.Error("a VIP although none could be written")
		}
		w.wantWaiting("web", "WriteFailed", "etcd is not there; it is tried again every few seconds")
		time.Sleep(time.Hour)
		broken.Store(false)
		time.Sleep(retryWriteLongest + retryWriteLongest/2)
		w.settle()
		w.wantAddress("web", "192.0.2.0")
		if got := w.ownEvents(); len(got) != 1 || !strings.Contains(got[0], "WriteFailed") {
			t.Errorf("events %q", got)
		}
		told := []string{"WriteFailed", "EnsuredLoadBalancer"}
		if w.sole {
			slices.Reverse(told) // the first try writes the status with the VIP
		}
		w.wantEvents("web", told...)

		// The same for the writes that the stock controller makes, and for what it asks for when it cleans up.
		var stuck atomic.Bool
		fails = func(clienttesting.Action) (bool, runtime.Object, error) {
			return stuck.Load(), nil, errors.New("etcd is not there")
		}
		w.kube.PrependReactor("patch", "services", fails)
		w.fake.PrependReactor("delete", "vips", fails)
		for _, do := range []func(){
			func() { w.service("late") },
			func() { w.update("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }) },
		} {
			stuck.Store(true)
			do()
			time.Sleep(time.Hour)
			stuck.Store(false)
			time.Sleep(retryWriteLongest + retryWriteLongest/2)
			w.settle()
		}
		w.wantAddress("late", "192.0.2.1")
		w.wantEvents("late", "WriteFailed", "EnsuredLoadBalancer")
		w.wantAddress("web", "")
		w.wantEvents("web", append(told, "WriteFailed")...) // client-go drops DeletedLoadBalancer, after so many tries
		if c := w.get("web").Status.Conditions; len(c) > 0 {
			t.Errorf("conditions left behind: %+v", c)
		}

		// What fails after it was not wanted for a while is told again.
		broken.Store(true)
		w.service("off")
		time.Sleep(time.Minute)
		w.update("off", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		time.Sleep(time.Minute)
		before := len(w.eventsAbout("off"))
		w.update("off", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
		time.Sleep(time.Minute)
		if got := w.eventsAbout("off"); !slices.ContainsFunc(got[before:], func(e string) bool { return strings.HasPrefix(e, "WriteFailed") }) {
			t.Errorf("events %q, %d of them before", got, before)
		}
	})
}

// Of many Services at once the first are told that they have their addresses, and some each second; all have the condition.
func TestEventsOfABurst(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/24")
		name := func(i int) string { return fmt.Sprintf("burst-%03d", i) }
		const many = 2 * ensuredAtOnce
		for i := range many {
			w.create(name(i))
		}
		w.settle()
		told := 0
		for i := range many {
			if len(w.eventsAbout(name(i))) > 0 {
				w.wantEvents(name(i), "EnsuredLoadBalancer")
				told++
			}
			if c := w.get(name(i)).Status.Conditions; len(c) != 1 || c[0].Status != metav1.ConditionTrue {
				t.Errorf("%s: conditions %+v", name(i), c)
			}
		}
		if told < ensuredAtOnce || told > ensuredAtOnce+2*ensuredASecond {
			t.Errorf("%d of %d Services were told of, want %d", told, many, ensuredAtOnce)
		}
		time.Sleep(time.Minute)
		w.service("later")
		w.wantEvents("later", "EnsuredLoadBalancer")
	})
}

// What was told before writes failed is not told again when that is over.
func TestWaitsAfterWritesThatFail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("first")
		w.service("waits")
		w.wantWaiting("waits", "PoolExhausted", "IPPool default")
		var broken atomic.Bool
		broken.Store(true)
		w.fake.PrependReactor("create", "vips", func(clienttesting.Action) (bool, runtime.Object, error) {
			return broken.Load(), nil, errors.New("etcd is not there")
		})
		w.pool("more", "198.51.100.0/32")
		time.Sleep(time.Minute)
		w.settle()
		w.wantWaiting("waits", "WriteFailed", "etcd is not there; it is tried again every few seconds")
		w.must(w.seamark.IPPools.Delete(w.Context(), "more", metav1.DeleteOptions{}))
		time.Sleep(time.Minute)
		broken.Store(false)
		w.settle()
		w.wantAddress("waits", "")
		w.wantWaiting("waits", "PoolExhausted", "IPPool default")
		told := []string{"PoolExhausted", "WriteFailed"}
		if w.sole {
			told = []string{"PoolExhausted", "EnsuredLoadBalancer", "WriteFailed", "PoolExhausted"} // the status was written, the VIP was not
		}
		w.wantEvents("waits", told...)
	})
}

// The stock controller's events about what it is going to do are not written, and not counted.
func TestFewerEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("web")
		for i := range 3 {
			w.update("web", annotated("example.com/note", fmt.Sprint(i)))
		}
		w.delete("web")
		w.wantEvents("web", "EnsuredLoadBalancer", "DeletedLoadBalancer")
		for _, a := range w.kube.Actions() {
			if a.GetResource().Resource == "events" && a.GetVerb() == "patch" {
				t.Errorf("it counts one that was not written: %s", a.(clienttesting.PatchAction).GetPatch())
			}
		}
	})
}

// What a Service costs in writes: its VIP and one patch; and one deletion and one patch when it goes.
func TestWritesPerService(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.kube.ClearActions()
		w.fake.ClearActions()
		writes := func() (out []string) {
			for _, a := range append(w.kube.Actions(), w.fake.Actions()...) {
				switch verb, what := a.GetVerb(), a.GetResource().Resource; {
				case verb == "get" || verb == "list" || verb == "watch" || what == "events" || what == "ippools":
				case what == "services" && (verb == "create" || verb == "update" || verb == "delete"): // the user
				default:
					out = append(out, verb+" "+what)
				}
			}
			slices.Sort(out)
			w.kube.ClearActions()
			w.fake.ClearActions()
			return out
		}
		w.service("web")
		time.Sleep(3 * sweepPeriod)
		if got := writes(); !slices.Equal(got, []string{"create vips", "patch services"}) {
			t.Errorf("a Service that comes: %q", got)
		}
		w.delete("web")
		time.Sleep(3 * sweepPeriod)
		if got := writes(); !slices.Equal(got, []string{"delete vips", "patch services"}) {
			t.Errorf("a Service that goes: %q", got)
		}
	})
}
