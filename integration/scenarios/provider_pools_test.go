package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Addresses for the scenarios of this file; nothing is announced of them, because no Service has a pod.
const (
	poolToRetain   = "198.18.17.0/30"
	poolToReserve  = "198.18.17.8/31"
	poolToDrain    = "198.18.17.16/30"
	poolAfterDrain = "198.18.17.20/30"
	poolToRepair   = "198.18.17.24/31"
	poolForClasses = "198.18.17.32/30"
	poolOfFamilies = "198.18.17.40/30"
)

// The address of a Service waits for it in a pool that retains: nobody else gets it, the pool counts it as reserved, the
// VIP says for whom; the Service has it again when it is back, also after it was of another type. Whoever deletes the VIP
// gives it back to the pool.
func TestRetain(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolToRetain)
	ns.retains()
	ns.createService(ns.balancer("mail"))
	had := vips(ns.awaitVIPs("mail"))[0]

	ns.deleteService("mail")
	await(t, changeLimit, "the VIP is reserved for it", func(ctx context.Context) error {
		return ns.reserved(ctx, had, ns.name, "mail")
	})
	ns.createService(ns.balancer("other"))
	if got := vips(ns.awaitVIPs("other"))[0]; got == had {
		t.Errorf("another Service has the address %s, which is reserved", had)
	}
	ns.createService(ns.balancer("thief", annotated("seamark.io/addresses", had.String())))
	await(t, changeLimit, "the condition says whose the address is", func(context.Context) error {
		return ns.notAllocated("thief", "AddressTaken", had.String()+" is reserved for Service "+ns.name+"/mail", "delete that VIP")
	})
	ns.consistent("thief")

	ns.createService(ns.balancer("mail"))
	if got := vips(ns.awaitVIPs("mail"))[0]; got != had {
		t.Errorf("it has the address %s, and had %s", got, had)
	}
	ns.patch("mail", `{"spec": {"type": "NodePort"}}`)
	await(t, changeLimit, "a NodePort Service has no address, and its address is reserved", func(ctx context.Context) error {
		return errors.Join(want("the number of its addresses", len(vips(ns.service("mail"))), 0), ns.reserved(ctx, had, ns.name, "mail"))
	})
	ns.patch("mail", `{"spec": {"type": "LoadBalancer"}}`)
	if got := vips(ns.awaitVIPs("mail"))[0]; got != had {
		t.Errorf("after it was of type NodePort it has the address %s, and had %s", got, had)
	}

	ns.deleteService("mail")
	await(t, changeLimit, "the VIP is reserved for it", func(ctx context.Context) error {
		return ns.reserved(ctx, had, ns.name, "mail")
	})
	deleteVIPs(t, had)
	if got := vips(ns.awaitVIPs("thief"))[0]; got != had {
		t.Errorf("the Service that asked for %s has %s", had, got)
	}
	ns.consistent()
}

// reserved returns nil if the VIP of an address is reserved for a Service and used by none, and the namespace's pool counts
// one address that is reserved.
func (ns *namespace) reserved(ctx context.Context, addr netip.Addr, namespace, name string) error {
	a, err := addressesOf(ctx, cluster.client, nil, []string{ns.name})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(a.vips, func(v vipObject) bool { return v.Spec.Address == addr.String() })
	if i < 0 {
		return errNoVIP
	}
	v := a.vips[i]
	if v.Spec.ReservedFor == nil || len(v.Spec.Services) > 0 {
		return fmt.Errorf("the VIP is used by %v, and reserved for %v", v.Spec.Services, v.Spec.ReservedFor)
	}
	return errors.Join(
		want("whom the VIP is reserved for", v.Spec.ReservedFor.Namespace+"/"+v.Spec.ReservedFor.Name, namespace+"/"+name),
		want("the number of addresses that the pool counts as reserved", a.pools[0].Status.Reserved, 1))
}

// A VIP that a person makes keeps its address for the Service that it names, before that exists and after it has gone; one
// that names none keeps it from everybody.
func TestReservation(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	first := netip.MustParsePrefix(poolToReserve).Addr()
	second := first.Next()
	reserve := func(a netip.Addr, what string) {
		t.Helper()
		ns.create("reservation.yaml", "$ADDRESS", a.String(), "$RESERVED", what)
		putBack(t, func(ctx context.Context) { _ = resource("vips").Delete(ctx, vipName(a), metav1.DeleteOptions{}) })
	}
	reserve(first, fmt.Sprintf("reservedFor: {namespace: %s, name: mail}", ns.name))
	reserve(second, "reservedFor: null")
	ns.pool(poolToReserve)

	ns.createService(ns.balancer("other"))
	await(t, changeLimit, "another Service finds the pool full", func(context.Context) error {
		return ns.notAllocated("other", "PoolExhausted", ns.name)
	})
	ns.createService(ns.balancer("mail"))
	if got := vips(ns.awaitVIPs("mail"))[0]; got != first {
		t.Errorf("it has the address %s, and %s is reserved for it", got, first)
	}
	ns.deleteService("mail")
	await(t, changeLimit, "the reservation stays", func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, nil, []string{ns.name})
		if err != nil {
			return err
		}
		for _, v := range a.vips {
			if v.Spec.Address == first.String() && v.Spec.ReservedFor != nil && v.Spec.ReservedFor.Name == "mail" && len(v.Spec.Services) == 0 {
				return nil
			}
		}
		return fmt.Errorf("the VIPs are %+v", a.vips)
	})
	if got := vips(ns.service("other")); len(got) > 0 {
		t.Errorf("another Service has %v", got)
	}
	deleteVIPs(t, second)
	if got := vips(ns.awaitVIPs("other"))[0]; got != second {
		t.Errorf("another Service has %s, want %s, which nobody keeps any more", got, second)
	}
	ns.consistent()
}

// A pool that drains gives out nothing new, and takes nothing away. A Service that is annotated seamark.io/reassign moves
// to what fits now, and only once.
func TestDraining(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	old, young := ns.name+"-old", ns.name+"-young"
	for name, spec := range map[string]string{
		old:   `{addresses: [` + poolToDrain + `], priority: -2, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + ns.name + `}}}`,
		young: `{addresses: [` + poolAfterDrain + `], priority: -1, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + ns.name + `}}}`,
	} {
		if out, err := ns.apply(manifest(t, "wrong-pool.yaml", "$NAME", name, "$SCENARIO", ns.name, "$SPEC", spec)); err != nil {
			t.Fatal(out)
		}
		putBack(t, func(ctx context.Context) {
			if _, err := cluster.Kubectl(ctx, "delete", "ippool", name, "--wait=false"); err != nil {
				t.Error(err)
			}
		})
	}
	consistent := func() {
		t.Helper()
		await(t, changeLimit, "Services, VIPs and pools tell the same", func(ctx context.Context) error {
			a, err := addressesOf(ctx, cluster.client, []string{ns.name}, []string{old, young})
			return errors.Join(err, a.consistent())
		})
	}
	of := func(service, pool string) netip.Addr {
		t.Helper()
		a := vips(ns.awaitVIPs(service))[0]
		if !netip.MustParsePrefix(pool).Contains(a) {
			t.Errorf("%s has the address %s, want one of %s", service, a, pool)
		}
		return a
	}
	anyPool := func(s *corev1.Service) { s.Annotations = nil }
	ns.createService(ns.balancer("before", anyPool))
	had := of("before", poolToDrain)

	ns.kubectl("patch", "ippool", old, "--type=merge", `--patch={"spec": {"state": "Draining"}}`)
	await(t, changeLimit, "the pool's condition says that it drains", func(ctx context.Context) error {
		status, why, err := poolCondition(ctx, old, "Ready")
		return errors.Join(err, want("Ready", status, "False"), containsAll(why, "Draining"))
	})
	ns.createService(ns.balancer("after", anyPool))
	of("after", poolAfterDrain)
	ns.createService(ns.balancer("insists", func(s *corev1.Service) { s.Annotations["seamark.io/pool"] = old }))
	await(t, changeLimit, "who names the pool hears that it drains", func(context.Context) error {
		return ns.notAllocated("insists", "PoolDraining", old, "set spec.state to Active, or add another pool")
	})
	ns.deleteService("insists")
	if now := of("before", poolToDrain); now != had {
		t.Errorf("the address is %s, and was %s", now, had)
	}
	consistent()

	ns.kubectl("annotate", "service", "before", "seamark.io/reassign=true")
	await(t, changeLimit, "it moves", func(context.Context) error {
		now := vips(ns.service("before"))
		if len(now) != 1 || !netip.MustParsePrefix(poolAfterDrain).Contains(now[0]) {
			return fmt.Errorf("it has %v", now)
		}
		return nil
	})
	moved := of("before", poolAfterDrain)
	consistent()
	ns.kubectl("patch", "ippool", old, "--type=merge", `--patch={"spec": {"state": "Active"}}`)
	holds(t, 2*time.Second, "it stays, although the pool of a lower priority is active again", func(context.Context) error {
		return want("the address", vips(ns.service("before"))[0], moved)
	})
	consistent()
}

// A VIP that somebody deletes comes back for the same Service, whoever waits for an address; a status that somebody writes
// by hand is put right.
func TestRepair(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolToRepair)
	for _, name := range []string{"one", "two"} {
		ns.createService(ns.balancer(name))
		ns.awaitVIPs(name)
	}
	ns.createService(ns.balancer("waits"))
	await(t, changeLimit, "the third waits", func(context.Context) error { return ns.notAllocated("waits", "PoolExhausted") })
	one, two := vips(ns.service("one"))[0], vips(ns.service("two"))[0]
	same := func(what string, since time.Time) {
		t.Helper()
		await(t, changeLimit, "everything is as it was", func(ctx context.Context) error {
			return errors.Join(ns.isConsistent(ctx, "waits"),
				want("the addresses of one", fmt.Sprint(vips(ns.service("one"))), fmt.Sprint([]netip.Addr{one})),
				want("the addresses of two", fmt.Sprint(vips(ns.service("two"))), fmt.Sprint([]netip.Addr{two})),
				want("the number of addresses of the third", len(vips(ns.service("waits"))), 0))
		})
		took(t, what, since)
	}
	now := time.Now()
	deleteVIPs(t, one)
	same("the VIP that was deleted is back", now)

	now = time.Now()
	deleteVIPs(t, one, two)
	same("the VIPs that were deleted are back", now)

	for _, wrong := range []string{`[{"ip": "192.0.2.1"}]`, fmt.Sprintf(`[{"ip": %q}]`, two), `null`} {
		now = time.Now()
		ns.kubectl("patch", "service", "one", "--subresource=status", "--type=merge", `--patch={"status": {"loadBalancer": {"ingress": `+wrong+`}}}`)
		same("the status that was "+wrong+" is right", now)
	}
	ns.deleteService("one")
	if got := vips(ns.awaitVIPs("waits"))[0]; got != one {
		t.Errorf("the third has %s, want %s", got, one)
	}
	ns.consistent()
}

// A Service of Seamark's class is served like one without a class, one of another class is left alone; and a class that is
// set or taken away leaves nothing behind.
func TestLoadBalancerClass(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	const ours, other = "seamark.io/vip", "example.com/other"
	ns := scenario(t)
	ns.pool(poolForClasses)
	class := func(class string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
	}
	ns.createService(ns.balancer("ours", class(ours)))
	ns.createService(ns.balancer("others", class(other)))
	ns.createService(ns.balancer("none"))
	had := vips(ns.awaitVIPs("ours"))
	ns.awaitVIPs("none")
	await(t, changeLimit, "it has condition and finalizer like any other", func(context.Context) error {
		s := ns.service("ours")
		status, why := ns.allocated("ours")
		return errors.Join(want("the condition ("+why+")", status, "True"), want("the list of finalizers", fmt.Sprint(s.Finalizers), fmt.Sprint(ns.service("none").Finalizers)),
			want("its class", *s.Spec.LoadBalancerClass, ours))
	})
	untouched := func(context.Context) error {
		s := ns.service("others")
		return errors.Join(want("the number of addresses", len(vips(s)), 0), want("the number of conditions", len(s.Status.Conditions), 0),
			want("the number of finalizers", len(s.Finalizers), 0))
	}
	holds(t, 3*time.Second, "the Service of another class is left alone", untouched)
	if events := ns.kubectl("get", "events", "--field-selector=involvedObject.name=others", "--no-headers"); events != "" {
		t.Errorf("there are events about the Service of another class:\n%s", events)
	}
	ns.consistent("others")

	// The API server lets a class change only along with the type.
	for _, tt := range []struct{ name, from string }{{"ours", ours}, {"none", "none"}} {
		ns.patch(tt.name, `{"spec": {"type": "ClusterIP", "loadBalancerClass": null, "allocateLoadBalancerNodePorts": null}}`)
		ns.patch(tt.name, `{"spec": {"type": "LoadBalancer", "loadBalancerClass": "`+other+`"}}`)
		await(t, changeLimit, "a Service that changed from class "+tt.from+" has no address, no finalizer, no condition", func(context.Context) error {
			s := ns.service(tt.name)
			return errors.Join(want("the number of addresses", len(vips(s)), 0), want("the number of finalizers", len(s.Finalizers), 0),
				want("the number of conditions", len(s.Status.Conditions), 0))
		})
	}
	await(t, changeLimit, "no VIP is left", func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, []string{ns.name}, []string{ns.name})
		return errors.Join(err, want("the number of VIPs", len(a.vips), 0), a.consistent("ours", "others", "none"))
	})
	ns.patch("ours", `{"spec": {"type": "ClusterIP", "loadBalancerClass": null}}`)
	ns.patch("ours", `{"spec": {"type": "LoadBalancer", "loadBalancerClass": "`+ours+`"}}`)
	if got := vips(ns.awaitVIPs("ours")); !slices.Equal(got, had) {
		t.Errorf("of Seamark's class again it has %v, want %v, the lowest", got, had)
	}
	ns.consistent("others", "none")
}

// A Service gets and loses a second address as its ipFamilyPolicy changes, and keeps the first. Labels, selectors and the
// pool's selectors may change: what a Service has it keeps.
func TestFamiliesChange(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolOfFamilies, `"fd00:198:17::/126"`)
	ns.createService(ns.balancer("web", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack) }))
	first := vips(ns.awaitVIPs("web"))[0]
	for _, policy := range []string{"PreferDualStack", "SingleStack", "RequireDualStack", "SingleStack"} {
		families := `["IPv4", "IPv6"]`
		if policy == "SingleStack" {
			families = `["IPv4"]`
		}
		ns.patch("web", fmt.Sprintf(`{"spec": {"ipFamilyPolicy": %q, "ipFamilies": %s, "clusterIPs": [%q]}}`, policy, families, ns.service("web").Spec.ClusterIP))
		ns.consistent()
		if now := vips(ns.awaitVIPs("web"))[0]; now != first {
			t.Errorf("%s: its IPv4 address is %s, and was %s", policy, now, first)
		}
	}
	ns.kubectl("label", "service", "web", "tier=front")
	ns.patch("web", `{"spec": {"selector": {"app": "other"}}}`)
	ns.patchPool(`{"spec": {"serviceSelector": {"matchLabels": {"tier": "back"}}}}`)
	holds(t, 3*time.Second, "it keeps its address", func(ctx context.Context) error {
		return errors.Join(ns.isConsistent(ctx), want("the list of addresses", fmt.Sprint(vips(ns.service("web"))), fmt.Sprint([]netip.Addr{first})))
	})
	ns.createService(ns.balancer("late"))
	await(t, changeLimit, "the pool does not select another", func(context.Context) error {
		return ns.notAllocated("late", "SelectorMismatch", ns.name)
	})
	ns.deleteServices()
}
