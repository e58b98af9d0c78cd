package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// step is one thing to show. Show returns an error if it does not come out as it should.
type step struct {
	title string
	show  func(ctx context.Context, t *tour) error
}

func steps() []step {
	return []step{
		{"A cluster, and Seamark in it", cluster},
		{"Addresses to give out, a router to tell, three replicas, and a Service of type LoadBalancer", apply},
		{"The Service has an EXTERNAL-IP", externalIP},
		{"From the LAN: the client finds the address by ARP", fromLAN},
		{"From behind the router: it has learned the address by BGP", fromRemote},
		{"The address answers pings", ping},
		{"Which client the pods see", clientAddress},
		{"The node that announces the address loses its link", cut},
		{"Its link is back", heal},
		{"The Service is deleted", remove},
	}
}

const (
	podLimit    = time.Minute
	changeLimit = 30 * time.Second
)

func apply(ctx context.Context, t *tour) error {
	if err := t.kubectl(ctx, "apply", "-k", "examples"); err != nil {
		return err
	}
	return t.kubectl(ctx, "rollout", "status", "deployment/hello", "--timeout="+podLimit.String())
}

// service reads the example's Service and its addresses.
func (t *tour) service(ctx context.Context) (s corev1.Service, vips []netip.Addr, err error) {
	if err := t.read(ctx, &s, "service", "hello"); err != nil {
		return s, nil, err
	}
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		vip, err := netip.ParseAddr(ingress.IP)
		if err != nil {
			return s, nil, err
		}
		vips = append(vips, vip)
	}
	return s, vips, nil
}

func externalIP(ctx context.Context, t *tour) error {
	err := t.until(ctx, changeLimit, "an EXTERNAL-IP of each family of the Service", func(ctx context.Context) error {
		s, vips, err := t.service(ctx)
		if err != nil {
			return err
		}
		if len(vips) == 0 || len(vips) < len(s.Spec.IPFamilies) {
			return fmt.Errorf("addresses %v for the families %v", vips, s.Spec.IPFamilies)
		}
		t.vips = vips
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.announced(ctx); err != nil {
		return err
	}
	if err := errors.Join(t.kubectl(ctx, "get", "service", "hello"), t.kubectl(ctx, "get", "ippools"), t.kubectl(ctx, "get", "vips")); err != nil {
		return err
	}
	t.note("EXTERNAL-IP", "%s", commas(t.vips))
	return nil
}

// announced waits until every VIP is announced on the LAN by one node and to the router by all.
func (t *tour) announced(ctx context.Context) error {
	return t.until(ctx, changeLimit, "every VIP to be announced on the LAN by one node, and to the router by all", func(ctx context.Context) error {
		var list struct {
			Items []struct {
				Spec   struct{ Address string }
				Status struct{ Owner, BGP string }
			}
		}
		if err := t.read(ctx, &list, "vips"); err != nil {
			return err
		}
		nodes := len(t.lab.Plan().Nodes())
		for _, vip := range list.Items {
			owners, routers := strings.FieldsFunc(vip.Status.Owner, isComma), strings.FieldsFunc(vip.Status.BGP, isComma)
			if len(owners) != 1 || len(routers) != nodes {
				return fmt.Errorf("%s is announced on the LAN by %v, and to the router by %v", vip.Spec.Address, owners, routers)
			}
		}
		return nil
	})
}

func isComma(r rune) bool { return r == ',' }

func fromLAN(ctx context.Context, t *tour) error {
	for _, vip := range t.vips {
		if err := t.answers(ctx, "client", vip); err != nil {
			return err
		}
		for range 3 {
			if _, err := t.on(ctx, "client", "curl", "-s", url(vip, "hostname")); err != nil {
				return err
			}
		}
		if _, err := t.on(ctx, "client", ipFor(vip, "neigh", "show", vip.String())...); err != nil {
			return err
		}
		node, err := t.neighbour(ctx, vip)
		if err != nil {
			return err
		}
		t.good("%s is %s, the node that announces %s", macOf(t, node), node, vip)
		if vip == t.vips[0] {
			t.owner = node
			t.note("reached from the LAN", "by ARP, on %s", node)
		}
	}
	return nil
}

func macOf(t *tour, node string) string { return t.lab.Plan().Host(node).Links[0].MAC }

func fromRemote(ctx context.Context, t *tour) error {
	for _, vip := range t.vips {
		if err := t.answers(ctx, "remote", vip); err != nil {
			return err
		}
	}
	if err := t.kubectl(ctx, "get", "bgppeers"); err != nil {
		return err
	}
	if _, err := t.on(ctx, "router", "birdc", "show", "route"); err != nil {
		return err
	}
	for _, vip := range t.vips {
		route, err := t.on(ctx, "router", ipFor(vip, "route", "show", vip.String())...)
		if err != nil {
			return err
		}
		hops := strings.Count(route, "via ")
		if nodes := len(t.lab.Plan().Nodes()); hops != nodes {
			return fmt.Errorf("expected a route to %s by way of all %d nodes; seen: %q", vip, nodes, route)
		}
		if _, err := t.on(ctx, "remote", "curl", "-s", url(vip, "hostname")); err != nil {
			return err
		}
	}
	t.note("reached from behind the router", "by BGP, over all %d nodes", len(t.lab.Plan().Nodes()))
	return nil
}

func ping(ctx context.Context, t *tour) error {
	for _, vip := range t.vips {
		for _, host := range []string{"client", "remote"} {
			if _, err := t.on(ctx, host, "ping", "-q", "-c3", "-i0.2", "-W1", vip.String()); err != nil {
				return err
			}
		}
	}
	t.note("ping", "answered to the LAN and to the remote host")
	return nil
}

// clientAddress shows what externalTrafficPolicy does.
func clientAddress(ctx context.Context, t *tour) error {
	vip := t.vips[0]
	hosts := []string{"client", "remote"}
	t.say("externalTrafficPolicy: Cluster, the default. Any node may hand the connection to a pod of another, and puts its own")
	t.say("address in place of the client's, so that the answers come back through it:")
	for _, host := range hosts {
		if _, err := t.on(ctx, host, "curl", "-s", url(vip, "clientip")); err != nil {
			return err
		}
	}
	t.say("externalTrafficPolicy: Local. A node hands connections to its own pods only, as they are:")
	if err := t.policy(ctx, corev1.ServiceExternalTrafficPolicyLocal); err != nil {
		return err
	}
	for _, host := range hosts {
		own := t.lab.Plan().Host(host).Addrs()[0]
		err := t.until(ctx, changeLimit, fmt.Sprintf("the pods to see %s as %s, ten times in a row", host, own), func(ctx context.Context) error {
			h, err := t.lab.Host(host)
			if err != nil {
				return err
			}
			for range 10 {
				out, err := h.Exec(ctx, "curl", "-s", "--max-time", "1", url(vip, "clientip"))
				if err != nil {
					return err
				}
				if seen, err := netip.ParseAddrPort(strings.TrimSpace(out.Stdout)); err != nil || seen.Addr() != own {
					return fmt.Errorf("they see %q", out.Stdout)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		seen, err := t.on(ctx, host, "curl", "-s", url(vip, "clientip"))
		if err != nil {
			return err
		}
		t.good("%s is %s itself", seen, host)
	}
	t.note("client address seen by pods", "with externalTrafficPolicy: Local, the client's own")
	return t.policy(ctx, corev1.ServiceExternalTrafficPolicyCluster)
}

func (t *tour) policy(ctx context.Context, p corev1.ServiceExternalTrafficPolicy) error {
	return t.kubectl(ctx, "patch", "service", "hello", "--patch", fmt.Sprintf(`{"spec": {"externalTrafficPolicy": %q}}`, p))
}

func heal(ctx context.Context, t *tour) error {
	t.command("", "bin/lab --name "+Name+" heal "+t.owner)
	if err := t.lab.Heal(ctx, t.owner); err != nil {
		return err
	}
	err := t.until(ctx, podLimit, "all nodes to be Ready and to have their BGP session", func(ctx context.Context) error {
		var peer struct {
			Status struct{ Established, Message string }
		}
		if err := t.read(ctx, &peer, "bgppeer", "router"); err != nil {
			return err
		}
		n := len(t.lab.Plan().Nodes())
		if established := fmt.Sprintf("%d/%d", n, n); peer.Status.Established != established {
			return fmt.Errorf("%s sessions established %s", peer.Status.Established, peer.Status.Message)
		}
		return t.nodesReady(ctx)
	})
	if err != nil {
		return err
	}
	if err := t.announced(ctx); err != nil {
		return err
	}
	if err := errors.Join(t.kubectl(ctx, "get", "nodes"), t.kubectl(ctx, "get", "vips"), t.kubectl(ctx, "get", "bgppeers")); err != nil {
		return err
	}
	for _, host := range []string{"client", "remote"} {
		if err := t.answers(ctx, host, t.vips[0]); err != nil {
			return err
		}
		if _, err := t.on(ctx, host, "curl", "-s", url(t.vips[0], "hostname")); err != nil {
			return err
		}
	}
	return nil
}

// nodesReady returns an error that names the nodes that are not Ready.
func (t *tour) nodesReady(ctx context.Context) error {
	var list corev1.NodeList
	if err := t.read(ctx, &list, "nodes"); err != nil {
		return err
	}
	var silent []string
	for _, node := range list.Items {
		if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			silent = append(silent, node.Name)
		}
	}
	if len(silent) > 0 {
		return fmt.Errorf("%s NotReady", strings.Join(silent, ", "))
	}
	return nil
}

func remove(ctx context.Context, t *tour) error {
	if err := t.kubectl(ctx, "delete", "service", "hello"); err != nil {
		return err
	}
	for _, vip := range t.vips {
		err := t.until(ctx, changeLimit, "the router to have no route to "+vip.String(), func(ctx context.Context) error {
			router, err := t.lab.Host("router")
			if err != nil {
				return err
			}
			out, err := router.Exec(ctx, ipFor(vip, "route", "show", vip.String())...)
			if err == nil && out.Stdout != "" {
				err = errors.New(strings.TrimSpace(out.Stdout))
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, host := range []string{"client", "remote"} {
			if err := t.failing(ctx, host, "curl", "-sS", "--max-time", "2", url(vip, "hostname")); err != nil {
				return err
			}
		}
		if _, err := t.on(ctx, "router", ipFor(vip, "route", "show", vip.String())...); err != nil {
			return err
		}
	}
	if err := t.kubectl(ctx, "get", "vips"); err != nil {
		return err
	}
	t.good("nothing answers, the route is gone, and the addresses can be given out again")
	t.note("deleted", "no answer, no route, no VIP")
	return nil
}

func commas(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
