package failover

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// routes4 and routes6 are the addresses that make many routes.
	routes4, routes6 = "198.18.0.0/16", "fd00:198::/112"
	// aggregate4 and aggregate6 are lengths by which a few routes lead to all of them.
	aggregate4, aggregate6 = 24, 120
)

// routesPool is the manifest of their pool, which all nodes announce to the router; bgp says how.
func routesPool(bgp string) []byte {
	return fmt.Appendf(nil, `
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: routes}
spec:
  addresses: [%s, "%s"]
  autoAssign: false
  announce: {bgp: {%s}}
`, routes4, routes6, bgp)
}

// cutRoutes cuts the link of a node by which the router has many routes, half of them of each family; and then the same where
// prefixes that cover many addresses are announced in their place.
func (w *world) cutRoutes(ctx context.Context) error {
	if err := w.acceptRoutes(ctx); err != nil {
		return err
	}
	if err := w.lab.Apply(ctx, routesPool("")); err != nil {
		return err
	}
	endpoints, err := w.echoes(ctx)
	if err != nil {
		return err
	}
	n := w.options.Addresses / 2
	w.log.printf("making %d Services with two addresses each", n)
	if err := makeServices(ctx, w.lab, n, "routes", endpoints); err != nil {
		return err
	}
	var some []netip.Addr
	for i := range sampled {
		addrs, err := w.addresses(ctx, serviceName(i*n/sampled))
		if err != nil {
			return err
		}
		some = append(some, addrs...)
	}
	if err := w.cutRoutesTo(ctx, "routes", fmt.Sprintf("%d routes", 2*n), some, n, n); err != nil {
		return err
	}

	if err := w.lab.Apply(ctx, routesPool(fmt.Sprintf("aggregationLength: %d, aggregationLengthV6: %d", aggregate4, aggregate6))); err != nil {
		return err
	}
	return w.cutRoutesTo(ctx, "routes-aggregated", fmt.Sprintf("%d addresses in routes of /%d and /%d", 2*n, aggregate4, aggregate6), some,
		prefixes(n, 32-aggregate4), prefixes(n, 128-aggregate6))
}

// prefixes returns how many prefixes with so many bits of addresses each n addresses fill, from the start of the first.
func prefixes(n, bits int) int { return (n + 1<<bits - 1) >> bits }

// cutRoutesTo does so once the router has as many routes of both families by way of each node.
func (w *world) cutRoutesTo(ctx context.Context, name, what string, vips []netip.Addr, ipv4, ipv6 int) error {
	routed := func(ctx context.Context, node string) error {
		return w.until(ctx, 10*time.Minute, fmt.Sprintf("the router has %d and %d routes by way of %s", ipv4, ipv6, node), func(ctx context.Context) error {
			if err := sleep(ctx, time.Second); err != nil { // to count thousands is work
				return err
			}
			is4, is6, err := w.routesBy(ctx, node)
			if err == nil && (is4 != ipv4 || is6 != ipv6) {
				err = fmt.Errorf("they are %d and %d", is4, is6)
			}
			return err
		})
	}
	for _, n := range w.lab.Plan().Nodes() {
		if err := routed(ctx, n.Name); err != nil {
			return err
		}
	}
	return w.inflict(ctx, fault{
		name: name, title: "node's link cut, from behind the router, BFD 3 × 50 ms, " + what,
		host: "remote", every: sampled * time.Millisecond, vips: vips,
		victim: inTurn("node2", "node3"), do: w.cut, undo: w.healUntil(routed),
		times: max(w.options.Repetitions/3, 1), atMost: worstBlackout,
	})
}

// acceptRoutes has the router take the pool's addresses as well: the lab's takes only those that it is made for.
func (w *world) acceptRoutes(ctx context.Context) error {
	router, err := w.lab.Host("router")
	if err != nil {
		return err
	}
	for filter, prefix := range map[string]string{"vips4": routes4, "vips6": routes6} {
		line := fmt.Sprintf(`s,^filter %s {$,&\n	if net ~ [ %s+ ] then accept;,`, filter, prefix)
		if _, err := router.Exec(ctx, "sed", "-i", line, "/etc/bird/bird.conf"); err != nil {
			return err
		}
	}
	_, err = router.Exec(ctx, "birdc", "configure")
	return err
}

// routesBy counts the router's routes to the pool's addresses by way of a node.
func (w *world) routesBy(ctx context.Context, node string) (ipv4, ipv6 int, err error) {
	router, err := w.lab.Host("router")
	if err != nil {
		return 0, 0, err
	}
	host, err := w.lab.Host(node)
	if err != nil {
		return 0, 0, err
	}
	for _, a := range host.Addrs() {
		family, prefix, count := "-4", routes4, &ipv4
		if a.Is6() {
			family, prefix, count = "-6", routes6, &ipv6
		}
		out, err := router.Exec(ctx, "ip", family, "route", "show", "root", prefix)
		if err != nil {
			return 0, 0, err
		}
		*count += strings.Count(out.Stdout, "via "+a.String()+" ")
	}
	return ipv4, ipv6, nil
}

// echoes returns an address of the echo servers' pods of each family.
func (w *world) echoes(ctx context.Context) (map[discoveryv1.AddressType]string, error) {
	pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=echo"})
	if err != nil {
		return nil, err
	}
	out := map[discoveryv1.AddressType]string{}
	for _, p := range pods.Items {
		for _, ip := range p.Status.PodIPs {
			a, err := netip.ParseAddr(ip.IP)
			switch {
			case err != nil:
				return nil, err
			case a.Is4():
				out[discoveryv1.AddressTypeIPv4] = ip.IP
			default:
				out[discoveryv1.AddressTypeIPv6] = ip.IP
			}
		}
	}
	if len(out) != 2 {
		return nil, fmt.Errorf("the echo servers have the addresses %v", out)
	}
	return out, nil
}
