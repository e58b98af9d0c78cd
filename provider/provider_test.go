package provider

import (
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
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

func dualStack(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.IPFamilyPolicy = &policy
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
}

func annotated(key, value string) func(*corev1.Service) {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value) }
}

func TestLifeOfAService(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30", "2001:db8::/64")
		w.service("web")
		w.service("dual", dualStack(corev1.IPFamilyPolicyRequireDualStack))
		w.service("internal", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		w.service("foreign", func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") })
		w.wantAddress("web", "192.0.2.0")
		w.wantAddress("dual", "192.0.2.1 2001:db8::")
		w.wantAddress("internal", "")
		w.wantAddress("foreign", "")
		if got := w.eventsAbout("web"); len(got) != 3 || !strings.HasPrefix(got[len(got)-1], "EnsuredLoadBalancer") {
			t.Errorf("events %q", got)
		}

		pool, err := w.seamark.IPPools.Get(w.Context(), "default", metav1.GetOptions{})
		w.must(err)
		if s := pool.Status; s.Used != 3 || s.IPv4.Free != 2 || s.FreeText != "2 IPv4, 2^63+ IPv6" || !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.PoolReady) {
			t.Errorf("pool status %+v", s)
		}

		// A family more, a family less, and no load balancer any more.
		w.update("web", dualStack(corev1.IPFamilyPolicyPreferDualStack))
		w.wantAddress("web", "192.0.2.0 2001:db8::1")
		w.update("dual", func(s *corev1.Service) {
			s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = ptr.To(corev1.IPFamilyPolicySingleStack), s.Spec.IPFamilies[:1]
		})
		w.wantAddress("dual", "192.0.2.1")
		w.update("dual", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		w.wantAddress("dual", "")
		if c := w.get("dual").Status.Conditions; len(c) > 0 {
			t.Errorf("conditions left behind: %+v", c)
		}
		w.delete("web")
		if left := w.vips(); len(left) > 0 {
			t.Errorf("VIPs left behind: %+v", left)
		}
	})
}

// Services that wait are served in order of age, as soon as there is an address, one for each address.
func TestWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.service("first")
		w.wantWaiting("first", "NoPool", "create one")
		w.pool("default", "192.0.2.0/32")
		w.wantAddress("first", "192.0.2.0")
		for _, name := range []string{"third", "fourth", "fifth"} {
			w.service(name)
			w.wantWaiting(name, "PoolExhausted", "IPPool default (1 of 1 in use): add addresses to a pool, or delete")
		}
		if got := w.eventsAbout("third"); !slices.ContainsFunc(got, func(e string) bool {
			return strings.HasPrefix(e, "SyncLoadBalancerFailed: ") && strings.Contains(e, "no free IPv4 address in IPPool default")
		}) {
			t.Errorf("no event that names the pool: %q", got)
		}
		before := len(w.eventsAbout("fourth"))

		w.delete("first")
		w.wantAddress("third", "192.0.2.0")
		w.wantWaiting("fourth", "PoolExhausted", "")
		if after := len(w.eventsAbout("fourth")); after != before {
			t.Errorf("a Service that got nothing was woken: %d events, before %d", after, before)
		}

		w.pool("default", "192.0.2.0/32", "192.0.2.8/31")
		w.wantAddress("fourth", "192.0.2.8")
		w.wantAddress("fifth", "192.0.2.9")
	})
}

// A change that the stock controller does not look at can end the waiting as well.
func TestLabelsEndWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		_, err := w.seamark.IPPools.Create(w.Context(), &v1alpha1.IPPool{
			ObjectMeta: metav1.ObjectMeta{Name: "gold"},
			Spec: v1alpha1.IPPoolSpec{
				Addresses:         []string{"192.0.2.0/24"},
				ServiceSelector:   &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}},
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}},
			},
		}, metav1.CreateOptions{})
		w.must(err)
		w.service("web")
		w.wantWaiting("web", "SelectorMismatch", "IPPool gold")
		w.update("web", func(s *corev1.Service) { s.Labels = map[string]string{"tier": "gold"} })
		w.wantWaiting("web", "SelectorMismatch", "IPPool gold")
		_, err = w.kube.CoreV1().Namespaces().Update(w.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "shop"}}}, metav1.UpdateOptions{})
		w.must(err)
		w.settle()
		w.wantAddress("web", "192.0.2.0")
	})
}

// A request that cannot be met changes nothing that works.
func TestRefusedRequest(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("a")
		w.service("b")
		w.update("b", annotated("seamark.io/addresses", "192.0.2.0"))
		w.wantWaiting("b", "AddressTaken", "192.0.2.0 belongs to Service shop/a: ask for another address, or delete that Service; until then the Service keeps 192.0.2.1")
		if got := w.vipsOf("b"); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Errorf("VIPs %q", got)
		}
		w.delete("a")
		w.wantAddress("b", "192.0.2.0")

		w.update("b", annotated("metallb.io/loadBalancerIPs", "192.0.2.3"))
		w.wantAddress("b", "192.0.2.0")
		select {
		case e := <-w.events.Events:
			if !strings.Contains(e, "ConflictingRequest seamark.io/addresses") {
				t.Errorf("event %q", e)
			}
		default:
			t.Error("no event about annotations that contradict each other")
		}
	})
}

// A pool that is wrong gives nothing out and says why; the others go on.
func TestInvalidPools(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("a-good", "192.0.2.0/28")
		w.pool("b-overlap", "192.0.2.8-192.0.2.31")
		w.pool("c-reversed", "198.51.100.9-198.51.100.1")
		for name, want := range map[string][2]string{
			"a-good":     {"Valid", ""},
			"b-overlap":  {"Overlap", "192.0.2.0-192.0.2.15 of IPPool a-good"},
			"c-reversed": {"InvalidAddresses", "write 198.51.100.1-198.51.100.9"},
		} {
			pool, err := w.seamark.IPPools.Get(w.Context(), name, metav1.GetOptions{})
			w.must(err)
			c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolReady)
			if c == nil || c.Reason != want[0] || !strings.Contains(c.Message, want[1]) || (c.Status == metav1.ConditionTrue) != (want[0] == "Valid") {
				t.Errorf("%s: condition %+v; want %q", name, c, want)
			}
		}
		w.service("web")
		w.wantAddress("web", "192.0.2.0")
		w.service("named", annotated("seamark.io/pool", "b-overlap"))
		w.wantWaiting("named", "PoolNotReady", "IPPool b-overlap gives nothing out")
		w.must(w.seamark.IPPools.Delete(w.Context(), "a-good", metav1.DeleteOptions{}))
		w.settle()
		w.wantAddress("named", "192.0.2.8")
		w.wantAddress("web", "192.0.2.0") // the pool went, the address stays
	})
}

// What happened while no controller ran: addresses are found again, those of Services that went are given back.
func TestRestart(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.controller()
		w.pool("default", "192.0.2.0/29")
		for _, name := range []string{"stays", "vanishes", "wiped", "changes"} {
			w.service(name)
		}
		stop()

		w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), "vanishes", metav1.DeleteOptions{}))
		w.update("wiped", func(s *corev1.Service) { s.Status = corev1.ServiceStatus{} })
		w.update("changes", func(s *corev1.Service) { s.Spec.Type, s.Finalizers = corev1.ServiceTypeClusterIP, nil })
		w.create("new")
		w.controller()
		w.wantAddress("stays", "192.0.2.0")
		w.wantAddress("wiped", "192.0.2.2")
		if got := w.vipsOf("new"); len(got) != 1 {
			t.Errorf("the Service that came while no controller ran has %q", got)
		}
		for _, name := range []string{"vanishes", "changes"} {
			if got := w.vipsOf(name); len(got) > 0 {
				t.Errorf("%s still has %q", name, got)
			}
		}
	})
}

// A deletion that only the cache shows must not cost a Service its address.
func TestGarbageAsksAPIServer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pool("default", "192.0.2.0/29")
		w.create("web")
		_, err := w.seamark.VIPs.Create(w.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.5"}, Spec: v1alpha1.VIPSpec{
			Address: "192.0.2.5", Pool: "default", Services: []v1alpha1.ServiceReference{{Namespace: "shop", Name: "web"}},
		}}, metav1.CreateOptions{})
		w.must(err)
		w.kube.PrependReactor("list", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, &corev1.ServiceList{}, nil
		})
		w.kube.PrependWatchReactor("services", func(clienttesting.Action) (bool, watch.Interface, error) {
			return true, watch.NewFake(), nil
		})
		w.controller()
		if got := w.vipsOf("web"); !slices.Equal(got, []string{"192.0.2.5"}) {
			t.Errorf("VIPs %q", got)
		}
	})
}

// What people do by hand is put right: no Service changes its address because of it, though others wait for one.
func TestRepair(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("web")
		w.service("waits")
		w.must(w.seamark.VIPs.Delete(w.Context(), "192.0.2.0", metav1.DeleteOptions{}))
		w.settle()
		w.wantAddress("web", "192.0.2.0")
		w.wantWaiting("waits", "PoolExhausted", "")

		w.update("web", func(s *corev1.Service) { s.Status.LoadBalancer = corev1.LoadBalancerStatus{} })
		time.Sleep(3 * sweepPeriod)
		w.wantAddress("web", "192.0.2.0")
	})
}

// A VIP that a person made without Services is a reservation.
func TestReservation(t *testing.T) {
	inWorld(t, func(w *world) {
		_, err := w.seamark.VIPs.Create(w.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.0"}, Spec: v1alpha1.VIPSpec{Address: "192.0.2.0"}}, metav1.CreateOptions{})
		w.must(err)
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("web")
		w.wantAddress("web", "192.0.2.1")
		w.service("asks", annotated("seamark.io/addresses", "192.0.2.0"))
		w.wantWaiting("asks", "AddressTaken", "reserved")
		time.Sleep(10 * sweepPeriod)
		w.must(w.seamark.VIPs.Delete(w.Context(), "192.0.2.0", metav1.DeleteOptions{}))
		w.settle()
		w.wantAddress("asks", "192.0.2.0")
	})
}

// Two controllers at once, as when a leader that was paused wakes up: the VIP is the lock, so no address is given twice,
// and where both gave a Service one, it ends up with one.
func TestTwoControllers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.pool("default", "192.0.2.0/25", "2001:db8::/64")
		w.controller()
		w.controller()
		const services = 40
		for i := range services {
			w.create(fmt.Sprintf("s%d", i), dualStack(corev1.IPFamilyPolicyRequireDualStack))
		}
		time.Sleep(4 * sweepPeriod)
		w.settle()
		owner := map[string]string{}
		for i := range services {
			name := fmt.Sprintf("s%d", i)
			in := w.get(name).Status.LoadBalancer.Ingress
			if len(in) != 2 {
				t.Fatalf("%s has %v", name, in)
			}
			w.wantAddress(name, in[0].IP+" "+in[1].IP)
			for _, ip := range in {
				if owner[ip.IP] != "" {
					t.Errorf("%s belongs to %s and %s", ip.IP, owner[ip.IP], name)
				}
				owner[ip.IP] = name
			}
		}
		if got := len(w.vips()); got != 2*services {
			t.Errorf("%d VIPs; want %d", got, 2*services)
		}
	})
}

// An API server that fails costs nothing but time: below the stock controller's five minutes.
func TestWritesThatFail(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		var broken atomic.Bool
		broken.Store(true)
		w.fake.PrependReactor("create", "vips", func(clienttesting.Action) (bool, runtime.Object, error) {
			return broken.Load(), nil, fmt.Errorf("etcd is not there")
		})
		w.service("web")
		w.wantAddress("web", "")
		broken.Store(false)
		time.Sleep(retryWrite + time.Second)
		w.settle()
		w.wantAddress("web", "192.0.2.0")
	})
}
