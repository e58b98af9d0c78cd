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
	limit time.Duration // far beyond what it takes
	show  func(ctx context.Context, t *tour) error
}

func steps() []step {
	return []step{
		{"A cluster, and Seamark in it", buildLimit, cluster},
		{"Addresses to give out, a router to tell, three replicas, and a Service of type LoadBalancer", 2 * time.Minute, apply},
		{"The Service has an EXTERNAL-IP", 2 * time.Minute, externalIP},
		{"From the LAN: the client finds the address by ARP", 2 * time.Minute, fromLAN},
		{"From behind the router: it has learned the address by BGP", 2 * time.Minute, fromRemote},
		{"The address answers pings", time.Minute, ping},
		{"Which client the pods see", 3 * time.Minute, clientAddress},
		{"The node that announces the address loses its link", 4 * time.Minute, cut},
		{"Its link is back", 6 * time.Minute, heal},
		{"The Service is deleted", 4 * time.Minute, remove},
	}
}

// run shows a step within its limit.
func (s step) run(ctx context.Context, t *tour) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("gave up after %s", s.limit))
	defer cancel()
	err := s.show(ctx, t)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) { // "signal: killed", as a rule
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

const (
	// buildLimit is for the cluster, whose parts may have to be downloaded and compiled.
	buildLimit  = time.Hour
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
		vips, err := t.vipObjects(ctx)
		if err != nil {
			return err
		}
		for _, vip := range vips {
			if len(vip.owners) != 1 || len(vip.bgp) != len(t.lab.Plan().Nodes()) {
				return fmt.Errorf("%s is announced on the LAN by %v, and to the router by %v", vip.address, vip.owners, vip.bgp)
			}
		}
		return nil
	})
}

// found waits until the client knows a VIP by the node that says it announces it on the LAN, and returns that node.
func (t *tour) found(ctx context.Context, address netip.Addr) (node string, err error) {
	err = t.until(ctx, changeLimit, fmt.Sprintf("the client to find %s on the node that announces it", address), func(ctx context.Context) error {
		if node, err = t.neighbour(ctx, address); err != nil {
			return err
		}
		vips, err := t.vipObjects(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(vips, func(v vip) bool { return v.address == address.String() })
		if i < 0 || !slices.Equal(vips[i].owners, []string{node}) {
			return fmt.Errorf("it finds it on %s; the VIPs are %v", node, vips)
		}
		return nil
	})
	return node, err
}

func fromLAN(ctx context.Context, t *tour) error {
	for _, vip := range t.vips {
		if err := t.answers(ctx, "client", vip); err != nil {
			return err
		}
		for range 3 {
			if _, err := t.on(ctx, "client", curl(vip, "hostname")...); err != nil {
				return err
			}
		}
		if _, err := t.on(ctx, "client", ipFor(vip, "neigh", "show", vip.String())...); err != nil {
			return err
		}
		node, err := t.found(ctx, vip)
		if err != nil {
			return err
		}
		t.good("%s is %s, the node that announces %s", macOf(t, node), node, vip)
		if vip == t.vips[0] {
			t.note("reached from the LAN", "by ARP, on %s", node)
		}
	}
	return nil
}

func macOf(t *tour, node string) string { return t.lab.Plan().Host(node).Links[0].MAC }

func fromRemote(ctx context.Context, t *tour) error {
	nodes := len(t.lab.Plan().Nodes())
	for _, vip := range t.vips {
		if err := t.answers(ctx, "remote", vip); err != nil {
			return err
		}
		err := t.until(ctx, changeLimit, fmt.Sprintf("the router to have a route to %s by way of all %d nodes", vip, nodes), func(ctx context.Context) error {
			route, err := t.route(ctx, vip)
			if err == nil && strings.Count(route, "via ") != nodes {
				err = fmt.Errorf("%q", route)
			}
			return err
		})
		if err != nil {
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
		if _, err := t.on(ctx, "router", ipFor(vip, "route", "show", vip.String())...); err != nil {
			return err
		}
		if _, err := t.on(ctx, "remote", curl(vip, "hostname")...); err != nil {
			return err
		}
	}
	t.note("reached from behind the router", "by BGP, over all %d nodes", nodes)
	return nil
}

// route returns what the router's kernel knows of the way to a VIP.
func (t *tour) route(ctx context.Context, vip netip.Addr) (string, error) {
	router, err := t.lab.Host("router")
	if err != nil {
		return "", err
	}
	out, err := router.Exec(ctx, ipFor(vip, "route", "show", vip.String())...)
	return strings.TrimSpace(out.Stdout), err
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
		if err := t.seesNode(ctx, host, vip); err != nil {
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
				out, err := h.Exec(ctx, curl(vip, "clientip")...)
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
		seen, err := t.on(ctx, host, curl(vip, "clientip")...)
		if err != nil {
			return err
		}
		t.good("%s is %s itself", seen, host)
	}
	t.note("client address seen by pods", "with externalTrafficPolicy: Cluster a node's, with Local the client's own")
	return t.policy(ctx, corev1.ServiceExternalTrafficPolicyCluster)
}

// seesNode shows which address the pods see when a host asks, and checks that it is a node's.
func (t *tour) seesNode(ctx context.Context, host string, vip netip.Addr) error {
	nodes, err := t.nodeAddresses(ctx)
	if err != nil {
		return err
	}
	out, err := t.on(ctx, host, curl(vip, "clientip")...)
	if err != nil {
		return err
	}
	seen, err := netip.ParseAddrPort(out)
	if err != nil || nodes[seen.Addr()] == "" {
		return fmt.Errorf("expected the pods to see an address of a node; seen: %q", out)
	}
	t.good("%s is an address of %s", seen.Addr(), nodes[seen.Addr()])
	return nil
}

func (t *tour) policy(ctx context.Context, p corev1.ServiceExternalTrafficPolicy) error {
	return t.kubectl(ctx, "patch", "service", "hello", "--patch", fmt.Sprintf(`{"spec": {"externalTrafficPolicy": %q}}`, p))
}

func heal(ctx context.Context, t *tour) error {
	t.command("", "bin/lab --name "+Name+" heal "+t.owner)
	if err := t.lab.Heal(ctx, t.owner); err != nil {
		return err
	}
	// A kubelet may take more than a minute to find its API server again.
	err := t.until(ctx, 3*podLimit, "all nodes to be Ready and to have their BGP session", func(ctx context.Context) error {
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
		if _, err := t.on(ctx, host, curl(t.vips[0], "hostname")...); err != nil {
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
	if err := t.kubectl(ctx, "delete", "service", "hello", "--timeout="+podLimit.String()); err != nil {
		return err
	}
	if err := t.givenBack(ctx); err != nil {
		return err
	}
	for _, vip := range t.vips {
		err := t.until(ctx, changeLimit, "the router to have no route to "+vip.String(), func(ctx context.Context) error {
			route, err := t.route(ctx, vip)
			if err == nil && route != "" {
				err = errors.New(route)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, host := range []string{"client", "remote"} {
			if err := t.silent(ctx, host, vip); err != nil {
				return err
			}
			if err := t.failing(ctx, host, curl(vip, "hostname")...); err != nil {
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

// givenBack waits until no VIP has an address of the Service any more.
func (t *tour) givenBack(ctx context.Context) error {
	return t.until(ctx, changeLimit, "no VIP with an address of the Service", func(ctx context.Context) error {
		vips, err := t.vipObjects(ctx)
		if err != nil {
			return err
		}
		for _, v := range vips {
			if slices.ContainsFunc(t.vips, func(a netip.Addr) bool { return a.String() == v.address }) {
				return fmt.Errorf("there is %s", v.address)
			}
		}
		return nil
	})
}

func commas(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
