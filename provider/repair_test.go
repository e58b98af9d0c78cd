package provider

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// A status that somebody edits is put right, whatever of it: the mode, a host name, an address of somebody else's; and so is
// a finalizer that somebody takes off.
func TestStatusEdited(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/31")
		w.service("web")
		w.service("full")
		w.service("waits")
		ingress := func(ips ...string) (out []corev1.LoadBalancerIngress) {
			for _, ip := range ips {
				out = append(out, corev1.LoadBalancerIngress{IP: ip, IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
			}
			return out
		}
		for name, edit := range map[string]func(s *corev1.Service){
			"mode": func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress[0].IPMode = ptr.To(corev1.LoadBalancerIPModeProxy)
			},
			"host name":   func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].Hostname = "example.com" },
			"another":     func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = ingress("192.0.2.0", "192.0.2.1") },
			"none":        func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil },
			"a finalizer": func(s *corev1.Service) { s.Finalizers = nil },
		} {
			w.update("web", edit)
			w.wantAddress("web", "192.0.2.0")
			if s := w.get("web"); len(s.Status.LoadBalancer.Ingress) != 1 || s.Status.LoadBalancer.Ingress[0].Hostname != "" || len(s.Finalizers) != 1 {
				t.Errorf("%s: %+v, finalizers %v", name, s.Status.LoadBalancer, s.Finalizers)
			}
		}
		w.update("waits", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = ingress("192.0.2.0") })
		time.Sleep(2 * alongWith)
		w.wantAddress("waits", "")
		w.wantWaiting("waits", "PoolExhausted", "")
	})
}

// A Service that waits and shows an address when a controller starts, because its VIP and its pool went, shows it no longer.
func TestWaitsAndShowsAnAddress(t *testing.T) {
	inWorld(t, func(w *world) {
		w.create("web", func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.0", IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}
		})
		w.controller()
		w.wantAddress("web", "")
		w.wantWaiting("web", "NoPool", "")
	})
}

// Nothing is kept of Services that have gone: not what they asked for, not what they were told, and not by the stock
// controller.
func TestNothingKept(t *testing.T) {
	inWorld(t, func(w *world) {
		lead, _, p := w.standby()
		lead()
		w.pool("default", "192.0.2.0/31")
		w.service("a")
		w.service("b")
		w.service("waits", annotated("seamark.io/addresses", "192.0.2.0"))
		w.service("key", annotated("seamark.io/sharing-key", "k"))
		w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), "waits", metav1.DeleteOptions{})) // it has no finalizer
		for _, name := range []string{"a", "b", "key"} {
			w.delete(name)
		}
		if !slices.ContainsFunc(w.eventsAbout("waits"), func(e string) bool { return strings.HasPrefix(e, "DeletedLoadBalancer") }) {
			t.Errorf("the stock controller still knows it: %q", w.eventsAbout("waits"))
		}
		gone := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "gone", Annotations: map[string]string{"seamark.io/addresses": "192.0.2.0"}},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv6Protocol}}}
		p.describe(gone) // the handler was late
		_, err := p.EnsureLoadBalancer(w.Context(), "", gone, nil)
		if err == nil {
			t.Error("a Service that does not exist is served")
		}
		time.Sleep(2 * sweepPeriod)
		w.settle()
		if d, told, waits := p.alloc.described(), p.told.names(), p.waiting.names(); len(d)+len(told)+len(waits)+len(p.left.of)+len(p.cleared.set) > 0 {
			t.Errorf("described %v, told %v, waiting %v, left %v, cleared %v", d, told, waits, p.left.of, p.cleared.set)
		}
		w.service("next")
		w.wantAddress("next", "192.0.2.0")
	})
}

// A VIP was made, and before a watch showed it, etcd was set back to when it was not there, and its Service neither: no watch ever
// says so. The address is given out again soon after the watch has been back.
func TestWriteLost(t *testing.T) {
	inWorld(t, func(w *world) {
		broken := watch.NewFake()
		w.fake.PrependWatchReactor("vips", func(clienttesting.Action) (bool, watch.Interface, error) {
			return true, broken, nil
		})
		lead, _, p := w.standby()
		lead()
		w.pool("default", "192.0.2.0/32")
		time.Sleep(sweepPeriod)
		p.alloc.vipSeen(&v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.0", UID: "1", Generation: 1},
			Spec: v1alpha1.VIPSpec{Address: "192.0.2.0", Pool: "default", Services: users("lost")}}) // the answer to the write
		w.service("web")
		w.wantWaiting("web", "PoolExhausted", "")
		broken, was := watch.NewFake(), broken
		was.Error(&apierrors.NewResourceExpired("too old").ErrStatus)
		time.Sleep(sweepPeriod / 2)
		w.settle()
		w.wantAddress("web", "192.0.2.0")
	})
}

// A Service that cannot share its address any more is told how it gets another, and gets one when it asks for that.
func TestReassignOutOfConflict(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/31")
		key := annotated("seamark.io/sharing-key", "web")
		w.service("http", both(key, ports(80)))
		w.service("https", both(key, ports(443)))
		w.update("https", annotated("seamark.io/sharing-key", "other"))
		w.wantWaiting("https", "SharingConflict", `annotate this Service with seamark.io/reassign: "true" to move it`)
		w.update("https", annotated("seamark.io/reassign", "true"))
		w.wantAddress("https", "192.0.2.1")
		w.wantAddress("http", "192.0.2.0")
		w.wantGrants("192.0.2.0", "http []")
	})
}

// A Service that asks to be moved is moved whenever the pools would, not only after a restart.
func TestStandingReassign(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/31")
		w.service("moves", annotated("seamark.io/reassign", "true"))
		w.service("stays")
		w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.State = v1alpha1.PoolDraining })
		w.wantWaiting("moves", "PoolDraining", "keeps 192.0.2.0")
		w.pool("other", "198.51.100.0/31")
		w.wantAddress("moves", "198.51.100.0")
		w.wantAddress("stays", "192.0.2.1")

		// The labels of its namespace count as the pools do.
		w.labelNamespace("shop", "a")
		w.editPool("other", func(p *v1alpha1.IPPool) {
			p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
		})
		w.pool("third", "203.0.113.0/31")
		w.wantAddress("moves", "198.51.100.0")
		w.labelNamespace("shop", "b")
		w.wantAddress("moves", "203.0.113.0")
		w.wantAddress("stays", "192.0.2.1")
	})
}
