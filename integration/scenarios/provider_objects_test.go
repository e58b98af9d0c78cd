package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// vipObject is a VIP as the API server has it.
type vipObject struct {
	Metadata metav1.ObjectMeta
	Spec     struct {
		Address, Pool string
		Services      []struct {
			Namespace, Name string
			Ports           []string
		}
		ReservedFor *struct{ Namespace, Name string }
	}
}

// poolObject is an IPPool as the API server has it.
type poolObject struct {
	Metadata metav1.ObjectMeta
	Status   struct {
		poolCounts
		IPv4, IPv6 poolCounts
	}
}

type poolCounts struct{ Total, Used, Reserved, Free int64 }

// addresses is what the API server has of addresses at one moment.
type addresses struct {
	services []corev1.Service
	vips     []vipObject
	pools    []poolObject
}

// addressesOf reads the Services of some namespaces, the VIPs that name one of them or came from one of some pools, and
// these pools. No namespaces: all.
func addressesOf(ctx context.Context, client kubernetes.Interface, namespaces, pools []string) (a addresses, err error) {
	var services corev1.ServiceList
	var vips struct{ Items []vipObject }
	var ippools struct{ Items []poolObject }
	for path, into := range map[string]any{
		"/api/v1/services": &services, "/apis/seamark.io/v1alpha1/vips": &vips, "/apis/seamark.io/v1alpha1/ippools": &ippools,
	} {
		text, err := client.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			return a, fmt.Errorf("%s: %w", path, err)
		}
	}
	ours := func(namespace string) bool { return len(namespaces) == 0 || slices.Contains(namespaces, namespace) }
	a.services = slices.DeleteFunc(services.Items, func(s corev1.Service) bool { return !ours(s.Namespace) })
	a.pools = slices.DeleteFunc(ippools.Items, func(p poolObject) bool { return !slices.Contains(pools, p.Metadata.Name) })
	a.vips = slices.DeleteFunc(vips.Items, func(v vipObject) bool {
		for _, s := range v.Spec.Services {
			if ours(s.Namespace) {
				return false
			}
		}
		return !slices.Contains(pools, v.Spec.Pool)
	})
	return a, nil
}

// consistent returns nil if Services, VIPs and pools tell the same: each Service of type LoadBalancer, but for those that
// wait, has one address of each of its families; these are the VIPs that name it; no VIP names a Service that does not
// exist or is no load balancer; what the pools count is what there is.
func (a addresses) consistent(waiting ...string) error {
	held := map[string][]netip.Addr{}
	shared := map[netip.Addr]int{}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, v := range a.vips {
		addr, err := netip.ParseAddr(v.Spec.Address)
		if err != nil || strings.ReplaceAll(v.Metadata.Name, "-", ":") != addr.String() && strings.ReplaceAll(v.Metadata.Name, "-", ":") != addr.StringExpanded() {
			wrong("the VIP %s has the address %q", v.Metadata.Name, v.Spec.Address)
		}
		for _, s := range v.Spec.Services {
			held[s.Namespace+"/"+s.Name] = append(held[s.Namespace+"/"+s.Name], addr)
		}
		shared[addr] = len(v.Spec.Services)
	}
	seen := map[netip.Addr]int{}
	for _, s := range a.services {
		name := s.Namespace + "/" + s.Name
		shown := vips(&s)
		for _, addr := range shown {
			seen[addr]++
		}
		slices.SortFunc(shown, netip.Addr.Compare)
		slices.SortFunc(held[name], netip.Addr.Compare)
		if !slices.Equal(shown, held[name]) {
			wrong("Service %s shows %v, and has the VIPs %v", name, shown, held[name])
		}
		delete(held, name)
		switch families := familiesOf(shown); {
		case s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(shown) > 0:
			wrong("Service %s of type %s has the addresses %v", name, s.Spec.Type, shown)
		case s.Spec.Type != corev1.ServiceTypeLoadBalancer, slices.Contains(waiting, s.Name):
		case families != familiesWanted(&s):
			wrong("Service %s has the addresses %v, want %s", name, shown, familiesWanted(&s))
		}
	}
	for name, addrs := range held {
		wrong("VIPs %v name Service %s, which does not exist", addrs, name)
	}
	for addr, n := range seen {
		if n > shared[addr] {
			wrong("%d Services have the address %s, and its VIP names %d", n, addr, shared[addr])
		}
	}
	for _, p := range a.pools {
		var all, v4, v6 poolCounts
		for _, v := range a.vips {
			if v.Spec.Pool != p.Metadata.Name {
				continue
			}
			of := &v4
			if strings.Contains(v.Spec.Address, ":") {
				of = &v6
			}
			for _, c := range []*poolCounts{&all, of} {
				if len(v.Spec.Services) > 0 {
					c.Used++
				} else {
					c.Reserved++
				}
			}
		}
		for _, c := range []struct {
			of           string
			counts, want poolCounts
		}{{"in all", p.Status.poolCounts, all}, {"of IPv4", p.Status.IPv4, v4}, {"of IPv6", p.Status.IPv6, v6}} {
			if c.counts.Used != c.want.Used || c.counts.Reserved != c.want.Reserved {
				wrong("IPPool %s counts %d used and %d reserved %s, and there are %d and %d", p.Metadata.Name,
					c.counts.Used, c.counts.Reserved, c.of, c.want.Used, c.want.Reserved)
			}
			if c.counts.Used+c.counts.Reserved+c.counts.Free != c.counts.Total {
				wrong("IPPool %s: the counts %s do not add up: %+v", p.Metadata.Name, c.of, c.counts)
			}
		}
	}
	return errors.Join(errs...)
}

func familiesOf(addrs []netip.Addr) string {
	var families []string
	for _, a := range addrs {
		if a.Is4() {
			families = append(families, string(corev1.IPv4Protocol))
		} else {
			families = append(families, string(corev1.IPv6Protocol))
		}
	}
	slices.Sort(families)
	return strings.Join(families, ",")
}

func familiesWanted(s *corev1.Service) string {
	var families []string
	for _, f := range s.Spec.IPFamilies {
		families = append(families, string(f))
	}
	slices.Sort(families)
	return strings.Join(families, ",")
}

// consistent waits until the namespace's Services, their VIPs and its pool tell the same; those that wait need not have an
// address.
func (ns *namespace) consistent(waiting ...string) {
	ns.t.Helper()
	await(ns.t, changeLimit, "Services, VIPs and pool tell the same", func(ctx context.Context) error {
		return ns.isConsistent(ctx, waiting...)
	})
}

func (ns *namespace) isConsistent(ctx context.Context, waiting ...string) error {
	a, err := addressesOf(ctx, cluster.client, []string{ns.name}, []string{ns.name})
	if err != nil {
		return err
	}
	return a.consistent(waiting...)
}

// nothingLeft waits until no VIP of the namespace's pool is there, and the pool counts none.
func (ns *namespace) nothingLeft() {
	ns.t.Helper()
	await(ns.t, changeLimit, "no VIP is left", func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, []string{ns.name}, []string{ns.name})
		if err != nil {
			return err
		}
		return errors.Join(want("the number of VIPs", len(a.vips), 0), a.consistent())
	})
}

// balancer returns a Service of type LoadBalancer that asks the namespace's pool for an address, has no pods and no node
// ports.
func (ns *namespace) balancer(name string, changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"seamark.io/pool": ns.name}},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			AllocateLoadBalancerNodePorts: new(false),
			Ports:                         []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// annotated adds annotations: name, value, name, value…
func annotated(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations[pairs[i]] = pairs[i+1]
		}
	}
}

func dualStack(s *corev1.Service) {
	s.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
}

// ports replaces the ports of a Service.
func ports(protocol corev1.Protocol, numbers ...int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for _, n := range numbers {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", n), Port: n, Protocol: protocol})
		}
	}
}

// createService creates a Service in the namespace.
func (ns *namespace) createService(s *corev1.Service) {
	ns.t.Helper()
	if _, err := cluster.client.CoreV1().Services(ns.name).Create(contextOf(ns.t), s, metav1.CreateOptions{}); err != nil {
		ns.t.Fatal(err)
	}
}

// createServices creates n Services at once: s0000, s0001, …
func (ns *namespace) createServices(n int, of func(i int) *corev1.Service) {
	ns.t.Helper()
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		group.Go(func() error {
			_, err := cluster.client.CoreV1().Services(ns.name).Create(contextOf(ns.t), of(i), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		ns.t.Fatal(err)
	}
}

// deleteServices deletes all Services of the namespace and waits until none is left, nor a VIP.
func (ns *namespace) deleteServices() {
	ns.t.Helper()
	services := cluster.client.CoreV1().Services(ns.name)
	list, err := services.List(contextOf(ns.t), metav1.ListOptions{})
	if err != nil {
		ns.t.Fatal(err)
	}
	var group errgroup.Group
	group.SetLimit(16)
	for _, s := range list.Items {
		group.Go(func() error { return services.Delete(contextOf(ns.t), s.Name, metav1.DeleteOptions{}) })
	}
	if err := group.Wait(); err != nil {
		ns.t.Fatal(err)
	}
	await(ns.t, podLimit, "the Services are gone", func(ctx context.Context) error {
		list, err := services.List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		return want("the number of Services", len(list.Items), 0)
	})
	ns.nothingLeft()
}

// patch changes a Service by a merge patch.
func (ns *namespace) patch(service, patch string) {
	ns.t.Helper()
	ns.kubectl("patch", "service", service, "--type=merge", "--patch", patch)
}

// patchPool changes the namespace's pool by a merge patch.
func (ns *namespace) patchPool(patch string) {
	ns.t.Helper()
	ns.kubectl("patch", "ippool", ns.name, "--type=merge", "--patch", patch)
}

// deleteVIPs deletes VIPs by hand, as one does with addresses that are reserved.
func deleteVIPs(t *testing.T, addrs ...netip.Addr) {
	t.Helper()
	for _, a := range addrs {
		if err := resource("vips").Delete(contextOf(t), vipName(a), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// retains makes the namespace's pool keep addresses for Services that are gone, and gives them back when the test ends.
func (ns *namespace) retains() {
	ns.t.Helper()
	ns.patchPool(`{"spec": {"reclaimPolicy": "Retain"}}`)
	putBack(ns.t, func(ctx context.Context) {
		_, err := cluster.Kubectl(ctx, "patch", "ippool", ns.name, "--type=merge", `--patch={"spec": {"reclaimPolicy": "Delete"}}`)
		a, readErr := addressesOf(ctx, cluster.client, []string{ns.name}, []string{ns.name})
		err = errors.Join(err, readErr)
		for _, v := range a.vips {
			if len(v.Spec.Services) == 0 {
				err = errors.Join(err, resource("vips").Delete(ctx, v.Metadata.Name, metav1.DeleteOptions{}))
			}
		}
		if err != nil {
			ns.t.Errorf("give back what the pool retains: %v", err)
		}
	})
}

// vipName returns the name of an address's VIP: of an IPv6 address all digits, with '-'.
func vipName(a netip.Addr) string { return strings.ReplaceAll(a.StringExpanded(), ":", "-") }

// took logs how long something took that is promised within a second, which two busy cores may exceed.
func took(t *testing.T, what string, since time.Time) {
	t.Helper()
	t.Logf("%s after %s", what, time.Since(since).Round(time.Millisecond))
}
