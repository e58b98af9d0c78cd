package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// seamarkNamespace is where Seamark's own pods run.
const seamarkNamespace = "seamark-system"

// defaultPool is the IPPool of examples/, from which Services get an address that ask for nothing.
const defaultPool = "default"

// router is the BGPPeer of examples/, and the host that it names.
const router = "router"

// Addresses for the scenarios that need a pool of their own. They lie in the prefix that the lab keeps for VIPs beside the
// LAN, which its router takes from the nodes by BGP. One scenario, one range.
const (
	poolOfOne       = "203.0.113.1/32"
	poolOfFifty     = "203.0.113.64/26"
	poolToEmpty     = "203.0.113.16/28"
	poolBesideWrong = "203.0.113.32/28"
)

func resource(name string) dynamic.NamespaceableResourceInterface {
	return cluster.dynamic.Resource(schema.GroupVersionResource{Group: "seamark.io", Version: "v1alpha1", Resource: name})
}

// vips returns the addresses that a Service shows to the world.
func vips(s *corev1.Service) []netip.Addr {
	var addresses []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		addresses = append(addresses, ingress.IP)
	}
	return parse(addresses)
}

// vipPort is where a Service is found by the world.
func vipPort(s *corev1.Service, vip netip.Addr, name string) netip.AddrPort {
	return netip.AddrPortFrom(vip, uint16(port(s, name).Port))
}

// awaitVIPs waits until a Service has an address of each family that it asks for, and returns it.
func (ns *namespace) awaitVIPs(name string) (s *corev1.Service) {
	ns.t.Helper()
	await(ns.t, changeLimit, "Service "+name+" has an EXTERNAL-IP of each of its families", func(ctx context.Context) (err error) {
		s, err = cluster.client.CoreV1().Services(ns.name).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return want("the number of its addresses", len(vips(s)), len(s.Spec.IPFamilies))
	})
	return s
}

// vip is what `kubectl get vips` shows of an address.
type vip struct{ pool, services, owner, bgp string }

var errNoVIP = errors.New("there is no such VIP")

// vipOf returns the VIP object of an address.
func vipOf(ctx context.Context, a netip.Addr) (vip, error) {
	list, err := resource("vips").List(ctx, metav1.ListOptions{})
	if err != nil {
		return vip{}, err
	}
	for _, item := range list.Items {
		if field(item, "spec", "address") == a.String() {
			return vip{
				pool:     field(item, "spec", "pool"),
				services: field(item, "spec", "usedBy"),
				owner:    field(item, "status", "owner"),
				bgp:      field(item, "status", "bgp"),
			}, nil
		}
	}
	return vip{}, errNoVIP
}

func field(o unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(o.Object, path...)
	return value
}

// owner waits until the VIP object names one node that announces the address on the LAN, and returns it.
func owner(t *testing.T, a netip.Addr) (node string) {
	t.Helper()
	await(t, changeLimit, "one node owns "+a.String(), func(ctx context.Context) error {
		v, err := vipOf(ctx, a)
		if err != nil {
			return err
		}
		if node = v.owner; node == "" || strings.Contains(node, ",") {
			return fmt.Errorf("the owner is %q", node)
		}
		return nil
	})
	return node
}

// pool makes an IPPool for one scenario: it gives addresses only to Services that name it, as the annotation of
// service-loadbalancer.yaml does. The pool's name is the namespace's.
func (ns *namespace) pool(addresses ...string) {
	ns.t.Helper()
	ns.create("pool.yaml", "$NAME", ns.name, "$ADDRESSES", strings.Join(addresses, ", "))
	putBack(ns.t, func(ctx context.Context) {
		if _, err := cluster.Kubectl(ctx, "delete", "ippool", ns.name, "--ignore-not-found", "--wait=false"); err != nil {
			ns.t.Error(err)
		}
	})
	await(ns.t, changeLimit, "the pool is Ready", func(ctx context.Context) error {
		status, why, err := poolCondition(ctx, ns.name, "Ready")
		if err == nil {
			err = want("Ready", status+" "+why, "True "+why)
		}
		return err
	})
}

// poolCondition returns the status of a condition of an IPPool, and "reason: message".
func poolCondition(ctx context.Context, name, condition string) (status, why string, err error) {
	o, err := resource("ippools").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, _ := c.(map[string]any); c["type"] == condition {
			return fmt.Sprint(c["status"]), fmt.Sprintf("%s: %s", c["reason"], c["message"]), nil
		}
	}
	return "", "", fmt.Errorf("the pool has no condition %s", condition)
}

// peer returns what `kubectl get bgppeers` shows of a BGPPeer: the columns ESTABLISHED and MESSAGE.
func peer(ctx context.Context, name string) (established, message string, err error) {
	o, err := resource("bgppeers").Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	return field(*o, "status", "established"), field(*o, "status", "message"), nil
}

// peerEstablished returns nil if all nodes have a session with a peer.
func peerEstablished(ctx context.Context, name string) error {
	established, message, err := peer(ctx, name)
	if err != nil {
		return err
	}
	n := len(cluster.Plan().Nodes())
	return want("the number of sessions of "+name+" ("+message+")", established, fmt.Sprintf("%d/%d", n, n))
}

// seamarkPod returns Seamark's pod of a program on a node, or on any for "".
func seamarkPod(ctx context.Context, program, node string) (corev1.Pod, error) {
	list, err := cluster.client.CoreV1().Pods(seamarkNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + program})
	if err != nil {
		return corev1.Pod{}, err
	}
	for _, pod := range list.Items {
		if (node == "" || pod.Spec.NodeName == node) && pod.DeletionTimestamp == nil {
			return pod, nil
		}
	}
	return corev1.Pod{}, fmt.Errorf("no pod of %s on node %q", program, node)
}

// routed waits until the router knows the address by way of exactly these nodes; none means that it has no route.
func routed(t *testing.T, a netip.Addr, nodes ...string) {
	t.Helper()
	r := on(t, router)
	slices.Sort(nodes)
	await(t, changeLimit, fmt.Sprintf("the router reaches %s by way of %v", a, nodes), func(ctx context.Context) error {
		hops, err := r.nextHops(ctx, a)
		if err != nil {
			return err
		}
		return want("the list of next hops", strings.Join(hops, " "), strings.Join(nodes, " "))
	})
}

// allNodes returns the names of the lab's nodes.
func allNodes() []string {
	var names []string
	for _, h := range cluster.Plan().Nodes() {
		names = append(names, h.Name)
	}
	return names
}
