package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Services that are created at once never share an address, also when the controller is killed while it gives them out;
// and another restart changes nothing.
func TestManyServicesAtOnce(t *testing.T) {
	needsSeamarkLB(t)
	const n = 50
	ns := scenario(t)
	ns.alone()
	ns.pool(poolOfFifty)
	services := cluster.client.CoreV1().Services(ns.name)
	var creation errgroup.Group
	halfWay := make(chan struct{})
	for i := range n {
		creation.Go(func() error {
			if i == n/2 {
				defer close(halfWay)
			}
			_, err := services.Create(contextOf(t), &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%02d", i), Annotations: map[string]string{"seamark.io/pool": ns.name}},
				Spec: corev1.ServiceSpec{
					Type:     corev1.ServiceTypeLoadBalancer,
					Selector: map[string]string{"app": "none"},
					Ports:    []corev1.ServicePort{{Port: 80}},
				},
			}, metav1.CreateOptions{})
			return err
		})
	}
	<-halfWay
	first, _ := killController(t)
	if err := creation.Wait(); err != nil {
		t.Fatal(err)
	}
	some, err := addressesIn(contextOf(t), ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d had an address when the controller was killed", len(some), n)
	var given map[netip.Addr]string
	await(t, 2*podLimit, "all have an address, each its own", func(ctx context.Context) (err error) {
		if given, err = addressesIn(ctx, ns); err != nil {
			return err
		}
		return want("the number of addresses", len(given), n)
	})
	await(t, changeLimit, "each address has a VIP for its Service, and there are no other VIPs", func(ctx context.Context) error {
		return sameVIPs(ctx, ns, given)
	})

	awaitController(t, first)
	second, _ := killController(t)
	awaitController(t, second)
	holds(t, 3*time.Second, "the addresses stay", func(ctx context.Context) error {
		now, err := addressesIn(ctx, ns)
		if err != nil {
			return err
		}
		for a, service := range now {
			if given[a] != service {
				return fmt.Errorf("%s was of %q, and now is of %q", a, given[a], service)
			}
		}
		return errors.Join(want("the number of addresses", len(now), n), sameVIPs(ctx, ns, given))
	})
}

// addressesIn returns the addresses of the Services of a namespace. It is an error if two Services have the same one.
func addressesIn(ctx context.Context, ns *namespace) (map[netip.Addr]string, error) {
	list, err := cluster.client.CoreV1().Services(ns.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	given := make(map[netip.Addr]string)
	for _, s := range list.Items {
		for _, a := range vips(&s) {
			if other := given[a]; other != "" {
				ns.t.Fatalf("%s and %s have the same address, %s", other, s.Name, a)
			}
			given[a] = s.Name
		}
	}
	return given, nil
}

// sameVIPs compares the VIP objects of the namespace's pool with the addresses of its Services.
func sameVIPs(ctx context.Context, ns *namespace, given map[netip.Addr]string) error {
	list, err := resource("vips").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	found := 0
	for _, item := range list.Items {
		if field(item, "spec", "pool") != ns.name {
			continue
		}
		found++
		refs, _, _ := unstructured.NestedSlice(item.Object, "spec", "services")
		service := given[netip.MustParseAddr(field(item, "spec", "address"))]
		if len(refs) != 1 || refs[0].(map[string]any)["name"] != service {
			return fmt.Errorf("the VIP %s is of %v, want %s", item.GetName(), refs, service)
		}
	}
	return want("the number of VIPs", found, len(given))
}

// A Service that finds its pool empty says so, and is served as soon as an address is free: when another gives one back,
// and when the pool grows.
func TestNoFreeAddress(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	// soon is what a person would call at once.
	const soon = 2 * time.Second
	ns := scenario(t)
	ns.pool(poolOfOne)
	ns.create("web-svc-pool.yaml", "$NAME", "first", "$POOL", ns.name)
	address := vips(ns.awaitVIPs("first"))[0]

	for _, name := range []string{"second", "third"} {
		ns.create("web-svc-pool.yaml", "$NAME", name, "$POOL", ns.name)
		await(t, changeLimit, "the condition of "+name+" names the pool and says what to do", func(ctx context.Context) error {
			return ns.notAllocated(name, "no free IPv4 address", ns.name, "add addresses to a pool, or delete a Service")
		})
	}
	await(t, changeLimit, "an event names the pool", func(ctx context.Context) error {
		description := ns.kubectl("describe", "service", "second")
		_, events, _ := strings.Cut(description, "Events:")
		if !strings.Contains(events, "Warning") || !strings.Contains(events, "no free IPv4 address in IPPool "+ns.name) {
			return errors.New(events)
		}
		return nil
	})
	if a := vips(ns.service("second")); len(a) != 0 {
		t.Errorf("it has the addresses %v although the pool is empty", a)
	}

	ns.deleteService("first")
	winner := ""
	await(t, soon, "one of those that wait has the address", func(ctx context.Context) error {
		given, err := addressesIn(ctx, ns)
		if err != nil {
			return err
		}
		winner = given[address]
		if winner == "" {
			return fmt.Errorf("the addresses are %v", given)
		}
		return nil
	})
	await(t, changeLimit, "its condition is true", func(ctx context.Context) error {
		status, why := ns.allocated(winner)
		return want("the condition of "+winner+" ("+why+")", status, "True")
	})
	ns.kubectl("patch", "ippool", ns.name, "--type=merge", "--patch", `{"spec": {"addresses": ["203.0.113.1/32", "203.0.113.2/32"]}}`)
	await(t, soon, "the other has the new address", func(ctx context.Context) error {
		given, err := addressesIn(ctx, ns)
		if err != nil {
			return err
		}
		return want("the number of addresses", len(given), 2)
	})
}

// allocated returns the condition that says whether a Service has the addresses that it wants: its status, and "reason:
// message".
func (ns *namespace) allocated(service string) (status, why string) {
	ns.t.Helper()
	return allocationOf(ns.service(service))
}

func allocationOf(s *corev1.Service) (status, why string) {
	for _, c := range s.Status.Conditions {
		if c.Type == "seamark.io/AddressAllocated" {
			return string(c.Status), c.Reason + ": " + c.Message
		}
	}
	return "", "there is no such condition"
}

// notAllocated returns nil if the condition says that a Service has not what it wants, in these words among others.
func (ns *namespace) notAllocated(service string, words ...string) error {
	s, err := cluster.client.CoreV1().Services(ns.name).Get(contextOf(ns.t), service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	status, why := allocationOf(s)
	return errors.Join(want("the status", status, "False"), containsAll(why, words...))
}

// containsAll returns an error unless the text has all these words.
func containsAll(text string, words ...string) error {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return fmt.Errorf("there is no %q in: %s", w, text)
		}
	}
	return nil
}

// What a Service asks for by annotation is what it gets, or its condition says why not.
func TestRequests(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolBesideWrong)
	prefix := netip.MustParsePrefix(poolBesideWrong)
	chosen := prefix.Addr().Next().Next().Next()
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		address     netip.Addr
		words       []string
	}{
		{name: "address", annotations: map[string]string{"seamark.io/addresses": chosen.String()}, address: chosen},
		{name: "metallb", annotations: map[string]string{"metallb.io/loadBalancerIPs": chosen.Next().String()}, address: chosen.Next()},
		{name: "taken", annotations: map[string]string{"seamark.io/addresses": chosen.String()}, words: []string{chosen.String() + " belongs to Service " + ns.name + "/address"}},
		{name: "nowhere", annotations: map[string]string{"seamark.io/addresses": "192.0.2.7"}, words: []string{"192.0.2.7 is in no IPPool", "add this one to a pool"}},
		{name: "nopool", annotations: map[string]string{"seamark.io/pool": "nosuch"}, words: []string{"there is no IPPool nosuch"}},
		{name: "garbage", annotations: map[string]string{"seamark.io/addresses": "203.0.113"}, words: []string{"seamark.io/addresses", `"203.0.113" is not an address`}},
	} {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: tt.name, Annotations: tt.annotations},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
		}
		if _, err := cluster.client.CoreV1().Services(ns.name).Create(contextOf(t), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if tt.address.IsValid() {
			if got := vips(ns.awaitVIPs(tt.name))[0]; got != tt.address {
				t.Errorf("%s: the address is %s, want %s", tt.name, got, tt.address)
			}
			continue
		}
		await(t, changeLimit, tt.name+": the condition says why not", func(context.Context) error {
			return ns.notAllocated(tt.name, tt.words...)
		})
	}
}
