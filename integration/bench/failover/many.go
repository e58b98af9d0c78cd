package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
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
			victim: func(ctx context.Context) (string, error) {
				if err := w.settled(ctx); err != nil {
					return "", err
				}
				return w.owner(ctx, some[0])
			},
			do: w.cut, undo: w.heal,
			times: max(w.options.Repetitions/3, 1), atMost: worstBlackout, moves: thereAndBack,
		})
		if err != nil {
			return err
		}
	}
	return w.removeMany(ctx, n)
}

// settled waits until nothing has been written about VIPs for two seconds. Of many that have moved the agents tell for some time who
// announces them: a fault amid that, here where the API server has no processors of its own, would not be one of an idle cluster.
func (w *world) settled(ctx context.Context) error {
	config, err := w.lab.RESTConfig()
	if err != nil {
		return err
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("waited two minutes until nothing was written about VIPs"))
	defer cancel()
	vips := client.Resource(schema.GroupVersionResource{Group: "seamark.io", Version: "v1alpha1", Resource: "vips"})
	list, err := vips.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("list VIPs: %w", err)
	}
	written, err := vips.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return fmt.Errorf("watch VIPs: %w", err)
	}
	defer written.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, open := <-written.ResultChan():
			if !open || e.Type == watch.Error {
				return fmt.Errorf("the watch of VIPs ended: %w", apierrors.FromObject(e.Object))
			}
		case <-time.After(2 * time.Second):
			return nil
		}
	}
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
