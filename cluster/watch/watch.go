package watch

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
)

// Config of a Watcher.
type Config struct {
	Kube    kubernetes.Interface
	Seamark *client.Client
	// Namespace is Seamark's own: that of the Leases of its agents, and of Secrets with the key of their heartbeats and the
	// passwords of BGP sessions.
	Namespace string
	Log       *slog.Logger
}

// Watcher watches the API and keeps a Snapshot of it.
type Watcher struct {
	log      *slog.Logger
	snapshot atomic.Pointer[cluster.Snapshot]
	dirty    chan struct{}
	pulse    pace.Pulse
	// stale are the kinds that have changed since the last Snapshot.
	stale   atomic.Uint32
	sources []*Source

	services, slices, nodes, namespaces, serviceCIDRs, secrets, leases, pools, peers, vips cache.SharedIndexInformer
}

// Kinds of which the Snapshot has a map each.
const (
	services uint32 = 1 << iota
	endpointSlices
	nodes
	namespaces
	serviceCIDRs
	pools
	peers // and the Secrets of their passwords
	vips
	agents
	heartbeat
	everything = 1<<iota - 1
)

// Source is one loop's view of a Watcher.
type Source struct {
	w       *Watcher
	changed chan struct{}
}

// Snapshot returns the newest Snapshot; nil as long as not every kind has been listed once, so that nobody takes a
// part for the whole.
func (s *Source) Snapshot() *cluster.Snapshot { return s.w.snapshot.Load() }

// Changed receives when there is a newer Snapshot than at the last receive. Several changes are one.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// New makes a Watcher. It does nothing before Run.
func New(c Config) (*Watcher, error) {
	w := &Watcher{log: c.Log, dirty: make(chan struct{}, 1)}
	core, disc := c.Kube.CoreV1(), c.Kube.DiscoveryV1()
	var err error
	add := func(lw cache.ListerWatcher, example runtime.Object, t cache.TransformFunc, h cache.ResourceEventHandler) cache.SharedIndexInformer {
		inf := cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{})
		if e := inf.SetTransform(t); e != nil {
			err = e
		}
		if _, e := inf.AddEventHandler(h); e != nil {
			err = e
		}
		return inf
	}
	w.services = add(listWatch(core.Services(metav1.NamespaceAll), c.Kube), &corev1.Service{}, transform(Service), onChange[*cluster.Service](w.touch(services)))
	w.slices = add(listWatch(disc.EndpointSlices(metav1.NamespaceAll), c.Kube), &discoveryv1.EndpointSlice{}, transform(Slice), onChange[*cluster.Slice](w.touch(endpointSlices)))
	w.nodes = add(listWatch(core.Nodes(), c.Kube), &corev1.Node{}, transform(Node), onChange[*cluster.Node](w.touch(nodes)))
	w.namespaces = add(listWatch(core.Namespaces(), c.Kube), &corev1.Namespace{}, transform(namespace), onChange[string](w.touch(namespaces)))
	w.serviceCIDRs = add(listWatch(c.Kube.NetworkingV1().ServiceCIDRs(), c.Kube), &networkingv1.ServiceCIDR{}, transform(ServiceCIDR), onChange[[]netip.Prefix](w.touch(serviceCIDRs)))
	w.secrets = add(listWatch(core.Secrets(c.Namespace), c.Kube), &corev1.Secret{}, transform(toSecret), onChange[secret](w.touch(peers|heartbeat)))
	w.leases = add(listWatch(labelled[*coordinationv1.LeaseList]{c.Kube.CoordinationV1().Leases(c.Namespace), v1alpha1.AgentLabel + "=true"}, c.Kube), &coordinationv1.Lease{}, transform(Agent), onChange[*cluster.Agent](w.touch(agents)))
	w.pools = add(listWatch(c.Seamark.IPPools, c.Seamark.IPPools), &v1alpha1.IPPool{}, transform(pool), onChange[*cluster.Pool](w.touch(pools)))
	w.peers = add(listWatch(c.Seamark.BGPPeers, c.Seamark.BGPPeers), &v1alpha1.BGPPeer{}, transform(peerOrNil), onChange[*cluster.Peer](w.touch(peers)))
	w.vips = add(listWatch(c.Seamark.VIPs, c.Seamark.VIPs), &v1alpha1.VIP{}, transform(VIP), onChange[*cluster.VIP](w.touch(vips)))
	if err != nil {
		return nil, fmt.Errorf("prepare an informer: %w", err)
	}
	return w, nil
}

// gather is how long a change waits for those that come with it: a Service of type LoadBalancer is three of them.
const gather = 20 * time.Millisecond

// lister is the part of a typed client that an informer needs.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// listWatch is l for an informer. The client that l belongs to is asked whether it can stream lists: client-go's fake
// cannot.
func listWatch[L runtime.Object](l lister[L], client any) cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return l.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return l.Watch(ctx, o)
		},
	}, client)
}

// labelled is a lister of the objects with a label only.
type labelled[L runtime.Object] struct {
	lister[L]
	selector string
}

// List implements lister.
func (l labelled[L]) List(ctx context.Context, o metav1.ListOptions) (L, error) {
	o.LabelSelector = l.selector
	return l.lister.List(ctx, o)
}

// Watch implements lister.
func (l labelled[L]) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.LabelSelector = l.selector
	return l.lister.Watch(ctx, o)
}

func namespace(n *corev1.Namespace) string { return n.Name }

// secret is what is kept of a Secret.
type secret struct {
	name, password string
	// keys are nil but for the Secret of the heartbeats' keys.
	keys *cluster.HeartbeatKeys
}

func toSecret(s *corev1.Secret) secret {
	out := secret{name: s.Name, password: string(s.Data[corev1.BasicAuthPasswordKey])}
	if s.Name == v1alpha1.HeartbeatSecret {
		out.password, out.keys = "", heartbeatKeys(s.Data)
	}
	return out
}

func pool(p *v1alpha1.IPPool) *cluster.Pool {
	pool, _ := Pool(p) // what is wrong is told on the object by the controller
	return &pool
}

func peerOrNil(p *v1alpha1.BGPPeer) *cluster.Peer {
	peer, err := Peer(p)
	if err != nil {
		return nil // the controller tells it on the object
	}
	return peer
}

// Source returns a view for one loop. Call it before Run.
func (w *Watcher) Source() *Source {
	s := &Source{w: w, changed: make(chan struct{}, 1)}
	w.sources = append(w.sources, s)
	return s
}

// touch returns what notes that something of a kind has changed.
func (w *Watcher) touch(kind uint32) func() {
	return func() {
		w.stale.Or(kind)
		notify(w.dirty)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends. The API server may be away for any time: the last Snapshot stays.
func (w *Watcher) Run(ctx context.Context) error {
	informers := map[string]cache.SharedIndexInformer{
		"Services": w.services, "EndpointSlices": w.slices, "Nodes": w.nodes, "Namespaces": w.namespaces, "ServiceCIDRs": w.serviceCIDRs,
		"Secrets": w.secrets, "Leases": w.leases, "IPPools": w.pools, "BGPPeers": w.peers, "VIPs": w.vips,
	}
	for _, inf := range informers {
		go inf.RunWithContext(ctx)
	}
	for kind, inf := range informers {
		if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
			return ctx.Err()
		}
		w.log.Debug("synced", "kind", kind)
	}
	w.touch(everything)()
	pacer := pace.New(pace.Share, pace.Burst)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gather):
		}
		select {
		case <-w.dirty: // it is in this Snapshot
		default:
		}
		end := w.pulse.Begin(time.Now())
		used := cputime.Of(func() { w.snapshot.Store(w.build()) })
		for _, s := range w.sources {
			notify(s.changed)
		}
		end()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pacer.Rest(time.Now(), used)):
		}
	}
}

// Alive returns an error if the Watcher hangs. Any goroutine may call it.
func (w *Watcher) Alive() error { return w.pulse.Stuck(time.Now(), pace.Hang) }

// build assembles a Snapshot from the stores: pointers only, nothing is converted or copied. Kinds that have not changed since
// the last one share its maps.
func (w *Watcher) build() *cluster.Snapshot {
	stale := w.stale.Swap(0) // what changes from here on is for the next, even if it is in this one
	s := cluster.NewSnapshot()
	if last := w.snapshot.Load(); last != nil {
		*s = *last
	}
	if stale&services != 0 {
		s.Services = make(map[cluster.Name]*cluster.Service, len(s.Services))
		values(w.services.GetStore(), s.AddService)
	}
	if stale&endpointSlices != 0 {
		s.Slices = make(map[cluster.Name][]*cluster.Slice, len(s.Slices))
		values(w.slices.GetStore(), s.AddSlice)
		s.Seal()
	}
	if stale&nodes != 0 {
		s.Nodes = make(map[string]*cluster.Node, len(s.Nodes))
		values(w.nodes.GetStore(), s.AddNode)
	}
	if stale&namespaces != 0 {
		s.Namespaces = make(map[string]struct{}, len(s.Namespaces))
		values(w.namespaces.GetStore(), s.AddNamespace)
	}
	if stale&serviceCIDRs != 0 {
		s.ServiceCIDRs = nil
		values(w.serviceCIDRs.GetStore(), s.AddServiceCIDRs)
	}
	if stale&pools != 0 {
		s.Pools = make(map[string]*cluster.Pool, len(s.Pools))
		values(w.pools.GetStore(), s.AddPool)
	}
	if stale&vips != 0 {
		s.VIPs = make(map[netip.Addr]*cluster.VIP, len(s.VIPs))
		values(w.vips.GetStore(), s.AddVIP)
	}
	if stale&peers != 0 {
		s.Peers = make(map[string]*cluster.Peer, len(s.Peers))
		w.addPeers(s)
	}
	if stale&agents != 0 {
		s.Agents = make(map[string]*cluster.Agent, len(s.Agents))
		values(w.leases.GetStore(), s.AddAgent)
	}
	if stale&heartbeat != 0 {
		s.Heartbeat = nil
		values(w.secrets.GetStore(), func(p secret) { s.Heartbeat = cmp.Or(s.Heartbeat, p.keys) })
	}
	return s
}

func (w *Watcher) addPeers(s *cluster.Snapshot) {
	passwords := map[string]string{}
	values(w.secrets.GetStore(), func(p secret) { passwords[p.name] = p.password })
	values(w.peers.GetStore(), func(p *cluster.Peer) {
		if p != nil && p.PasswordSecret != "" {
			q := *p
			q.Password = passwords[p.PasswordSecret]
			p = &q
		}
		s.AddPeer(p)
	})
}
