package provider

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	cloudprovider "k8s.io/cloud-provider"

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
	// sweepPeriod is how often everything is looked at again, whatever the watches said.
	sweepPeriod = 30 * time.Second
)

// Config of a Provider.
type Config struct {
	Kube    kubernetes.Interface
	Seamark *client.Client
	// Events about Services; those that the stock controller makes are its own.
	Events record.EventRecorder
	Log    *slog.Logger
	// Class is the spec.loadBalancerClass of Services that are served beside those that name none.
	Class string
	// Sole is true when no other controller works at the same time, because they elect a leader: then a VIP and the status
	// that shows it are written at the same time, and not one after the other.
	Sole bool
}

// Provider is the cloud provider. Use: New, SetInformers, then Run; the balancer waits until Run has read everything.
type Provider struct {
	Config

	alloc   *allocator
	waiting waiting
	wake    wake
	told    told
	left    leftovers
	metrics metrics

	services    corelisters.ServiceLister
	namespaces  corelisters.NamespaceLister
	nodes       corelisters.NodeLister
	synced      []cache.InformerSynced
	cidrsSynced []cache.InformerSynced

	pools, vips, peers cache.SharedIndexInformer
	// serviceCIDRs is never started where the API server has no such kind.
	serviceCIDRs cache.SharedIndexInformer

	// again are Services to wake the stock controller for.
	poolStatus, views, conditions, garbage, again *queue

	// verdicts on all pools, by name.
	verdicts atomic.Pointer[map[string]ipam.Verdict]
	// wrong are the Services whose status the last sweep found wrong. Only the loop uses it.
	wrong map[cluster.Name]struct{}

	changed      chan struct{} // an address is free, or a pool or a Service that waits has changed
	poolsChanged chan struct{}
	ready        chan struct{} // closed when everything has been read once
}

var (
	_ cloudprovider.Interface    = (*Provider)(nil)
	_ cloudprovider.InformerUser = (*Provider)(nil)
	_ cloudprovider.LoadBalancer = (*Provider)(nil)
	_ prometheus.Collector       = (*Provider)(nil)
)

// New makes a Provider. It does nothing before Run.
func New(c Config) (*Provider, error) {
	p := &Provider{
		Config:       c,
		changed:      make(chan struct{}, 1),
		poolsChanged: make(chan struct{}, 1),
		ready:        make(chan struct{}),
	}
	p.metrics = newMetrics()
	p.alloc = newAllocator(c.Seamark.VIPs, p.metrics.clashed)
	p.waiting.since = map[cluster.Name]waiter{}
	p.left.of = map[cluster.Name]left{}
	p.told.outcomes = map[cluster.Name]outcome{}
	p.poolStatus = newQueue("pools", c.Log, p.syncPool)
	p.views = newQueue("views", c.Log, p.syncView)
	p.conditions = newQueue("conditions", c.Log, p.syncCondition)
	p.garbage = newQueue("garbage", c.Log, p.syncGarbage)
	p.again = newQueue("again", c.Log, func(_ context.Context, key string) error {
		p.wakeService(nameOfKey(key))
		return nil
	})

	p.pools = informer(c.Seamark.IPPools, &v1alpha1.IPPool{})
	p.vips = informer(c.Seamark.VIPs, &v1alpha1.VIP{})
	p.peers = informer(c.Seamark.BGPPeers, &v1alpha1.BGPPeer{})
	p.serviceCIDRs = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return c.Kube.NetworkingV1().ServiceCIDRs().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.Kube.NetworkingV1().ServiceCIDRs().Watch(ctx, o)
		},
	}, c.Kube), &networkingv1.ServiceCIDR{}, 0, nil)
	return p, p.watch()
}

// watch registers what follows from a change of each of our own kinds.
func (p *Provider) watch() error {
	err := on(&p.synced, p.pools, handlers[*v1alpha1.IPPool]{
		changed: func(old, pool *v1alpha1.IPPool) {
			if old == nil || old.Generation != pool.Generation || !slices.Equal(old.Status.NodeAddresses, pool.Status.NodeAddresses) {
				notify(p.poolsChanged)
			}
			p.poolStatus.AddAfter(pool.Name, settle)
		},
		deleted: func(*v1alpha1.IPPool) { notify(p.poolsChanged) },
	})
	if err != nil {
		return err
	}
	err = on(&p.cidrsSynced, p.serviceCIDRs, handlers[*networkingv1.ServiceCIDR]{
		changed: func(_, _ *networkingv1.ServiceCIDR) { notify(p.poolsChanged) },
		deleted: func(*networkingv1.ServiceCIDR) { notify(p.poolsChanged) },
	})
	if err != nil {
		return err
	}
	err = on(&p.synced, p.vips, handlers[*v1alpha1.VIP]{
		changed: func(old, vip *v1alpha1.VIP) {
			for _, s := range p.alloc.vipSeen(vip) {
				p.wakeService(s)
			}
			if old == nil || old.Generation != vip.Generation {
				p.poolStatus.AddAfter(p.alloc.poolOf(vip), settle)
			}
			if !equality.Semantic.DeepEqual(vip.Status, v1alpha1.VIPStatus{}) {
				p.views.AddAfter(viewOfVIP+vip.Name, settle)
			}
		},
		deleted: func(vip *v1alpha1.VIP) {
			if was, unasked := p.alloc.vipGone(vip); unasked {
				addr, _ := addressOf(vip)
				p.restore(addr, was)
			}
			notify(p.changed)
			p.poolStatus.AddAfter(p.alloc.poolOf(vip), settle)
		},
	})
	if err != nil {
		return err
	}
	return on(&p.synced, p.peers, handlers[*v1alpha1.BGPPeer]{
		changed: func(_, peer *v1alpha1.BGPPeer) { p.views.AddAfter(viewOfPeer+peer.Name, settle) },
		deleted: func(*v1alpha1.BGPPeer) {},
	})
}

// SetInformers takes what the provider needs to know of Kubernetes' own kinds. It is called once, before the
// informers start.
func (p *Provider) SetInformers(f informers.SharedInformerFactory) {
	core := f.Core().V1()
	p.services, p.namespaces, p.nodes = core.Services().Lister(), core.Namespaces().Lister(), core.Nodes().Lister()

	err := on(&p.synced, core.Services().Informer(), handlers[*corev1.Service]{
		changed: p.serviceChanged,
		deleted: func(svc *corev1.Service) {
			name := nameOf(svc)
			p.waiting.remove(name)
			p.told.forget(name)
			p.alloc.undescribe(name)
			notify(p.changed) // it may have kept an address from others that it asked for
			for _, a := range p.alloc.held(name) {
				p.garbage.Add(cluster.VIPName(a))
			}
		},
	})
	if err == nil {
		err = on(&p.synced, core.Namespaces().Informer(), handlers[*corev1.Namespace]{
			changed: func(old, ns *corev1.Namespace) {
				if old != nil && !maps.Equal(old.Labels, ns.Labels) {
					p.describeNamespace(ns.Name)
				}
				notify(p.changed)
			},
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

// Run works until ctx ends. It returns early, with an error, only if it cannot start.
func (p *Provider) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, inf := range []cache.SharedIndexInformer{p.pools, p.vips, p.peers} {
		wg.Go(func() { inf.RunWithContext(ctx) })
	}
	if p.hasServiceCIDRs() {
		wg.Go(func() { p.serviceCIDRs.RunWithContext(ctx) })
		p.synced = append(p.synced, p.cidrsSynced...)
	}
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
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
	for _, vip := range list[*v1alpha1.VIP](p.vips) {
		p.garbage.Add(vip.Name)
	}
	for _, q := range p.queues() {
		wg.Go(func() { q.run(ctx) })
	}
	p.loop(ctx)
	return nil
}

// hasServiceCIDRs reports whether the API server has the kind ServiceCIDR, which Kubernetes has since 1.33.
func (p *Provider) hasServiceCIDRs() bool {
	kinds, err := p.Kube.Discovery().ServerResourcesForGroupVersion(networkingv1.SchemeGroupVersion.String())
	if err != nil {
		return false
	}
	return slices.ContainsFunc(kinds.APIResources, func(r metav1.APIResource) bool { return r.Name == "servicecidrs" })
}

func (p *Provider) queues() []*queue {
	return []*queue{p.poolStatus, p.views, p.conditions, p.garbage, p.again}
}

func (p *Provider) loop(ctx context.Context) {
	sweep := time.NewTicker(sweepPeriod)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.poolsChanged:
			p.loadPools()
			p.serveWaiting()
		case <-p.changed:
			p.serveWaiting()
		case <-sweep.C:
			p.sweep()
			p.serveWaiting()
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
func on[T runtime.Object](synced *[]cache.InformerSynced, inf cache.SharedIndexInformer, h handlers[T]) error {
	if err := inf.SetTransform(slim); err != nil {
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
	*synced = append(*synced, reg.HasSynced)
	return nil
}

// slim takes off an object what is more than half of it and nothing here reads: who wrote which field, and what kubectl
// apply was given.
func slim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
		delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	return obj, nil
}

func informer[T runtime.Object, L runtime.Object](r client.Resource[T, L], example runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return r.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
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
