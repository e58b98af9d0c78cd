package provider

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// Name is the cloud provider's name, the value of --cloud-provider.
const Name = "seamark"

// FieldManager is the name under which the controller writes.
const FieldManager = "seamark-controller"

const (
	// settle is how long the status of a pool or a VIP waits for more changes, so that a burst of them is one write.
	settle = 300 * time.Millisecond
	// settlePool is that of a pool: its counts change with each allocation.
	settlePool = time.Second
	// sweepPeriod is how often everything is looked at again, whatever the watches said.
	sweepPeriod = 30 * time.Second
	// sweepSoon is how long after the VIPs were listed anew everything is looked at, twice: what was written just before the API
	// server was gone, or etcd set back, may not be there, and no watch says so. Between the two a watch that is only late must have
	// shown what is there: a claim that both miss is forgotten.
	sweepSoon = 5 * time.Second
	// patience is after how long it is told what the start still waits for.
	patience = 20 * time.Second
)

// Config of a Provider.
type Config struct {
	Kube    kubernetes.Interface
	Seamark *client.Client
	// Events about Services; those that the stock controller makes are its own.
	Events record.EventRecorder
	Log    *slog.Logger
	// Class is the spec.loadBalancerClass of Services that are served beside those that name none; OnlyClass: and no others.
	Class     string
	OnlyClass bool
	// Sole is true when no other controller works at the same time, because they elect a leader: then a VIP and the status
	// that shows it are written at the same time, and not one after the other.
	Sole bool
}

// Provider is the cloud provider. Use: New, SetInformers, then Watch, from the start, also while another replica leads; then
// Run, once this one leads. The balancer waits until Run has read everything.
type Provider struct {
	Config

	alloc   *allocator
	waiting waiting
	serving sync.Mutex // held while those that wait are served
	wake    wake
	told    told
	left    leftovers
	cleared names
	metrics metrics

	services   corelisters.ServiceLister
	namespaces corelisters.NamespaceLister
	nodes      corelisters.NodeLister
	synced     []synced

	pools, vips, peers cache.SharedIndexInformer
	// serviceCIDRs is never started where the API server has no such kind; noServiceCIDRs says so.
	serviceCIDRs   cache.SharedIndexInformer
	noServiceCIDRs atomic.Bool

	// again are Services to wake the stock controller for; retries says when, after writes that failed.
	poolStatus, views, conditions, garbage, again *queue
	retries                                       workqueue.TypedRateLimiter[string]
	ensured                                       ensuredEvents

	// verdicts on all pools, by name.
	verdicts atomic.Pointer[map[string]ipam.Verdict]
	// wrong are the Services whose status the last sweep found wrong. Only the loop uses it.
	wrong map[cluster.Name]struct{}

	opened       chan struct{} // there was an opening for Services that wait
	poolsChanged chan struct{}
	relabeled    chan struct{} // a namespace has other labels
	listed       chan struct{} // all VIPs were listed
	ready        chan struct{} // closed when everything has been read once
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.InformerUser = (*Provider)(nil)
	_ cloudprovider.LoadBalancer = (*Provider)(nil)
	_ prometheus.Collector       = (*Provider)(nil)
)

// synced says whether all objects of a kind have been told once.
type synced struct {
	kind string
	is   cache.InformerSynced
}

// New makes a Provider. It does nothing before Watch.
func New(c Config) (*Provider, error) {
	p := &Provider{
		Config:       c,
		opened:       make(chan struct{}, 1),
		poolsChanged: make(chan struct{}, 1),
		relabeled:    make(chan struct{}, 1),
		listed:       make(chan struct{}, 1),
		ready:        make(chan struct{}),
	}
	p.metrics = newMetrics()
	p.alloc = newAllocator(c.Seamark.VIPs, hooks{clashed: p.metrics.clashed, opened: func() { notify(p.opened) }, queued: p.waiting.any})
	p.waiting.since = map[cluster.Name]waiter{}
	p.left.of = map[cluster.Name]left{}
	p.told.outcomes, p.told.given, p.told.failed = map[cluster.Name]outcome{}, map[cluster.Name]string{}, map[cluster.Name]string{}
	p.cleared.set = map[cluster.Name]struct{}{}
	p.retries = workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryWrite, retryWriteLongest)
	p.ensured = newEnsured()
	p.poolStatus = newQueue("pools", c.Log, p.syncPool)
	p.views = newQueue("views", c.Log, p.syncView)
	p.conditions = newQueue("conditions", c.Log, p.syncCondition)
	p.garbage = newQueue("garbage", c.Log, p.syncGarbage)
	p.again = newQueue("again", c.Log, func(_ context.Context, key string) error {
		p.wakeService(nameOfKey(key))
		return nil
	})

	p.pools = informer(c.Seamark.IPPools, &v1alpha1.IPPool{}, func() {})
	p.vips = informer(c.Seamark.VIPs, &v1alpha1.VIP{}, func() { notify(p.listed) })
	p.peers = informer(c.Seamark.BGPPeers, &v1alpha1.BGPPeer{}, func() {})
	p.serviceCIDRs = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.Kube.NetworkingV1().ServiceCIDRs().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Kube.NetworkingV1().ServiceCIDRs().Watch(ctx, o)
		},
	}, c.Kube), &networkingv1.ServiceCIDR{}, 0, nil)
	return p, p.register()
}

// register registers what follows from a change of each of our own kinds.
func (p *Provider) register() error {
	err := on(&p.synced, p.pools, handlers[*v1alpha1.IPPool]{
		changed: func(old, pool *v1alpha1.IPPool) {
			if old == nil || old.Generation != pool.Generation || !slices.Equal(old.Status.NodeAddresses, pool.Status.NodeAddresses) {
				notify(p.poolsChanged)
			}
			if lacksPoolFinalizer(pool) && (old == nil || old.UID != pool.UID) {
				p.poolStatus.Add(pool.Name) // it gives out addresses from now on: until it has the finalizer, it can go with them
			} else {
				p.poolStatus.AddAfter(pool.Name, settlePool) // also one that somebody takes the finalizer off, again and again
			}
		},
		deleted: func(*v1alpha1.IPPool) { notify(p.poolsChanged) },
	})
	if err != nil {
		return err
	}
	var cidrs []synced
	err = on(&cidrs, p.serviceCIDRs, handlers[*networkingv1.ServiceCIDR]{
		changed: func(_, _ *networkingv1.ServiceCIDR) { notify(p.poolsChanged) },
		deleted: func(*networkingv1.ServiceCIDR) { notify(p.poolsChanged) },
	})
	if err != nil {
		return err
	}
	p.synced = append(p.synced, synced{cidrs[0].kind, func() bool { return p.noServiceCIDRs.Load() || cidrs[0].is() }})
	if err := on(&p.synced, p.vips, handlers[*v1alpha1.VIP]{changed: p.vipChanged, deleted: p.vipDeleted}); err != nil {
		return err
	}
	return on(&p.synced, p.peers, handlers[*v1alpha1.BGPPeer]{
		changed: func(_, peer *v1alpha1.BGPPeer) { p.views.AddAfter(viewOfPeer+peer.Name, settle) },
		deleted: func(*v1alpha1.BGPPeer) {},
	})
}

// vipChanged keeps the allocator's knowledge, also while another replica leads. What follows from it is the leader's.
func (p *Provider) vipChanged(old, vip *v1alpha1.VIP) {
	again := p.alloc.vipSeen(vip)
	if !p.isReady() {
		return
	}
	for _, s := range again {
		p.wakeService(s)
	}
	if old == nil || old.Generation != vip.Generation {
		p.poolStatus.AddAfter(p.alloc.poolOf(vip), settlePool)
		if !p.allExist(vip) {
			p.garbage.AddAfter(vip.Name, settle)
		}
	}
	if !equality.Semantic.DeepEqual(vip.Status, v1alpha1.VIPStatus{}) {
		p.views.AddAfter(viewOfVIP+vip.Name, settle)
	}
}

func (p *Provider) vipDeleted(vip *v1alpha1.VIP) {
	if !p.isReady() {
		p.alloc.vipGone(vip, func(cluster.Name) bool { return false }) // it was the leader's doing, or is the leader's to mend
		return
	}
	restored := p.alloc.vipGone(vip, p.stillServed)
	if len(restored) > 0 {
		p.Log.Info("restoring a VIP that was deleted while in use", "vip", vip.Name, "services", short(stringsOf(restored)))
	}
	for _, s := range restored {
		p.wakeService(s)
	}
	p.poolStatus.AddAfter(p.alloc.poolOf(vip), settlePool)
}

// SetInformers takes what the provider needs to know of Kubernetes' own kinds. The first call counts; it comes before the
// informers start.
func (p *Provider) SetInformers(f informers.SharedInformerFactory) {
	if p.services != nil {
		return
	}
	core := f.Core().V1()
	p.services, p.namespaces, p.nodes = core.Services().Lister(), core.Namespaces().Lister(), core.Nodes().Lister()

	err := on(&p.synced, core.Services().Informer(), handlers[*corev1.Service]{changed: p.serviceChanged, deleted: p.serviceDeleted})
	if err == nil {
		err = on(&p.synced, core.Namespaces().Informer(), handlers[*corev1.Namespace]{
			changed: p.namespaceChanged,
			deleted: func(*corev1.Namespace) {},
		})
	}
	if err == nil {
		err = on(&p.synced, core.Nodes().Informer(), handlers[*corev1.Node]{
			changed: func(old, node *corev1.Node) {
				if old == nil || !slices.Equal(old.Spec.PodCIDRs, node.Spec.PodCIDRs) || !slices.Equal(old.Status.Addresses, node.Status.Addresses) {
					notify(p.poolsChanged)
				}
				if old != nil && isReady(old) != isReady(node) {
					p.viewsOfNode(node.Name)
				}
			},
			deleted: func(node *corev1.Node) {
				notify(p.poolsChanged)
				p.viewsOfNode(node.Name)
			},
		})
	}
	if err != nil {
		// Informers refuse handlers and transforms only once they have run.
		panic(fmt.Sprintf("SetInformers was called too late: %v", err))
	}
}

// Watch reads and follows Seamark's objects until ctx ends. It writes nothing: a replica that does not lead watches too, so
// that it can work at once when it does.
func (p *Provider) Watch(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, inf := range []cache.SharedIndexInformer{p.pools, p.vips, p.peers} {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}
	if p.hasServiceCIDRs(ctx) {
		p.serviceCIDRs.RunWithContext(ctx)
	} else {
		p.noServiceCIDRs.Store(true)
	}
}

// Run works until ctx ends, while Watch runs. It returns early, with an error, only if it cannot start.
func (p *Provider) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if !p.awaitSynced(ctx) {
		return fmt.Errorf("read Services, namespaces, nodes, IPPools and VIPs: %w", ctx.Err())
	}
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return err
	}
	for _, svc := range services {
		p.describe(svc) // not before all namespaces are known
	}
	p.loadPools()
	p.promiseAll(services)
	close(p.ready)
	for _, svc := range services {
		p.tidy(svc)
	}
	for _, vip := range list[*v1alpha1.VIP](p.vips) {
		p.garbage.Add(vip.Name)
		p.views.Add(viewOfVIP + vip.Name)
	}
	for _, peer := range list[*v1alpha1.BGPPeer](p.peers) {
		p.views.Add(viewOfPeer + peer.Name)
	}
	for _, q := range p.queues() {
		wg.Go(func() { q.run(ctx) })
	}
	p.loop(ctx)
	return nil
}

// Ready is closed when everything has been read once and Services may be served.
func (p *Provider) Ready() <-chan struct{} { return p.ready }

// awaitSynced waits until everything has been told once; it reports false when ctx ends before.
func (p *Provider) awaitSynced(ctx context.Context) bool {
	for {
		some, cancel := context.WithTimeout(ctx, patience)
		var missing []string
		for _, s := range p.synced {
			if !cache.WaitForCacheSync(some.Done(), s.is) && !s.is() {
				missing = append(missing, s.kind)
			}
		}
		cancel()
		if len(missing) == 0 || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		p.Log.Warn("nothing is given out before everything has been read", "missing", missing)
	}
}

// hasServiceCIDRs reports whether the API server has the kind ServiceCIDR, which Kubernetes has since 1.33. It asks until
// there is an answer.
func (p *Provider) hasServiceCIDRs(ctx context.Context) (has bool) {
	backoff := wait.Backoff{Duration: retryShortest, Factor: 2, Jitter: 0.1, Steps: math.MaxInt32, Cap: retryLongest}
	for {
		kinds, err := p.Kube.Discovery().ServerResourcesForGroupVersion(networkingv1.SchemeGroupVersion.String())
		switch {
		case err == nil:
			return slices.ContainsFunc(kinds.APIResources, func(r metav1.APIResource) bool { return r.Name == "servicecidrs" })
		case apierrors.IsNotFound(err):
			return false
		}
		p.Log.Warn("cannot tell whether there are ServiceCIDRs: will ask again", "err", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(backoff.Step()):
		}
	}
}

func (p *Provider) queues() []*queue {
	return []*queue{p.poolStatus, p.views, p.conditions, p.garbage, p.again}
}

func (p *Provider) loop(ctx context.Context) {
	sweep := time.NewTicker(sweepPeriod)
	defer sweep.Stop()
	soon := 0 // sweeps
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.poolsChanged:
			p.loadPools()
			p.serveWaiting()
			p.reassign()
		case <-p.relabeled:
			p.serveWaiting()
			p.reassign()
		case <-p.opened:
			p.serveWaiting()
		case <-p.listed:
			soon = 2
			sweep.Reset(sweepSoon)
		case <-sweep.C:
			if soon--; soon == 0 {
				sweep.Reset(sweepPeriod)
			}
			p.sweep()
			p.alloc.open() // all that wait are looked at once in a while, whatever was missed
		}
	}
}

// Initialize does nothing: Run is started by the program, which knows when it may end.
func (p *Provider) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}

// LoadBalancer returns the provider itself.
func (p *Provider) LoadBalancer() (cloudprovider.LoadBalancer, bool) { return p, true }

// Instances is not supported: machines are not ours to know.
func (p *Provider) Instances() (cloudprovider.Instances, bool) { return nil, false }

// InstancesV2 is not supported.
func (p *Provider) InstancesV2() (cloudprovider.InstancesV2, bool) { return nil, false }

// Zones is not supported.
func (p *Provider) Zones() (cloudprovider.Zones, bool) { return nil, false }

// Clusters is not supported.
func (p *Provider) Clusters() (cloudprovider.Clusters, bool) { return nil, false }

// Routes is not supported: pod routes are the CNI's.
func (p *Provider) Routes() (cloudprovider.Routes, bool) { return nil, false }

// ProviderName returns Name.
func (p *Provider) ProviderName() string { return Name }

// HasClusterID returns true: there is one cluster, and nothing outside of it to tell it from.
func (p *Provider) HasClusterID() bool { return true }

// handlers are what follows from changes of one kind; old is nil for an object that is new.
type handlers[T any] struct {
	changed func(old, obj T)
	deleted func(obj T)
}

// on makes an informer tell of changes, and adds to synced whether what is there at the start has been told.
func on[T runtime.Object](all *[]synced, inf cache.SharedIndexInformer, h handlers[T]) error {
	if err := inf.SetTransform((&slimmer{known: inf.GetStore()}).slim); err != nil {
		return err
	}
	var none T
	reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { h.changed(none, obj.(T)) },
		UpdateFunc: func(old, obj any) { h.changed(old.(T), obj.(T)) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			h.deleted(obj.(T))
		},
	})
	if err != nil {
		return err
	}
	*all = append(*all, synced{fmt.Sprintf("%T", none), reg.HasSynced})
	return nil
}

// informer follows a kind; it calls listing when it asks for all objects of it.
func informer[T runtime.Object, L runtime.Object](r client.Resource[T, L], example runtime.Object, listing func()) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			listing()
			return r.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if ptr.Deref(o.SendInitialEvents, false) {
				listing()
			}
			return r.Watch(ctx, o)
		},
	}, r), example, 0, nil)
}

// get returns an object of a cluster-scoped kind from an informer. It must not be changed.
func get[T any](inf cache.SharedIndexInformer, name string) (obj T, ok bool) {
	got, ok, _ := inf.GetStore().GetByKey(name)
	if ok {
		obj = got.(T)
	}
	return obj, ok
}

func list[T any](inf cache.SharedIndexInformer) []T {
	all := inf.GetStore().List()
	out := make([]T, len(all))
	for i, obj := range all {
		out[i] = obj.(T)
	}
	return out
}

// notify makes a channel of capacity one readable.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
