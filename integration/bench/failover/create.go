package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

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

// create makes Services one at a time, of one family, as is the default: in turn one with an address of the LAN, for which a client
// there asks, and one with an address to which only routes lead, for which a host behind the router asks. (The router resolves
// addresses of the LAN by ARP, before it has a route.) They ask from when the Service has the address; the time counts from before
// the call.
func (w *world) create(ctx context.Context) error {
	ways := []struct{ name, title, pool, host string }{
		{"create-arp", "by ARP", "bench", "client"},
		{"create-bgp", "by BGP", "beyond", "remote"},
	}
	times := map[string][]float64{}
	for i := range 3 * w.options.Repetitions {
		for _, way := range ways {
			if err := sleep(ctx, idle); err != nil {
				return err
			}
			took, err := w.createOne(ctx, fmt.Sprintf("%s-%d", way.name, i), way.pool, way.host)
			if err != nil {
				return err
			}
			for name, d := range map[string]time.Duration{way.name: took.answer, "create-call": took.call, "create-status": took.status} {
				w.sample(name, len(times[name]), ms(d), 0)
				times[name] = append(times[name], ms(d))
			}
		}
	}
	for _, way := range ways {
		title := fmt.Sprintf("create a Service → first answer %s, %d times, ", way.title, len(times[way.name]))
		w.figure(title+"p50", bench.Percentile(times[way.name], 50), "ms", 0)
		w.figure(title+"p99", bench.Percentile(times[way.name], 99), "ms", firstByteP99)
	}
	w.figure("create a Service → the call returned, p50", bench.Percentile(times["create-call"], 50), "ms", 0)
	w.figure("create a Service → address in status, p50", bench.Percentile(times["create-status"], 50), "ms", 0)
	return nil
}

// creation is how long it took from before the call that creates a Service to its end, to the address, and to the first answer.
type creation struct{ call, status, answer time.Duration }

func (w *world) createOne(ctx context.Context, name, pool, host string) (took creation, err error) {
	services := w.kube.CoreV1().Services(namespace)
	// From what the API server has at hand. Without a version it waits until that is as new as etcd's, and here it gave up
	// after some seconds ("Too large resource version").
	seen, err := services.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: "0"})
	if err != nil {
		return took, err
	}
	defer seen.Stop()
	svc, single := serviceOf(name, pool), corev1.IPFamilyPolicySingleStack
	svc.Spec.IPFamilyPolicy = &single
	start := time.Now()
	if _, err := services.Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return took, err
	}
	took.call = time.Since(start)
	vip, err := addressIn(ctx, seen)
	if err != nil {
		return took, err
	}
	took.status = time.Since(start)
	if took.answer, err = w.firstAnswer(ctx, host, vip, start); err != nil {
		return took, err
	}
	return took, services.Delete(ctx, name, metav1.DeleteOptions{})
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
