package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/integration/lab"
)

// loadBalancer starts replicas, one to a node as far as there are nodes, and a Service of type LoadBalancer for them.
func (ns *namespace) loadBalancer(replicas int) ([]corev1.Pod, *corev1.Service) {
	ns.t.Helper()
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", fmt.Sprint(replicas))
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "LoadBalancer")
	return ns.ready("web", replicas), ns.awaitVIPs("web")
}

// A Service of type LoadBalancer gets addresses at which it is reached from the LAN, from behind the router, from nodes
// and from pods; at which it answers pings; and which answer no more once it is deleted.
func TestLoadBalancer(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	pods, svc := ns.loadBalancer(3)
	client, remote := on(t, "client"), on(t, "remote")

	for _, vip := range vips(svc) {
		at, udp := vipPort(svc, vip, "http"), vipPort(svc, vip, "udp")
		for _, from := range []host{client, remote, nodes(t)[0]} {
			await(t, changeLimit, fmt.Sprintf("all pods answer %s at %s", from.Name, at), func(ctx context.Context) error {
				return reached(requestsFor(3), pods, func() (string, error) { return from.get(ctx, at, "hostname") })
			})
			await(t, changeLimit, fmt.Sprintf("all pods answer %s at %s by UDP", from.Name, udp), func(ctx context.Context) error {
				return reached(requestsFor(3), pods, func() (string, error) { return from.udp(ctx, udp, "hostname") })
			})
			if cluster.Options().Proxy != lab.Seamark {
				continue // kube-proxy lets packets to other ports of a VIP go on
			}
			await(t, changeLimit, fmt.Sprintf("%s refuses %s a port that it does not serve", vip, from.Name), func(ctx context.Context) error {
				return from.refused(ctx, netip.AddrPortFrom(vip, 82))
			})
		}
		for _, from := range []host{client, remote} {
			await(t, changeLimit, fmt.Sprintf("%s answers pings of %s", vip, from.Name), func(ctx context.Context) error {
				return from.pings(ctx, vip)
			})
		}
		await(t, changeLimit, "a pod behind it answers another", func(ctx context.Context) error {
			_, err := ns.curl(ctx, pods[0].Name, fmt.Sprintf("http://%s/hostname", at))
			return err
		})
		neighbourIsOwner(t, client, vip)
		routed(t, vip, allNodes()...)
		await(t, changeLimit, "the VIP object tells of "+vip.String(), func(ctx context.Context) error {
			v, err := vipOf(ctx, vip)
			return errors.Join(err,
				want("its pool", v.pool, defaultPool),
				want("its Service", v.services, ns.name+"/web"),
				want("the list of nodes that tell routers", v.bgp, strings.Join(allNodes(), ",")))
		})
		if line := ns.kubectl("get", "service", "web"); !strings.Contains(line, vip.String()) {
			t.Errorf("kubectl get service does not show %s:\n%s", vip, line)
		}
	}
	// It is a NodePort Service as well.
	client.hears(nodePorts(svc, "http", nodes(t)[0])[0], "hostname")
	ns.eventually("EnsuredLoadBalancer")

	ns.deleteService("web")
	for _, vip := range vips(svc) {
		routed(t, vip)
		await(t, changeLimit, "the VIP object is gone", func(ctx context.Context) error {
			switch _, err := vipOf(ctx, vip); {
			case errors.Is(err, errNoVIP):
				return nil
			case err != nil:
				return err
			}
			return errors.New("it is still there")
		})
		for _, from := range []host{client, remote} {
			silent := func(ctx context.Context) error {
				answer, err := from.get(ctx, vipPort(svc, vip, "http"), "")
				switch {
				case err == nil:
					err = fmt.Errorf("answer is %q", answer)
				case from.pings(ctx, vip) == nil:
					err = errors.New("it answers pings")
				default:
					return nil
				}
				if v, not := vipOf(ctx, vip); not == nil && v.services != ns.name+"/web" {
					return nil // it is free, and the Service of another test has it by now
				}
				return err
			}
			await(t, changeLimit, fmt.Sprintf("nothing answers %s at %s", from.Name, vip), silent)
			holds(t, 2*time.Second, fmt.Sprintf("nothing answers %s at %s", from.Name, vip), silent)
		}
	}
}

// neighbourIsOwner checks that a host on the LAN has learned the link-layer address of the node that says it owns a VIP.
func neighbourIsOwner(t *testing.T, from host, vip netip.Addr) {
	t.Helper()
	await(t, changeLimit, fmt.Sprintf("%s knows %s by the link-layer address of its owner", from.Name, vip), func(ctx context.Context) error {
		node, err := from.neighbour(ctx, vip)
		if err != nil {
			return err
		}
		return want("the node with that address", node, owner(t, vip))
	})
}

// eventually waits for events with these reasons in the namespace.
func (ns *namespace) eventually(reasons ...string) {
	ns.t.Helper()
	for _, reason := range reasons {
		await(ns.t, changeLimit, "an event "+reason, func(context.Context) error {
			events := ns.kubectl("get", "events", "--field-selector=reason="+reason, "--no-headers")
			if !strings.Contains(events, reason) {
				return errors.New("none")
			}
			return nil
		})
	}
}

// With externalTrafficPolicy: Local the pods see the client's own address, from the LAN and from behind the router, and
// only nodes with such a pod announce.
func TestLoadBalancerLocal(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "2")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "LoadBalancer")
	ns.kubectl("patch", "service", "web", "--patch", `{"spec": {"externalTrafficPolicy": "Local"}}`)
	pods, svc := ns.ready("web", 2), ns.awaitVIPs("web")
	var homes []string
	for _, pod := range pods {
		homes = append(homes, pod.Spec.NodeName)
	}
	for _, vip := range vips(svc) {
		routed(t, vip, homes...)
		await(t, changeLimit, "a node with a pod owns "+vip.String(), func(context.Context) error {
			if node := owner(t, vip); !slices.Contains(homes, node) {
				return fmt.Errorf("%s owns it, which has none", node)
			}
			return nil
		})
		for _, from := range []host{on(t, "client"), on(t, "remote")} {
			at := vipPort(svc, vip, "http")
			await(t, changeLimit, fmt.Sprintf("the pods see the address of %s at %s, every time", from.Name, at), func(ctx context.Context) error {
				for range requestsFor(2) {
					if err := seesClient(ctx, from, at); err != nil {
						return err
					}
				}
				return nil
			})
			await(t, changeLimit, fmt.Sprintf("%s answers pings of %s", vip, from.Name), func(ctx context.Context) error {
				return from.pings(ctx, vip)
			})
		}
	}
}

// A VIP outside of the nodes' subnet is reached by way of the router, which has a route as long as there is a Service with an
// endpoint, and a pool that says how it is announced. (A pool in use can be removed by force only: its finalizer keeps it.)
func TestRoutes(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolToEmpty)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "2")
	ns.create("web-svc-pool.yaml", "$NAME", "web", "$POOL", ns.name)
	pods, svc := ns.ready("web", 2), ns.awaitVIPs("web")
	vip := vips(svc)[0]
	at := vipPort(svc, vip, "http")
	serves := func() {
		t.Helper()
		routed(t, vip, allNodes()...)
		for _, from := range []host{on(t, "remote"), on(t, "client")} {
			from.hears(at, "hostname")
		}
	}
	if !netip.MustParsePrefix(poolToEmpty).Contains(vip) {
		t.Fatalf("the address %s is not in %s", vip, poolToEmpty)
	}
	serves()

	ns.kubectl("scale", "deployment", "web", "--replicas=0")
	routed(t, vip)
	ns.kubectl("scale", "deployment", "web", fmt.Sprintf("--replicas=%d", len(pods)))
	ns.ready("web", len(pods))
	serves()

	// A pool that shrinks, and then is deleted, while the address is in use cuts nothing off: it lists the address, and goes
	// with it.
	elsewhere := `{"spec": {"addresses": ["203.0.113.250/32"]}}`
	ns.kubectl("patch", "ippool", ns.name, "--type=merge", "--patch", elsewhere)
	offends := func(reason string) {
		t.Helper()
		await(t, changeLimit, "the pool lists the address: "+reason, func(ctx context.Context) error {
			out, err := cluster.Kubectl(ctx, "get", "ippool", ns.name, "--output=jsonpath={.status.offenders}")
			return errors.Join(err, containsAll(out.Stdout, vip.String(), ns.name+"/web", reason))
		})
		holds(t, 2*time.Second, "the address is announced and serves", func(context.Context) error {
			serves()
			return nil
		})
	}
	offends("NotInPool")
	ns.kubectl("delete", "ippool", ns.name, "--wait=false")
	offends("PoolDeleted")

	ns.deleteService("web")
	routed(t, vip)
	await(t, changeLimit, "the pool is gone", func(ctx context.Context) error {
		_, err := resource("ippools").Get(ctx, ns.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return cmp.Or(err, errors.New("it is still there"))
	})
}
