package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/seamark-io/seamark/integration/bench"
)

// firstByteP99 is the target for the time from the creation of a Service to its first answer, in milliseconds.
const firstByteP99 = 150

// idle is how long nothing is made before each Service: what the end of the one before sets off is over then.
const idle = time.Second

// create makes Services one at a time, of one family, as is the default. A client on the LAN and one behind the router ask for
// the address from when the Service has it; the time counts from before the call.
func (w *world) create(ctx context.Context) error {
	times := map[string][]float64{}
	for i := range 3 * w.options.Repetitions {
		if err := sleep(ctx, idle); err != nil {
			return err
		}
		if err := w.createOne(ctx, fmt.Sprintf("new-%d", i), times); err != nil {
			return err
		}
	}
	for _, t := range []struct{ host, title string }{{"client", "by ARP"}, {"remote", "by BGP"}} {
		w.figure("create a Service → first answer "+t.title+", p50", bench.Percentile(times[t.host], 50), "ms", 0)
		w.figure("create a Service → first answer "+t.title+", p99", bench.Percentile(times[t.host], 99), "ms", firstByteP99)
	}
	w.figure("create a Service → the call returned, p50", bench.Percentile(times["call"], 50), "ms", 0)
	w.figure("create a Service → address in status, p50", bench.Percentile(times["status"], 50), "ms", 0)
	return nil
}

func (w *world) createOne(ctx context.Context, name string, times map[string][]float64) error {
	services := w.kube.CoreV1().Services(namespace)
	// From what the API server has at hand. Without a version it waits until that is as new as etcd's, and here it gave up
	// after some seconds ("Too large resource version").
	seen, err := services.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: "0"})
	if err != nil {
		return err
	}
	defer seen.Stop()
	svc, single := serviceOf(name, "bench"), corev1.IPFamilyPolicySingleStack
	svc.Spec.IPFamilyPolicy = &single
	start := time.Now()
	if _, err := services.Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	times["call"] = append(times["call"], ms(time.Since(start)))
	vip, err := addressIn(ctx, seen)
	if err != nil {
		return err
	}
	times["status"] = append(times["status"], ms(time.Since(start)))
	took := map[string]*time.Duration{"client": new(time.Duration), "remote": new(time.Duration)}
	g, gctx := errgroup.WithContext(ctx)
	for host, d := range took {
		g.Go(func() (err error) {
			*d, err = w.firstAnswer(gctx, host, vip, start)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for host, d := range took {
		times[host] = append(times[host], ms(*d))
	}
	return services.Delete(ctx, name, metav1.DeleteOptions{})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// addressIn waits until a Service is seen to have an IPv4 address.
func addressIn(ctx context.Context, seen watch.Interface) (netip.Addr, error) {
	for {
		select {
		case <-ctx.Done():
			return netip.Addr{}, context.Cause(ctx)
		case e, ok := <-seen.ResultChan():
			if !ok {
				return netip.Addr{}, errors.New("the watch of a Service ended")
			}
			if e.Type == watch.Error {
				return netip.Addr{}, fmt.Errorf("watch a Service: %w", apierrors.FromObject(e.Object))
			}
			if a, ok := ipv4Of(e.Object); ok {
				return a, nil
			}
		}
	}
}

// firstAnswer returns how long after start the first answer came.
func (w *world) firstAnswer(ctx context.Context, host string, vip netip.Addr, start time.Time) (time.Duration, error) {
	f, err := w.stream(host, vip, 2*time.Millisecond).Start(ctx)
	if err != nil {
		return 0, err
	}
	defer f.End()
	for {
		if at, ok := f.First(); ok {
			return at.Sub(start), nil
		}
		if time.Since(start) > time.Minute {
			return 0, fmt.Errorf("%s does not answer %s", vip, host)
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
