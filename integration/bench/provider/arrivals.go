package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// arrivals follows one watch and remembers when each Service was first seen with an address.
type arrivals struct {
	watch watch.Interface
	done  chan struct{} // closed when the watch has ended

	mu     sync.Mutex
	first  map[string]arrival
	wanted int
	all    chan struct{} // closed when as many as wanted have come
	err    error
}

type arrival struct {
	at   time.Time
	addr netip.Addr
}

// arrivals starts a watch; it must be stopped.
func (c *cluster) arrivals(ctx context.Context, wanted int) (*arrivals, error) {
	w, err := c.watchServices(ctx)
	if err != nil {
		return nil, err
	}
	return follow(w, wanted), nil
}

// watchServices watches the benchmark's Services from now on, also when the API server ends a watch; it must be stopped.
func (c *cluster) watchServices(ctx context.Context) (watch.Interface, error) {
	services := c.kube.CoreV1().Services(namespace)
	list, err := services.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: services.Watch})
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	return w, nil
}

// watchVIPs is watchServices for VIPs.
func (c *cluster) watchVIPs(ctx context.Context) (watch.Interface, error) {
	vips := c.dynamic.Resource(vips())
	list, err := vips.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("list VIPs: %w", err)
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{WatchFuncWithContext: vips.Watch})
	if err != nil {
		return nil, fmt.Errorf("watch VIPs: %w", err)
	}
	return w, nil
}

// follow starts to follow a watch.
func follow(w watch.Interface, wanted int) *arrivals {
	a := &arrivals{watch: w, done: make(chan struct{}), first: make(map[string]arrival), wanted: wanted, all: make(chan struct{})}
	go a.follow()
	return a
}

func (a *arrivals) follow() {
	defer close(a.done)
	for event := range a.watch.ResultChan() {
		at := time.Now()
		if event.Type == watch.Error {
			a.fail(watchEnded("Services", event))
			return
		}
		svc, ok := event.Object.(*corev1.Service)
		if !ok || event.Type != watch.Modified || len(svc.Status.LoadBalancer.Ingress) == 0 {
			continue
		}
		addr, err := addressOf(svc)
		if err != nil {
			a.fail(err)
			return
		}
		a.add(svc.Name, arrival{at, addr})
	}
}

// addressOf returns the one address of a Service.
func addressOf(svc *corev1.Service) (netip.Addr, error) {
	ingress := svc.Status.LoadBalancer.Ingress
	if len(ingress) != 1 {
		return netip.Addr{}, fmt.Errorf("the Service %s has %d addresses: %v", svc.Name, len(ingress), ingress)
	}
	addr, err := netip.ParseAddr(ingress[0].IP)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the Service %s: %w", svc.Name, err)
	}
	if !pool().Contains(addr) {
		return netip.Addr{}, fmt.Errorf("the Service %s has the address %s, which is not of the pool %s", svc.Name, addr, pool())
	}
	return addr, nil
}

func (a *arrivals) add(name string, now arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if was, ok := a.first[name]; ok {
		if was.addr != now.addr && a.err == nil {
			a.err = fmt.Errorf("the Service %s had the address %s and now has %s", name, was.addr, now.addr)
		}
		return
	}
	a.first[name] = now
	if len(a.first) == a.wanted {
		close(a.all)
	}
}

func (a *arrivals) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = errors.Join(a.err, err)
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.first)
}

// await waits until as many Services as wanted have an address.
func (a *arrivals) await(ctx context.Context) error {
	select {
	case <-a.all:
		return nil
	case <-a.done:
		return errors.New("the watch of Services ended")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends the watch and returns what it saw.
func (a *arrivals) stop() (map[string]arrival, error) {
	a.watch.Stop()
	<-a.done
	return a.first, a.err
}

// distinct reports the first two Services that have the same address.
func distinct(seen map[string]arrival) error {
	owner := make(map[netip.Addr]string, len(seen))
	for name, a := range seen {
		if other, taken := owner[a.addr]; taken {
			return fmt.Errorf("the Services %s and %s both have the address %s", other, name, a.addr)
		}
		owner[a.addr] = name
	}
	return nil
}
