package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// Two controllers that both work, because nothing has them elect a leader, and a thousand Services at once: each address
// comes to one Service, and each Service to one address of each family, at no time two.
func TestTwoControllersAtOnce(t *testing.T) {
	needsSeamarkLB(t)
	const n = 1000
	ns := scenario(t)
	ns.alone()
	withoutControllers(t)
	a, b := newController(t, "a", false), newController(t, "b", false)
	for _, c := range []*ownController{a, b} {
		c.start()
		c.awaitWatching()
	}
	ns.pool("198.18.8.0/21", `"fd00:198:8::/116"`)
	for _, c := range []*ownController{a, b} {
		c.arm(fault{})
	}

	watching := ns.watchAddresses()
	start := time.Now()
	ns.createServices(n, func(i int) *corev1.Service {
		s := ns.balancer(fmt.Sprintf("s%04d", i))
		if i%4 == 0 {
			dualStack(s)
		}
		return s
	})
	await(t, 2*podLimit, "all have an address of each family", func(ctx context.Context) error { return ns.isConsistent(ctx) })
	t.Logf("%d Services in %s; VIPs made: %d by one controller, %d by the other; refused, because the other was faster: %d and %d",
		n, time.Since(start).Round(100*time.Millisecond), a.created(), b.created(), a.refused(), b.refused())
	if a.created() == 0 || b.created() == 0 || a.refused()+b.refused() == 0 {
		t.Error("the controllers did not work at the same time")
	}
	ns.deleteServices()
	watching.end()
}

// created returns how many VIPs the controller made.
func (c *ownController) created() (n int) {
	for _, w := range c.written() {
		if w.what == "POST vips" {
			n++
		}
	}
	return n - c.refused()
}

// refused returns how many VIPs the controller could not make, because somebody else had.
func (c *ownController) refused() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clashes
}

// addressWatch follows the Services of a namespace and the VIPs, each version of them.
type addressWatch struct {
	ns   *namespace
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	wrong []string
	// replaced counts addresses that another one took the place of, twice those that a second Service showed before the
	// first one ceased to, and longest is for how long one was. Both may be for a moment, while two controllers find out that
	// they have served the same Service: the VIP says whose an address is, and it is one Service's, at all times.
	replaced, twice int
	longest         time.Duration
}

// watchAddresses looks at every version of the namespace's Services and of all VIPs: no Service shows two addresses of a
// family, and no VIP names two Services.
func (ns *namespace) watchAddresses() *addressWatch {
	ns.t.Helper()
	ctx, stop := context.WithCancel(contextOf(ns.t))
	w := &addressWatch{ns: ns, stop: stop}
	services := cluster.client.CoreV1().Services(ns.name)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		ns.t.Fatal(err)
	}
	vipList, err := resource("vips").List(ctx, metav1.ListOptions{})
	if err != nil {
		ns.t.Fatal(err)
	}
	w.follow(ctx, "Services", list.ResourceVersion, services.Watch, w.services())
	w.follow(ctx, "VIPs", vipList.GetResourceVersion(), resource("vips").Watch, w.vip)
	return w
}

// follow calls see for each change since a version, until it is stopped. The API server ends a watch that does not keep up, so
// it goes on with another one, from the last change that it saw; if that cannot be, it has missed something.
func (w *addressWatch) follow(ctx context.Context, what, version string, watcher cache.WatchFuncWithContext, see func(watch.Event)) {
	w.ns.t.Helper()
	events, err := watchtools.NewRetryWatcherWithContext(ctx, version, &cache.ListWatch{WatchFuncWithContext: watcher})
	if err != nil {
		w.ns.t.Fatal(err)
	}
	w.done.Go(func() {
		for event := range events.ResultChan() {
			switch {
			case ctx.Err() != nil:
			case event.Type == watch.Error:
				w.note("the watch of %s broke: %v", what, apierrors.FromObject(event.Object))
			default:
				see(event)
			}
		}
		if ctx.Err() == nil {
			w.note("the watch of %s ended", what)
		}
	})
}

func (w *addressWatch) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// services returns what looks at an event about a Service.
func (w *addressWatch) services() func(watch.Event) {
	shows := map[string][]netip.Addr{}
	of := map[netip.Addr][]string{} // the Services that show an address
	since := map[netip.Addr]time.Time{}
	return func(event watch.Event) {
		s := event.Object.(*corev1.Service)
		was, now := shows[s.Name], vips(s)
		if event.Type == watch.Deleted {
			now = nil
		}
		if len(was) > 0 && len(now) > 0 && !slices.Equal(was, now) {
			w.replaced++
		}
		for _, addr := range was {
			of[addr] = slices.DeleteFunc(of[addr], func(name string) bool { return name == s.Name })
		}
		for _, addr := range now {
			of[addr] = append(of[addr], s.Name)
		}
		for _, addr := range slices.Concat(was, now) {
			start, twice := since[addr]
			switch {
			case len(of[addr]) > 1 && !twice:
				w.twice++
				since[addr] = time.Now()
			case len(of[addr]) < 2 && twice:
				w.longest = max(w.longest, time.Since(start))
				delete(since, addr)
			}
		}
		if families := familiesOf(now); families == "IPv4,IPv4" || families == "IPv6,IPv6" || len(now) > 2 {
			w.note("%s shows %v", s.Name, now)
		}
		shows[s.Name] = now
	}
}

// vip looks at an event about a VIP.
func (w *addressWatch) vip(event watch.Event) {
	users, _, err := unstructured.NestedSlice(event.Object.(*unstructured.Unstructured).Object, "spec", "services")
	if err != nil || len(users) > 1 {
		w.note("VIP %s names %v (%v)", event.Object.(*unstructured.Unstructured).GetName(), users, err)
	}
}

// end stops looking, and fails the test if it saw something. Nothing is shown any more by then, so each address that two
// Services showed was shown by one of them for some time only.
func (w *addressWatch) end() {
	w.ns.t.Helper()
	w.stop()
	w.done.Wait()
	for _, what := range w.wrong {
		w.ns.t.Error(what)
	}
	w.ns.t.Logf("while the controllers worked at once, %d times an address was replaced in a status, and %d times shown by two, for %s at most",
		w.replaced, w.twice, w.longest.Round(time.Millisecond))
	if w.longest > servedLimit {
		w.ns.t.Errorf("two Services showed one address for %s", w.longest)
	}
}

// apiGone is how long the API server is gone: long enough for the controller that leads to have given up.
const apiGone = 60 * time.Second

// The API server goes while addresses are given out, and comes back a minute later. What is served goes on being served; then
// every Service gets its address, and none loses one.
func TestAPIServerGone(t *testing.T) {
	needsSeamarkLB(t)
	const n = 200
	ns := scenario(t)
	ns.alone()
	ns.pool("198.18.16.0/24")
	_, web := ns.loadBalancer(2)
	client := on(t, "client")
	at := vipPort(web, vips(web)[0], "http")
	client.hears(at, "hostname")
	traffic := startTraffic(t, client, at)

	halfWay := func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, []string{ns.name}, nil)
		if err == nil && len(a.vips) < n/4 {
			err = fmt.Errorf("there are %d VIPs", len(a.vips))
		}
		return err
	}
	creation := make(chan error, 1)
	go func() { creation <- ns.createInSpiteOfAll(n) }()
	await(t, changeLimit, "some have an address", halfWay)
	gone := time.Now()
	if err := cluster.Kill(contextOf(t), "cp", "kube-apiserver"); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) { _ = cluster.StartNode(ctx, "cp") })
	pause(t, apiGone)
	if err := traffic.end(); err != nil {
		t.Errorf("traffic while the API server was gone: %v", err)
	}
	// Elsewhere these two lead by a Lease, which they would have lost. Going on, this one would follow the nodes' Leases again only
	// after up to a minute, and call all nodes silent until then.
	for _, follower := range []string{"kube-controller-manager", "kube-scheduler"} {
		if err := cluster.Kill(contextOf(t), "cp", follower); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.StartNode(contextOf(t), "cp"); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	before, err := addressesOf(contextOf(t), cluster.client, []string{ns.name}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-creation; err != nil {
		t.Fatal(err)
	}
	// client-go's informers would be back after up to a minute. A controller that has begun anew meanwhile waits for the Lease of
	// the one before, 15 s.
	await(t, podLimit, "all have their address", func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, []string{ns.name}, []string{ns.name})
		if err != nil {
			return err
		}
		return errors.Join(want("the number of Services", len(a.services), n+1), a.consistent())
	})
	shown := 0
	for _, s := range before.services {
		if had := vips(&s); len(had) > 0 {
			shown++
			if now := vips(ns.service(s.Name)); !slices.Equal(now, had) {
				t.Errorf("%s had %v, and now has %v", s.Name, had, now)
			}
		}
	}
	t.Logf("the API server was gone for %s; %d of %d Services and %d VIPs were there; all were served %s after it was back",
		back.Sub(gone).Round(time.Second), shown, n, len(before.vips), time.Since(back).Round(100*time.Millisecond))
	if shown == 0 || shown == n {
		t.Error("it did not go in the middle")
	}
	awaitHealthy(t)
	awaitController(t, leadership{renewed: back})
	client.hears(at, "hostname")
	ns.deleteServices()
}

// createInSpiteOfAll creates n Services for the namespace's pool, and goes on trying while there is no API server.
func (ns *namespace) createInSpiteOfAll(n int) error {
	for i := range n {
		err := poll(contextOf(ns.t), apiGone+podLimit, func(ctx context.Context) error {
			_, err := cluster.client.CoreV1().Services(ns.name).Create(ctx, ns.balancer(fmt.Sprintf("s%04d", i)), metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				err = nil // it was made, and the answer was lost
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
