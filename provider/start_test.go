package provider

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// writes returns how many things the controllers have written.
func (w *world) writes() (n int) {
	for _, a := range append(w.kube.Actions(), w.fake.Actions()...) {
		if v := a.GetVerb(); v != "get" && v != "list" && v != "watch" {
			n++
		}
	}
	return n
}

// Nothing is given out, and nothing told, before Services, namespaces, nodes, pools, VIPs and ServiceCIDRs have been read.
func TestNothingBeforeSync(t *testing.T) {
	for _, what := range []string{"services", "namespaces", "nodes", "ippools", "vips", "servicecidrs"} {
		t.Run(what, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.kube.Resources = []*metav1.APIResourceList{{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "servicecidrs"}}}}
				w.pool("default", "192.0.2.0/30")
				w.create("web")
				var broken atomic.Bool
				broken.Store(true)
				fails := func(clienttesting.Action) (bool, runtime.Object, error) {
					return broken.Load(), nil, errors.New("not yet")
				}
				w.kube.PrependReactor("list", what, fails)
				w.fake.PrependReactor("list", what, fails)
				before := w.writes()
				w.controller()
				time.Sleep(5 * time.Minute)
				if n := w.writes() - before; n > 0 || len(w.eventsAbout("web")) > 0 {
					t.Errorf("%d writes before %s were read, events %q", n, what, w.eventsAbout("web"))
				}
				broken.Store(false)
				time.Sleep(time.Minute)
				w.wantAddress("web", "192.0.2.0")
			})
		})
	}
}

// A Service that is seen before its namespace, since one kubectl apply made both, is not decided without its labels: not when a
// controller starts, and not later.
func TestServiceBeforeItsNamespace(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pool("any", "192.0.2.0/29")
		w.pool("own", "198.51.100.0/29")
		w.editPool("own", func(p *v1alpha1.IPPool) {
			p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
		})
		goes := func() {
			w.must(w.kube.CoreV1().Namespaces().Delete(w.Context(), "shop", metav1.DeleteOptions{}))
			w.settle()
		}
		inOwn := func(names ...string) {
			t.Helper()
			for _, name := range names {
				if got := w.vipsOf(name); len(got) != 1 || !strings.HasPrefix(got[0], "198.51.100.") {
					t.Errorf("%s has %q; want an address of the namespace's own pool", name, got)
				} else {
					w.wantAddress(name, got[0])
				}
				w.wantEvents(name, "EnsuredLoadBalancer")
			}
		}
		goes()
		w.create("first")
		w.create("asked", annotated("seamark.io/pool", "own"))
		stop := w.controller()
		w.wantEvents("first")
		w.wantEvents("asked")
		w.createNamespace("shop", "a")
		inOwn("first", "asked")

		goes()
		w.service("second")
		w.service("asks", annotated("seamark.io/pool", "own"))
		w.update("first", annotated("example.com/note", "wakes the stock controller"))
		w.pool("any", "192.0.2.0/28")
		time.Sleep(3 * sweepPeriod)
		w.wantAddress("second", "")
		w.createNamespace("shop", "a")
		inOwn("first", "asked", "second", "asks")

		// One that waits is promised nothing meanwhile.
		w.labelNamespace("shop", "b")
		w.editPool("any", func(p *v1alpha1.IPPool) { p.Spec.State = v1alpha1.PoolDraining })
		w.service("waits")
		w.wantAddress("waits", "")
		goes()
		w.editPool("any", func(p *v1alpha1.IPPool) { p.Spec.State = "" })
		w.createNamespace("shop", "a")
		w.wantAddress("waits", "198.51.100.4")

		// One that goes after its namespace has gone leaves nothing behind.
		goes()
		w.delete("first")
		stop()
		w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), "second", metav1.DeleteOptions{}))
		w.controller()
		inOwn("asked", "asks")
		if n := len(w.vips()); n != 3 {
			t.Errorf("%d VIPs, want those of asked, asks and waits: %+v", n, w.vips())
		}
	})
}

// Whether there are ServiceCIDRs is asked until there is an answer.
func TestDiscoveryFails(t *testing.T) {
	inWorld(t, func(w *world) {
		w.must(w.kube.Tracker().Add(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"192.0.2.0/31"}}}))
		w.kube.Resources = []*metav1.APIResourceList{{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "servicecidrs"}}}}
		var broken atomic.Bool
		broken.Store(true)
		w.kube.PrependReactor("get", "resource", func(clienttesting.Action) (bool, runtime.Object, error) {
			if broken.Load() {
				return true, nil, errors.New("an aggregated API is not there")
			}
			return false, nil, nil
		})
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.create("web")
		time.Sleep(time.Minute)
		broken.Store(false)
		time.Sleep(time.Minute)
		w.wantAddress("web", "192.0.2.2")
		pool, err := w.seamark.IPPools.Get(w.Context(), "default", metav1.GetOptions{})
		w.must(err)
		if c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolOverlaps); c == nil || !strings.Contains(c.Message, "ServiceCIDR kubernetes") {
			t.Errorf("condition %+v", c)
		}
	})
}

// A replica that does not lead watches and writes nothing; when it leads it knows what the one before did.
func TestWarmStandby(t *testing.T) {
	inWorld(t, func(w *world) {
		lead, _, p := w.standby()
		w.pool("default", "192.0.2.0/30")
		w.create("early")
		w.settle()
		time.Sleep(2 * sweepPeriod)
		if len(w.vips()) > 0 || len(w.eventsAbout("early")) > 0 {
			t.Fatalf("it does not lead, and writes: %+v", w.vips())
		}
		stop := w.controller()
		w.wantAddress("early", "192.0.2.0")
		w.service("moves")
		w.service("goes")
		w.update("moves", annotated("seamark.io/addresses", "192.0.2.3"))
		w.wantAddress("moves", "192.0.2.3")
		w.delete("goes")
		if p.isReady() || len(p.alloc.written) != 2 {
			t.Errorf("the other knows of %d VIPs; want 2", len(p.alloc.written))
		}
		stop()
		w.create("late")
		lead()
		w.wantAddress("early", "192.0.2.0")
		w.wantAddress("moves", "192.0.2.3")
		w.wantAddress("late", "192.0.2.1")
		w.service("last")
		w.wantAddress("last", "192.0.2.2")
		if n := len(w.vips()); n != 4 {
			t.Errorf("%d VIPs; want 4", n)
		}
	})
}

// Beside another implementation, which serves Services without class, the controller serves those of its class and touches no
// others. What it had before it was told so it gives back.
func TestOnlyItsClass(t *testing.T) {
	class := v1alpha1.LoadBalancerClass
	inWorld(t, func(w *world) {
		stop := w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("before")
		w.wantAddress("before", "192.0.2.0")
		stop()
		w.only = true
		w.controller()
		w.service("theirs", func(s *corev1.Service) {
			s.Finalizers = []string{"service.kubernetes.io/load-balancer-cleanup"}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.3"}}
		})
		w.service("ours", func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class })
		w.wantAddress("ours", "192.0.2.0")
		w.wantAddress("before", "")
		if got := w.get("theirs"); len(got.Finalizers) == 0 || len(got.Status.LoadBalancer.Ingress) != 1 || len(got.Status.Conditions) > 0 || len(w.eventsAbout("theirs")) > 0 {
			t.Errorf("somebody else's was touched: %+v, %v", got, w.eventsAbout("theirs"))
		}
		if got := w.get("before"); len(got.Finalizers) > 0 || len(got.Status.Conditions) > 0 {
			t.Errorf("what it had before keeps %q, %+v", got.Finalizers, got.Status.Conditions)
		}
		if n := len(w.vips()); n != 1 {
			t.Errorf("%d VIPs; want 1", n)
		}
	})
}

// With a class of its own the controller serves that, and leaves Seamark's alone.
func TestOtherClass(t *testing.T) {
	class := func(name string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name }
	}
	inWorld(t, func(w *world) {
		w.class = "example.com/edge"
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("theirs", class(v1alpha1.LoadBalancerClass))
		w.service("ours", class("example.com/edge"))
		w.service("none")
		w.wantAddress("theirs", "")
		w.wantAddress("ours", "192.0.2.0")
		w.wantAddress("none", "192.0.2.1")
		w.delete("ours")
	})
}
