package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// act is something that a user does, and what is to come of it.
type act struct {
	name string
	do   func(ns *namespace)
	// then are the Services that there are, and whether they have the addresses.
	then map[string]bool
	// calm: no controller is killed, because another act does the same.
	calm bool
}

// The controller is killed at each of its writes: before the API server gets it, and after it is done and before the
// controller knows. The next one finds what was begun and brings it to the same end: the addresses are the same, no Service
// has others, and none is left behind.
//
// Which writes there are is found by doing everything once undisturbed. A controller that is elected makes some of them side
// by side, so both kinds are killed: one that is, with a pool that takes addresses back, and one that is not, with a pool that
// retains them.
func TestControllerKilledAtEveryWrite(t *testing.T) {
	needsSeamarkLB(t)
	withoutControllers(t)
	key := annotated("seamark.io/sharing-key", "k")
	create := func(name string, port int32) func(*namespace) {
		return func(ns *namespace) {
			ns.createService(ns.balancer(name, dualStack, key, ports(corev1.ProtocolTCP, port)))
		}
	}
	remove := func(name string) func(*namespace) {
		return func(ns *namespace) {
			if err := cluster.client.CoreV1().Services(ns.name).Delete(contextOf(ns.t), name, metav1.DeleteOptions{}); err != nil {
				ns.t.Fatal(err)
			}
		}
	}
	change := func(name, to string) func(*namespace) {
		return func(ns *namespace) { ns.patch(name, fmt.Sprintf(`{"spec": {"type": %q}}`, to)) }
	}
	// The API server lets a class change only along with the type.
	class := func(name, to string) func(*namespace) {
		return func(ns *namespace) {
			ns.patch(name, `{"spec": {"type": "ClusterIP", "loadBalancerClass": null, "allocateLoadBalancerNodePorts": null}}`)
			ns.patch(name, fmt.Sprintf(`{"spec": {"type": "LoadBalancer", "loadBalancerClass": %s, "allocateLoadBalancerNodePorts": false}}`, to))
		}
	}
	for _, tt := range []struct {
		policy, prefixes string
		elect            bool
		acts             []act
	}{
		{"Delete", `198.18.0.0/29, "fd00:198::/125"`, true, []act{
			{name: "create a Service", do: create("one", 80), then: map[string]bool{"one": true}},
			{name: "create one that shares its addresses", do: create("two", 81), then: map[string]bool{"one": true, "two": true}},
			{name: "delete the first", do: remove("one"), then: map[string]bool{"two": true}},
			{name: "make the second a NodePort Service", do: change("two", "NodePort"), then: map[string]bool{"two": false}},
			{name: "make it a load balancer again", do: change("two", "LoadBalancer"), then: map[string]bool{"two": true}, calm: true},
			{name: "give it a class of somebody else's", do: class("two", `"example.com/other"`), then: map[string]bool{"two": false}},
			{name: "take the class away", do: class("two", "null"), then: map[string]bool{"two": true}, calm: true},
			{name: "delete it", do: remove("two"), then: map[string]bool{}},
		}},
		{"Retain", `198.18.0.8/29, "fd00:198::8/125"`, false, []act{
			{name: "create a Service", do: create("one", 80), then: map[string]bool{"one": true}},
			{name: "make it a NodePort Service", do: change("one", "NodePort"), then: map[string]bool{"one": false}},
			{name: "make it a load balancer again", do: change("one", "LoadBalancer"), then: map[string]bool{"one": true}},
			{name: "delete it", do: remove("one"), then: map[string]bool{}},
		}},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			ns := scenario(t)
			ns.alone()
			c := newController(t, "to be killed", tt.elect)
			c.start()
			ns.pool(tt.prefixes)
			life := &life{ns: ns, controller: c, retain: tt.policy == "Retain"}
			if life.retain {
				ns.retains()
			}

			start, kills := time.Now(), 0
			writes := make([][]write, len(tt.acts))
			for i, a := range tt.acts {
				writes[i] = life.undisturbed(a)
			}
			life.end()
			for _, after := range []bool{false, true} {
				for n, more := 0, true; more; n++ {
					more = false
					for i, a := range tt.acts {
						if n >= len(writes[i]) || a.calm {
							life.play(a, fault{})
							continue
						}
						more = true
						if life.play(a, fault{writes[i][n], after}) {
							kills++
						}
					}
					life.end()
				}
			}
			t.Logf("killed %d times in %s", kills, time.Since(start).Round(time.Second))
			for i, a := range tt.acts {
				t.Logf("%s: %v", a.name, writes[i])
			}
		})
	}
}

// life is what becomes of some Services, again and again.
type life struct {
	ns         *namespace
	controller *ownController
	retain     bool
	had        []netip.Addr // since the first act
}

// quiet is after how long without a write no more is expected.
const quiet = time.Second

// undisturbed plays an act and returns the writes that it took.
func (l *life) undisturbed(a act) []write {
	l.ns.t.Helper()
	l.play(a, fault{})
	// Until nothing more is written for a while.
	last, since := 0, time.Now()
	await(l.ns.t, changeLimit, "nothing more is written", func(context.Context) error {
		if now := len(l.controller.written()); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < quiet {
			return errors.New("the last one was just now")
		}
		return nil
	})
	// The status of a pool is written once for several changes, as time has it.
	writes := slices.DeleteFunc(l.controller.written(), func(w write) bool {
		return strings.HasSuffix(w.what, " ippools/status") && w.n > 1
	})
	if len(writes) == 0 {
		l.ns.t.Errorf("%s: the controller writes nothing", a.name)
	}
	return writes
}

// play plays an act, with another controller after the fault, and waits for what is to come of it. It reports whether the
// fault came: a write that repeats another one may be spared, as time has it.
func (l *life) play(a act, f fault) (came bool) {
	l.ns.t.Helper()
	killed := l.controller.arm(f)
	a.do(l.ns)
	what := a.name
	if f != (fault{}) {
		what += ", controller killed " + f.String()
		if came = l.awaitFault(what, a, f, killed); came {
			l.controller.start()
		}
	}
	await(l.ns.t, changeLimit, what, func(ctx context.Context) error { return l.is(ctx, a.then) })
	return came
}

func (l *life) awaitFault(what string, a act, f fault, killed <-chan struct{}) (came bool) {
	l.ns.t.Helper()
	var settled time.Time
	await(l.ns.t, changeLimit, what+": it comes to this write", func(ctx context.Context) error {
		select {
		case <-killed:
			came = true
			return nil
		default:
		}
		switch {
		case f.n == 1 || l.is(ctx, a.then) != nil:
			settled = time.Time{}
		case settled.IsZero():
			settled = time.Now()
		case time.Since(settled) > quiet:
			return nil
		}
		return fmt.Errorf("it has written %v", l.controller.written())
	})
	return came
}

// is returns nil if exactly these Services exist, those have the addresses that are to, the others neither finalizer nor
// condition, and there is no other VIP.
func (l *life) is(ctx context.Context, then map[string]bool) error {
	now, err := addressesOf(ctx, cluster.client, []string{l.ns.name}, []string{l.ns.name})
	if err != nil {
		return err
	}
	var none []string
	for name, has := range then {
		if !has {
			none = append(none, name)
		}
	}
	errs := []error{now.consistent(none...), want("the number of Services", len(now.services), len(then))}
	held := 0
	if l.retain && l.had != nil {
		held = 2
	}
	for _, s := range now.services {
		switch has := vips(&s); {
		case !then[s.Name]:
			errs = append(errs, want("the number of addresses of "+s.Name, len(has), 0),
				want("the number of its finalizers", len(s.Finalizers), 0), want("the number of its conditions", len(s.Status.Conditions), 0))
		case l.had == nil && len(has) == 2:
			l.had, held = has, 2
		default:
			held = 2
			errs = append(errs, want("the list of addresses of "+s.Name, fmt.Sprint(has), fmt.Sprint(l.had)))
		}
	}
	return errors.Join(append(errs, want("the number of VIPs", len(now.vips), held))...)
}

// end gives back what the pool retains, so that the next life begins like the first.
func (l *life) end() {
	l.ns.t.Helper()
	if l.retain {
		deleteVIPs(l.ns.t, l.had...)
	}
	l.had = nil
	l.ns.nothingLeft()
}
