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

	"github.com/seamark-io/seamark/integration/lab"
)

// answering returns the nodes of a lab that answer ARP requests for an address, one a second, that a host sends.
func answering(ctx context.Context, l *lab.Lab, from host, a netip.Addr) ([]string, error) {
	out, err := from.Exec(ctx, "arping", "-c", "2", "-i", "eth0", a.String()) // its status says whether there was an answer
	var found []string
	for _, node := range l.Plan().Nodes() {
		if strings.Contains(out.Stdout, node.Links[0].MAC) {
			found = append(found, node.Name)
		}
	}
	if len(found) == 0 {
		return nil, errors.Join(fmt.Errorf("nobody answers for %s", a), err)
	}
	return found, nil
}

// answersAlone checks that one node answers for the address, and not the one that must not.
func (h host) answersAlone(ctx context.Context, a netip.Addr, not string) error {
	nodes, err := answering(ctx, cluster.Lab, h, a)
	switch {
	case err != nil:
		return err
	case len(nodes) != 1 || nodes[0] == not:
		return fmt.Errorf("%v answer for %s; want one, and not %q", nodes, a, not)
	}
	return nil
}

// The nodes of a segment decide among themselves who has an address: while the API server hangs, the owner loses its link, and
// another node answers.
func TestOwnerLosesLinkWithoutAPIServer(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	client, vip := on(t, "client"), vips(svc)[0]
	at := vipPort(svc, vip, "http")
	client.hears(at, "hostname")
	was := owner(t, vip)
	observed := client.observe(vips(svc)...)
	freeze(t, on(t, "cp"), "kube-apiserver")
	if err := cluster.Cut(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) { _ = cluster.Heal(ctx, was) })
	await(t, changeLimit, "another node answers", func(ctx context.Context) error { return client.answersAlone(ctx, vip, was) })
	client.hears(at, "hostname")
	if err := cluster.Heal(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	await(t, changeLimit, "one node answers when the link is back", func(ctx context.Context) error { return client.answersAlone(ctx, vip, "") })
	thaw(t, on(t, "cp"), "kube-apiserver")
	awaitHealthy(t)
	neighbourIsOwner(t, client, vip)
	observed.oneAtATime(mostly)
}

// The owner is cut off from the other nodes, and from nobody else: it falls silent, although clients reach it, since another
// node answers.
func TestOwnerCutOffFromNodes(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	client, vip := on(t, "client"), vips(svc)[0]
	at := vipPort(svc, vip, "http")
	client.hears(at, "hostname")
	was := owner(t, vip)
	observed := client.observe(vips(svc)...)
	others := slices.DeleteFunc(allNodes(), func(n string) bool { return n == was })
	heal := func(ctx context.Context) (err error) {
		for _, other := range others {
			err = errors.Join(err, cluster.HealBetween(ctx, was, other))
		}
		return err
	}
	putBack(t, func(ctx context.Context) { _ = heal(ctx) })
	for _, other := range others {
		if err := cluster.CutBetween(contextOf(t), was, other); err != nil {
			t.Fatal(err)
		}
	}
	await(t, changeLimit, "another node answers", func(ctx context.Context) error { return client.answersAlone(ctx, vip, was) })
	holds(t, 5*time.Second, "it alone answers", func(ctx context.Context) error { return client.answersAlone(ctx, vip, was) })
	if err := heal(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t)
	holds(t, 3*time.Second, "one node answers", func(ctx context.Context) error { return client.answersAlone(ctx, vip, "") })
	neighbourIsOwner(t, client, vip)
	// It moved once, and when all hear each other again it may move back.
	for addr, a := range observed.oneAtATime(mostly) {
		if a.Changes() > 2 {
			t.Errorf("of %d answers for %s %d were of another node than the one before", len(a.Answers), addr, a.Changes())
		}
	}
}
