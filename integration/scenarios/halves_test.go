package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
)

// halvesLab is the name of a lab of two nodes.
const halvesLab = "scntwo"

// Of two nodes neither has a majority without the other. When the owner loses its link the lock of the segment, a Lease,
// lets the other one take over; without an API server nobody gets the lock, and nobody answers.
func TestTwoNodes(t *testing.T) {
	needsSeamarkLB(t)
	l := ownLabUp(t, halvesLab, 2)
	ctx := contextOf(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []string{
		manifest(t, "pool.yaml", "$NAME", "halves", "$ADDRESSES", lab.VIPRange4),
		manifest(t, "web.yaml", "$NAME", "web", "$REPLICAS", "2"),
		manifest(t, "web-svc-pool.yaml", "$NAME", "web", "$POOL", "halves"),
	} {
		must(l.Apply(ctx, []byte(m)))
	}
	vip := netip.MustParseAddr(strings.SplitN(lab.VIPRange4, "-", 2)[0])
	h, err := l.Host("client")
	must(err)
	client := host{h, t}
	at := netip.AddrPortFrom(vip, 80)
	await(t, podLimit, "the client is answered", func(ctx context.Context) error {
		_, err := client.get(ctx, at, "hostname")
		return err
	})
	// owner waits until one node answers ARP, and not the one that must not.
	owner := func(what, not string) (node string) {
		t.Helper()
		await(t, changeLimit, what, func(ctx context.Context) error {
			nodes, err := answering(ctx, l.Lab, client, vip)
			if err == nil && (len(nodes) != 1 || nodes[0] == not) {
				err = fmt.Errorf("%v answer for %s; want one, and not %q", nodes, vip, not)
			}
			if err == nil {
				node = nodes[0]
			}
			return err
		})
		return node
	}
	was := owner("one node answers", "")
	observed := client.observe(vip)
	must(l.Cut(ctx, was))
	owner("the other node answers", was)
	must(l.Heal(ctx, was))
	now := owner("one node answers when both are there again", "")

	must(l.Freeze(ctx, "cp", "kube-apiserver"))
	must(l.Cut(ctx, now))
	nobody := func(ctx context.Context) error {
		if nodes, err := answering(ctx, l.Lab, client, vip); err == nil {
			return fmt.Errorf("%v answer", nodes)
		}
		return nil
	}
	await(t, changeLimit, "nobody answers", nobody)
	holds(t, 3*time.Second, "nobody answers", nobody)
	must(l.Heal(ctx, now))
	owner("one node answers when they hear each other, without an API server", "")
	observed.oneAtATime(0.2) // nobody answers for a while
	must(l.Thaw(ctx, "cp", "kube-apiserver"))
	await(t, podLimit, "the client is answered", func(ctx context.Context) error {
		_, err := client.get(ctx, at, "hostname")
		return err
	})
}
