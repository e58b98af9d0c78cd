package provider

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// An address is not free before its VIP is deleted: who asks meanwhile does not get it, whether it is to be deleted, or the
// deletion has failed, or the watch shows it before it is answered.
func TestNotFreeBeforeDeleted(t *testing.T) {
	seamark, fake := fakeSeamark(t)
	a := newAllocator(seamark.VIPs, hooks{func() {}, func() {}, func() bool { return false }})
	valid, _ := ipam.Judge([]ipam.Candidate{{Pool: cluster.Pool{Name: "default", AutoAssign: true}, Addresses: []string{"192.0.2.0/32"}}}, nil)
	a.setPools(valid, nil)
	web, addr := cluster.Name{Namespace: "shop", Name: "web"}, netip.MustParseAddr("192.0.2.0")
	a.mustEnsure(t, web)
	vip, err := a.client.Get(t.Context(), "192.0.2.0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken, early := true, false
	fake.PrependReactor("delete", "vips", func(clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		if c, held := a.index.Claim(addr); !held || len(c.Users) > 0 {
			t.Errorf("while it is deleted the address is of %v, held: %t", c.Users, held)
		}
		a.mu.Unlock()
		if early {
			if restored := a.vipGone(vip, always); len(restored) > 0 {
				t.Errorf("restored for %v, who is to leave it", restored)
			}
		}
		return broken, nil, errors.New("etcd is not there")
	})
	if err := a.release(t.Context(), web, neverMind); err == nil {
		t.Fatal("no error")
	}
	if held := a.held(web); len(held) != 1 {
		t.Errorf("after a deletion that failed it holds %v", held)
	}
	broken, early = false, true
	if err := a.release(t.Context(), web, neverMind); err != nil {
		t.Fatal(err)
	}
	if got := a.mustEnsure(t, cluster.Name{Namespace: "shop", Name: "other"}); got != "192.0.2.0" {
		t.Errorf("after the deletion another gets %q", got)
	}
}

// Who is there again is not taken anything from.
func TestReleaseUnlessBack(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/32")
	web := cluster.Name{Namespace: "shop", Name: "web"}
	a.mustEnsure(t, web)
	if err := a.release(t.Context(), web, always); err != nil || len(a.held(web)) != 1 {
		t.Errorf("it holds %v (%v)", a.held(web), err)
	}
}

// A Service that comes new takes nothing before those that wait have been looked at.
func TestQueue(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/31")
	waits := true
	a.hooks.queued = func() bool { return waits }
	r := func(name string) ipam.Request {
		return ipam.Request{Service: cluster.Name{Namespace: "shop", Name: name}, Families: []cluster.Family{cluster.IPv4}}
	}
	if _, err := a.ensure(t.Context(), r("new"), false, false); !errors.Is(err, errQueue) {
		t.Errorf("error %v; want %v", err, errQueue)
	}
	to, any := a.unserved()
	if !any {
		t.Error("a pool is no opening")
	}
	a.promise(r("old"))
	a.serve(to)
	if got := a.mustEnsure(t, r("new").Service); got != "192.0.2.1" {
		t.Errorf("new got %q", got)
	}
	a.open()
	if got := a.mustEnsure(t, r("new").Service); got != "192.0.2.1" {
		t.Errorf("it has %q, which it need not queue for", got)
	}
	if e, err := a.ensure(t.Context(), r("old"), false, true); err != nil || join(e.Addresses) != "192.0.2.0" {
		t.Errorf("old got %v (%v)", e.Addresses, err)
	}
}

// Only what may let somebody in is an opening: not each of thousands of allocations.
func TestOpenings(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/24")
	web := cluster.Name{Namespace: "shop", Name: "web"}
	claim := func(users ...ipam.User) *ipam.Claim { return &ipam.Claim{Users: users, Pool: "default"} }
	one, two := ipam.User{Service: web}, ipam.User{Service: cluster.Name{Namespace: "shop", Name: "two"}}
	with := func(u ipam.User, ports ...uint16) ipam.User {
		for _, p := range ports {
			u.Ports = append(u.Ports, cluster.Port{Protocol: cluster.TCP, Number: p})
		}
		return u
	}
	addr := netip.MustParseAddr("192.0.2.7")
	for _, tt := range []struct {
		name string
		do   func()
		want bool
	}{
		{"a Service without a key", func() { a.describe(ipam.Request{Service: web}) }, false},
		{"a new claim", func() { a.hold(addr, claim(one)) }, false},
		{"the same again", func() { a.hold(addr, claim(one)) }, false},
		{"another user", func() { a.hold(addr, claim(with(one, 80, 81), with(two, 443))) }, false},
		{"a port that goes", func() { a.hold(addr, claim(with(one, 80), with(two, 443))) }, true},
		{"a user that goes", func() { a.hold(addr, claim(one)) }, true},
		{"a reservation", func() { a.hold(addr, &ipam.Claim{Users: []ipam.User{one}, ReservedFor: two.Service}) }, true},
		{"an address that is free", func() { a.free(addr) }, true},
		{"one that was", func() { a.free(addr) }, false},
		{"a key", func() { a.describe(ipam.Request{Service: web, Sharing: ipam.Sharing{Terms: ipam.Terms{Key: "k"}}}) }, true},
		{"the same key", func() { a.describe(ipam.Request{Service: web, Sharing: ipam.Sharing{Terms: ipam.Terms{Key: "k"}}}) }, false},
		{"a claim of one with a key", func() { a.hold(addr, claim(one)) }, true},
		{"a key that goes", func() { a.undescribe(web) }, true},
		{"nothing", func() { a.undescribe(web) }, false},
	} {
		was, _ := a.unserved()
		tt.do()
		if now, _ := a.unserved(); (now != was) != tt.want {
			t.Errorf("%s: %d openings more; want any: %t", tt.name, now-was, tt.want)
		}
	}
}

// The oldest of those that wait gets what frees, whoever comes at the same moment.
func TestAgeOrderAgainstNewcomers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/31")
		w.service("a0")
		w.service("b0")
		w.service("old")
		w.service("older-than-none")
		for round := range 5 {
			// Two go, two that wait get theirs, and of those who come meanwhile nobody.
			for _, name := range []string{"a", "b"} {
				svc := w.get(fmt.Sprint(name, round))
				svc.DeletionTimestamp = &metav1.Time{Time: time.Now()}
				_, err := w.kube.CoreV1().Services("shop").Update(w.Context(), svc, metav1.UpdateOptions{})
				w.must(err)
			}
			for i := range 20 {
				w.create(fmt.Sprintf("new-%d-%d", round, i))
				if i%5 == 0 {
					synctest.Wait()
				}
			}
			w.soon()
			for _, name := range []string{"old", "older-than-none"} {
				if got := w.vipsOf(name); len(got) != 1 {
					t.Fatalf("round %d: %s has %v; VIPs %+v", round, name, got, w.vips())
				}
			}
			if round == 4 {
				return
			}
			for i := range 20 {
				w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), fmt.Sprintf("new-%d-%d", round, i), metav1.DeleteOptions{}))
			}
			w.settle()
			for _, name := range []string{"old", "older-than-none"} {
				w.delete(name)
			}
			for _, name := range []string{"a", "b"} {
				w.must(w.kube.CoreV1().Services("shop").Delete(w.Context(), fmt.Sprint(name, round), metav1.DeleteOptions{}))
				w.service(fmt.Sprint(name, round+1))
			}
			w.service("old")
			w.service("older-than-none")
		}
	})
}

// An address that frees between the moment when a Service is told that there is none and the one when it begins to wait is
// not lost on it.
func TestNoLostWakeUp(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("first")
		w.onEvent = func(string) {
			w.onEvent = nil
			w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.Addresses = []string{"192.0.2.0/31"} })
		}
		w.create("late")
		time.Sleep(10 * settle) // while the event is made
		w.soon()
		w.wantAddress("late", "192.0.2.1")
	})
}

// Whatever lets a Service have what it waits for serves it within a second.
func TestEndsOfWaiting(t *testing.T) {
	key := annotated("seamark.io/sharing-key", "k")
	for name, tt := range map[string]struct {
		// before makes "waits" wait, end ends it.
		before, end func(w *world)
		gets        string
	}{
		"a user leaves a shared address": {
			func(w *world) {
				w.service("other", both(key, ports(80)))
				w.service("stays", both(key, ports(443)))
				w.service("waits", both(key, ports(80)))
			},
			func(w *world) {
				w.begin("other", func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Now()} })
			},
			"192.0.2.0",
		},
		"a port leaves a shared address": {
			func(w *world) {
				w.service("other", both(key, ports(80, 81)))
				w.service("stays", both(key, ports(443)))
				w.service("waits", both(key, ports(80)))
			},
			func(w *world) { w.begin("other", ports(81)) },
			"192.0.2.0",
		},
		"a port leaves an address that nobody shares yet": {
			func(w *world) {
				w.service("other", both(key, ports(80, 81)))
				w.service("waits", both(key, ports(80)))
			},
			func(w *world) { w.begin("other", ports(81)) },
			"192.0.2.0",
		},
		"a person reserves an address": {
			func(w *world) {
				w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.AutoAssign = new(bool) })
				w.service("waits")
			},
			func(w *world) {
				_, err := w.seamark.VIPs.Create(w.Context(), &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.0"}, Spec: v1alpha1.VIPSpec{
					Address: "192.0.2.0", ReservedFor: &v1alpha1.ServiceReference{Namespace: "shop", Name: "waits"},
				}}, metav1.CreateOptions{})
				w.must(err)
			},
			"192.0.2.0",
		},
		"another does not ask for it any more": {
			func(w *world) {
				w.service("first")
				w.service("other", both(dualStack(corev1.IPFamilyPolicyRequireDualStack), func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.1" }))
				w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.Addresses = []string{"192.0.2.0/31"} })
				w.service("waits")
			},
			func(w *world) { w.begin("other", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.9" }) },
			"192.0.2.1",
		},
		"another that asked for it is no load balancer any more": {
			func(w *world) {
				w.service("first")
				w.service("other", both(dualStack(corev1.IPFamilyPolicyRequireDualStack), annotated("seamark.io/addresses", "192.0.2.1")))
				w.editPool("default", func(p *v1alpha1.IPPool) { p.Spec.Addresses = []string{"192.0.2.0/31"} })
				w.service("waits")
			},
			func(w *world) {
				w.begin("other", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
			},
			"192.0.2.1",
		},
		"the namespace has other labels": {
			func(w *world) {
				w.editPool("default", func(p *v1alpha1.IPPool) {
					p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}}
				})
				w.service("waits")
			},
			func(w *world) {
				_, err := w.kube.CoreV1().Namespaces().Update(w.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "shop"}}}, metav1.UpdateOptions{})
				w.must(err)
			},
			"192.0.2.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.controller()
				w.pool("default", "192.0.2.0/32")
				tt.before(w)
				if got := w.get("waits").Status.LoadBalancer.Ingress; len(got) > 0 {
					t.Fatalf("it does not wait: %v", got)
				}
				tt.end(w)
				w.soon()
				if got := w.get("waits").Status.LoadBalancer.Ingress; len(got) != 1 || got[0].IP != tt.gets {
					t.Errorf("after a second it has %v; want %s (%+v)", got, tt.gets, w.get("waits").Status.Conditions)
				}
			})
		})
	}
}

// begin changes a Service as its owner would, and does not wait.
func (w *world) begin(name string, change func(*corev1.Service)) {
	w.Helper()
	svc := w.get(name)
	change(svc)
	_, err := w.kube.CoreV1().Services("shop").Update(w.Context(), svc, metav1.UpdateOptions{})
	w.must(err)
}

// What was promised to a Service that goes before it gets it goes to the next one at once.
func TestPromiseToOneThatGoes(t *testing.T) {
	a := newTestAllocator(t, "192.0.2.0/31")
	gone, key := cluster.Name{Namespace: "shop", Name: "gone"}, cluster.Name{Namespace: "shop", Name: "key"}
	sharing := ipam.Sharing{Terms: ipam.Terms{Key: "k"}}
	r := ipam.Request{Service: key, Families: []cluster.Family{cluster.IPv4}, Sharing: sharing, Ports: []cluster.Port{{Protocol: cluster.TCP, Number: 80}}}
	a.describe(r)
	a.mustEnsure(t, key)
	r.Service, r.Ports = gone, []cluster.Port{{Protocol: cluster.TCP, Number: 81}}
	a.describe(r)
	a.promise(r) // shares the other's
	if rest := a.drop(gone); len(rest) > 0 || len(a.held(gone)) > 0 || len(a.held(key)) != 1 {
		t.Errorf("left: %v, held: %v and %v", rest, a.held(gone), a.held(key))
	}
	r.Sharing = ipam.Sharing{}
	a.describe(r)
	a.promise(r) // its own
	if rest := a.drop(gone); len(rest) > 0 || len(a.held(gone)) > 0 {
		t.Errorf("left: %v, held: %v", rest, a.held(gone))
	}
	if rest := a.drop(key); len(rest) != 1 {
		t.Errorf("what a VIP says is not left: %v", rest)
	}
}

// A Service that waits and is deleted, but held by somebody's finalizer, is out: it gets nothing, and the stock controller,
// which would have it have a finalizer, does not look at it.
func TestDeletedWhileWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		stop := w.controller()
		w.pool("default", "192.0.2.0/32")
		w.service("first")
		w.service("held", func(s *corev1.Service) { s.Finalizers = []string{"example.com/held"} })
		w.service("next")
		w.update("held", func(s *corev1.Service) {
			s.DeletionTimestamp = &metav1.Time{Time: time.Now()}
			s.Labels = map[string]string{"a": "b"}
		})
		w.update("held", func(s *corev1.Service) { s.Labels = nil })
		stop()
		w.controller()
		time.Sleep(3 * sweepPeriod)
		w.delete("first")
		w.wantAddress("next", "192.0.2.0")
		w.wantAddress("held", "")
		w.update("next", func(s *corev1.Service) { s.Finalizers = append(s.Finalizers, "example.com/held") })
		w.update("next", func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Now()} })
		w.wantAddress("next", "")
		if got := w.get("next").Finalizers; !slices.Equal(got, []string{"example.com/held"}) {
			t.Errorf("finalizers %q", got)
		}
		for _, e := range append(w.eventsAbout("held"), w.eventsAbout("next")...) {
			if strings.HasPrefix(e, "SyncLoadBalancerFailed") {
				t.Errorf("event %q", e)
			}
		}
	})
}
