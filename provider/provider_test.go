package provider

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
		w.wantEvents("web", "EnsuredLoadBalancer")

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
		stop := w.controller()
		w.service("first")
		w.wantWaiting("first", "NoPool", "create one")
		stop()
		w.controller() // to which the same is nothing new
		w.pool("default", "192.0.2.0/32")
		w.wantAddress("first", "192.0.2.0")
		for _, name := range []string{"third", "fourth", "fifth"} {
			w.service(name)
			w.wantWaiting(name, "PoolExhausted", "IPPool default (1 of 1 in use): add addresses to a pool, or delete")
		}
		time.Sleep(time.Hour)
		if got := w.ownEvents(); len(got) != 4 || !strings.HasPrefix(got[1], "Warning PoolExhausted no free IPv4 address in IPPool default") {
			t.Errorf("want one event for each Service that waits, and no more in an hour: %q", got)
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
		w.labelNamespace("shop", "shop")
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
		w.wantWaiting("b", "AddressTaken", "192.0.2.0 belongs to Service shop/a: ask for another address, delete that Service, or give both the same annotation seamark.io/sharing-key; until then the Service keeps 192.0.2.1")
		if got := w.vipsOf("b"); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Errorf("VIPs %q", got)
		}
		w.delete("a")
		w.wantAddress("b", "192.0.2.0")

		w.update("b", annotated("metallb.io/loadBalancerIPs", "192.0.2.3"))
		w.wantAddress("b", "192.0.2.0")
		if got := w.ownEvents(); len(got) != 2 || !strings.Contains(got[1], "ConflictingRequest seamark.io/addresses") {
			t.Errorf("want an event about annotations that contradict each other: %q", got)
		}
	})
}

// A pool that is wrong gives nothing out and says why; of one that overlaps another, the addresses that it has for itself
// are given out. The others go on.
func TestInvalidPools(t *testing.T) {
	inWorld(t, func(w *world) {
		w.must(w.kube.Tracker().Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"203.0.113.0/25"}}}))
		w.must(w.kube.Tracker().Add(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"203.0.113.128/25"}}}))
		w.kube.Resources = []*metav1.APIResourceList{{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "servicecidrs"}}}}
		w.controller()
		w.pool("a-good", "192.0.2.0/28")
		w.pool("b-overlap", "192.0.2.8-192.0.2.31")
		w.pool("c-reversed", "198.51.100.9-198.51.100.1")
		w.pool("d-foreign", "203.0.113.0/24")
		for name, want := range map[string]struct{ reason, ready, overlaps string }{
			"a-good":     {"Valid", "gives out", "192.0.2.8/29 is also in IPPool b-overlap, which is younger"},
			"b-overlap":  {"Valid", "gives out", "192.0.2.8/29 is also in IPPool a-good, which is older"},
			"c-reversed": {"InvalidAddresses", "write 198.51.100.1-198.51.100.9", ""},
			"d-foreign":  {"Overlap", "none of its addresses", "203.0.113.0/25 is part of the pod range of node n1; 203.0.113.128/25 is part of the cluster IPs (ServiceCIDR kubernetes)"},
		} {
			pool, err := w.seamark.IPPools.Get(w.Context(), name, metav1.GetOptions{})
			w.must(err)
			c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolReady)
			if c == nil || c.Reason != want.reason || !strings.Contains(c.Message, want.ready) || (c.Status == metav1.ConditionTrue) != (want.reason == "Valid") {
				t.Errorf("%s: condition %+v; want %q", name, c, want)
			}
			c = meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolOverlaps)
			if c == nil || !strings.Contains(c.Message, want.overlaps) || (c.Status == metav1.ConditionTrue) != (want.overlaps != "") {
				t.Errorf("%s: condition %+v; want %q", name, c, want)
			}
		}
		w.service("web")
		w.wantAddress("web", "192.0.2.0")
		w.service("named", annotated("seamark.io/pool", "b-overlap"))
		w.wantAddress("named", "192.0.2.16")
		w.service("bad", annotated("seamark.io/pool", "c-reversed"))
		w.wantWaiting("bad", "PoolNotReady", "IPPool c-reversed gives nothing out")
	})
}

// A selector that cannot be read selects nobody, and the pool says so.
func TestInvalidSelector(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		typo := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Notin", Values: []string{"gold"}}}}
		for name, spec := range map[string]v1alpha1.IPPoolSpec{
			"serviceSelector":           {ServiceSelector: typo},
			"namespaceSelector":         {NamespaceSelector: typo},
			"announce.arp.nodeSelector": {Announce: &v1alpha1.Announce{ARP: &v1alpha1.ARPAnnounce{NodeSelector: typo}}},
			"announce.bgp.nodeSelector": {Announce: &v1alpha1.Announce{BGP: &v1alpha1.BGPAnnounce{NodeSelector: typo}}},
		} {
			spec.Addresses = []string{"192.0.2.0/28", "198.51.100.0/24", "203.0.113.0/32", "203.0.113.2/32", "203.0.113.4/32"}
			_, err := w.seamark.IPPools.Create(w.Context(), &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: strings.ToLower(name)}, Spec: spec}, metav1.CreateOptions{})
			w.must(err)
			w.settle()
			pool, err := w.seamark.IPPools.Get(w.Context(), strings.ToLower(name), metav1.GetOptions{})
			w.must(err)
			c := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolReady)
			if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "InvalidSpec" || !strings.Contains(c.Message, "spec."+name) || !strings.Contains(c.Message, `"Notin"`) {
				t.Errorf("%s: condition %+v", name, c)
			}
			if want := "192.0.2.0/28,198.51.100.0/24,203.0.113.0/32,203.0.113.2/32,+1"; pool.Status.AddressesText != want {
				t.Errorf("addresses %q; want %q", pool.Status.AddressesText, want)
			}
		}
		w.service("web", func(s *corev1.Service) { s.Labels = map[string]string{"tier": "gold"} })
		w.wantWaiting("web", "PoolNotReady", "")
	})
}

// A pool that is deleted while in use stays until its last address is free; one that shrinks lists what it has lost. No
// address changes by either.
func TestPoolsInUse(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("a")
		w.service("b")
		w.pool("default", "192.0.2.0/32", "192.0.2.8/31")
		w.wantAddress("b", "192.0.2.1")
		w.wantPool("default", "used 2 free 2 ready True", "192.0.2.1 shop/b NotInPool")

		w.must(w.seamark.IPPools.Delete(w.Context(), "default", metav1.DeleteOptions{}))
		w.settle()
		w.wantPool("default", "used 2 free 0 ready False", "192.0.2.0 shop/a PoolDeleted", "192.0.2.1 shop/b PoolDeleted")
		w.wantAddress("a", "192.0.2.0")
		w.service("c")
		w.wantWaiting("c", "PoolNotReady", "")
		w.delete("a")
		w.delete("b")
		if _, err := w.seamark.IPPools.Get(w.Context(), "default", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the pool is still there although nobody uses it: %v", err)
		}
	})
}

// An address that waits for its Service and that the pool has lost meanwhile is listed, and its Service gets it again.
func TestRetainedAndLost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		retain := func(p *v1alpha1.IPPool) { p.Spec.ReclaimPolicy = v1alpha1.ReclaimRetain }
		w.editPool("default", retain)
		w.service("a")
		w.delete("a")
		w.pool("default", "192.0.2.8/30")
		w.editPool("default", retain)
		w.wantPool("default", "used 0 free 4 ready True", "192.0.2.0  NotInPool")
		w.service("b")
		w.service("a")
		w.wantAddress("b", "192.0.2.8")
		w.wantAddress("a", "192.0.2.0")
		w.wantPool("default", "used 2 free 3 ready True", "192.0.2.0 shop/a NotInPool")
	})
}

// An address in use that avoidBuggyIPs would leave out today is listed, and the counts add up.
func TestAvoidBuggyIPsLater(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/31", "192.0.2.254/31")
		w.service("a")
		w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.AvoidBuggyIPs = true })
		w.wantAddress("a", "192.0.2.0")
		w.wantPool("default", "used 1 free 2 ready True", "192.0.2.0 shop/a AvoidBuggyIPs")
	})
}

func (w *world) wantPool(name, want string, offenders ...string) {
	w.Helper()
	p, err := w.seamark.IPPools.Get(w.Context(), name, metav1.GetOptions{})
	w.must(err)
	got := fmt.Sprintf("used %d free %d", p.Status.Used, p.Status.Free)
	if s := p.Status; s.Total != s.Used+s.Reserved+s.Free {
		w.Errorf("pool %s: %d used, %d reserved and %d free are not %d in all", name, s.Used, s.Reserved, s.Free, s.Total)
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.PoolReady); c != nil {
		got += " ready " + string(c.Status)
	}
	if got != want {
		w.Errorf("pool %s: %s; want %s", name, got, want)
	}
	var list []string
	for _, o := range p.Status.Offenders {
		list = append(list, o.Address+" "+o.Services+" "+o.Reason)
	}
	if !slices.Equal(list, offenders) {
		w.Errorf("pool %s: offenders %q; want %q", name, list, offenders)
	}
}

// A draining pool gives nothing new; a Service that asks to be moved leaves it.
func TestDraining(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/30")
		w.service("stays")
		w.service("moves")
		w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.State = v1alpha1.PoolDraining })
		w.service("new")
		w.wantWaiting("new", "PoolDraining", "IPPool default: draining")
		w.pool("other", "198.51.100.0/30")
		w.wantAddress("new", "198.51.100.0")
		w.wantAddress("stays", "192.0.2.0")
		w.wantAddress("moves", "192.0.2.1")
		w.update("moves", annotated("seamark.io/reassign", "true"))
		w.wantAddress("moves", "198.51.100.1")
	})
}

// With reclaimPolicy Retain an address waits for its Service; a person reserves one in the same way.
func TestReservedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/29")
		w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.ReclaimPolicy = v1alpha1.ReclaimRetain })
		_, err := w.seamark.VIPs.Create(w.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.5"}, Spec: v1alpha1.VIPSpec{
			Address: "192.0.2.5", ReservedFor: &v1alpha1.ServiceReference{Namespace: "shop", Name: "planned"},
		}}, metav1.CreateOptions{})
		w.must(err)
		w.settle()
		w.service("web")
		w.service("planned")
		w.wantAddress("planned", "192.0.2.5")
		w.delete("web")
		w.delete("planned")
		w.service("other")
		w.wantAddress("other", "192.0.2.1")
		w.service("web")
		w.wantAddress("web", "192.0.2.0")
		w.service("planned")
		w.wantAddress("planned", "192.0.2.5")
		w.update("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
		w.update("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
		w.wantAddress("web", "192.0.2.0")
	})
}

func ports(list ...int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for _, p := range list {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint(p), Protocol: corev1.ProtocolTCP, Port: p})
		}
	}
}

func both(changes ...func(*corev1.Service)) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, c := range changes {
			c(s)
		}
	}
}

// Services share an address by their key, in whichever spelling; the VIP says which ports are whose.
func TestSharedAddress(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/29")
		key := annotated("metallb.io/allow-shared-ip", "web")
		w.service("http", both(key, ports(80)))
		w.service("https", both(annotated("metallb.universe.tf/allow-shared-ip", "web"), ports(443)))
		w.service("dns", both(annotated("seamark.io/sharing-key", "web"), ports(53)))
		w.wantGrants("192.0.2.0", "dns [53/TCP] http [80/TCP] https [443/TCP]")
		w.delete("dns")
		w.wantAddress("http", "192.0.2.0")
		w.wantAddress("https", "192.0.2.0")
		w.wantGrants("192.0.2.0", "http [80/TCP] https [443/TCP]")
		w.service("other", both(key, ports(443)))
		w.wantAddress("other", "192.0.2.1")

		w.update("http", ports(80, 443))
		w.wantWaiting("http", "SharingConflict", "port 443/TCP of 192.0.2.0 belongs to Service shop/https")
		w.wantGrants("192.0.2.0", "http [80/TCP] https [443/TCP]")
		w.update("http", func(s *corev1.Service) { s.Status.LoadBalancer = corev1.LoadBalancerStatus{} })
		if got := w.get("http").Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != "192.0.2.0" {
			t.Errorf("a wiped status of a Service with a problem: %v", got)
		}
		w.wantWaiting("http", "SharingConflict", "")
		w.update("http", ports(80, 81))
		w.wantAddress("http", "192.0.2.0")
		w.wantGrants("192.0.2.0", "http [80/TCP 81/TCP] https [443/TCP]")

		w.update("https", func(s *corev1.Service) { s.Annotations = nil })
		w.wantWaiting("https", "SharingConflict", "sharing key")
		w.wantAddress("http", "192.0.2.0")
		w.delete("http")
		w.wantAddress("https", "192.0.2.0")
		w.wantGrants("192.0.2.0", "https []")
	})
}

func (w *world) wantGrants(vip, want string) {
	w.Helper()
	v, err := w.seamark.VIPs.Get(w.Context(), vip, metav1.GetOptions{})
	w.must(err)
	var got []string
	for _, s := range v.Spec.Services {
		got = append(got, fmt.Sprint(s.Name, " ", s.Ports))
	}
	if text := strings.Join(got, " "); text != want {
		w.Errorf("VIP %s: %s; want %s", vip, text, want)
	}
}

// A Service of our class is served as one without; a class that comes or goes leaves no address behind, and no finalizer.
func TestClasses(t *testing.T) {
	class := func(name string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &name }
	}
	inWorld(t, func(w *world) {
		stop := w.controller()
		w.pool("default", "192.0.2.0/29")
		w.service("ours", class(v1alpha1.LoadBalancerClass))
		w.service("foreign", both(class("example.com/other"), func(s *corev1.Service) { s.Finalizers = []string{"service.kubernetes.io/load-balancer-cleanup"} }))
		w.wantAddress("ours", "192.0.2.0")
		w.wantAddress("foreign", "")
		if len(w.get("foreign").Finalizers) == 0 || *w.get("ours").Spec.LoadBalancerClass != v1alpha1.LoadBalancerClass {
			t.Error("a Service of another class was touched, or ours has lost its class")
		}
		w.service("leaves")
		w.update("leaves", class("example.com/other"))
		w.service("later")
		stop()
		w.update("later", class("example.com/other"))
		w.controller()
		for _, name := range []string{"leaves", "later"} {
			w.wantAddress(name, "")
			if got := w.get(name).Finalizers; len(got) > 0 {
				t.Errorf("%s: finalizers %q", name, got)
			}
		}
		w.delete("ours")
		if left := w.vips(); len(left) > 0 {
			t.Errorf("VIPs left behind: %+v", left)
		}
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
			Address: "192.0.2.5", Pool: "default", Services: users("web"),
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
