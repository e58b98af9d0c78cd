package failover

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sampled is how many of many addresses a client asks for, of each family.
const sampled = 10

// cutMany cuts the owner's link where there are many addresses, of which the client asks for some.
func (w *world) cutMany(ctx context.Context) error {
	if err := w.addSubnet(ctx); err != nil {
		return err
	}
	n := w.options.Many
	w.log.printf("making %d Services", n)
	vips := make([][]netip.Addr, n)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range vips {
		g.Go(func() (err error) {
			vips[i], err = w.service(gctx, manyName(i), "many")
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for family, name := range []string{"IPv4", "IPv6"} {
		var some []netip.Addr
		for i := range sampled {
			some = append(some, vips[i*n/sampled][family])
		}
		for _, vip := range some {
			err := w.until(ctx, time.Minute, fmt.Sprintf("%s answers", vip), func(ctx context.Context) error { return w.answers(ctx, "client", vip) })
			if err != nil {
				return err
			}
		}
		err := w.inflict(ctx, fault{
			name: []string{"many4", "many6"}[family], title: fmt.Sprintf("owner's link cut, %d addresses, %s", n, name),
			host: "client", every: sampled * time.Millisecond, vips: some,
			victim: w.ownerOf(some[0]), do: w.cut, undo: w.heal,
			times: max(w.options.Repetitions/3, 1), atMost: worstBlackout, moves: thereAndBack,
		})
		if err != nil {
			return err
		}
	}
	return w.removeMany(ctx, n)
}

func manyName(i int) string { return fmt.Sprintf("many-%d", i) }

// removeMany removes the Services again: in what is measured after this their addresses would move, too.
func (w *world) removeMany(ctx context.Context, n int) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error {
			return w.kube.CoreV1().Services(namespace).Delete(gctx, manyName(i), metav1.DeleteOptions{})
		})
	}
	return g.Wait()
}

// addSubnet gives the nodes and the client addresses in an IPv4 subnet that has room for many.
func (w *world) addSubnet(ctx context.Context) error {
	for i, name := range []string{"node1", "node2", "node3", "client"} {
		host, err := w.lab.Host(name)
		if err != nil {
			return err
		}
		if _, err := host.Exec(ctx, "ip", "addr", "add", fmt.Sprintf("10.79.0.%d/16", 11+i), "dev", "eth0"); err != nil {
			return err
		}
	}
	return nil
}
