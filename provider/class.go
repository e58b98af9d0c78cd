package provider

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// The stock service controller serves Services without spec.loadBalancerClass, and only those. It is handed an informer
// that shows it the Services of our class as if they had none, and hides those of other classes, and those without one where
// these are not for us; so one reconciler, the one that everybody knows, serves both. The informer can also wake it, for which the controller has no call: it queues every
// Service that it is told was added.

// Services returns the informer of Services to hand to the stock service controller, in place of the shared one that it
// wraps.
func (p *Provider) Services(shared coreinformers.ServiceInformer) coreinformers.ServiceInformer {
	return classInformer{shared, p}
}

// view returns a Service as the stock controller is to see it; nil: not at all. One that is for us is shown without class,
// and with the finalizer that it will have (onewrite.go). So is one that was for us, until nothing of that is left: then that
// controller has something to clean up.
func (p *Provider) view(svc *corev1.Service) *corev1.Service {
	classless := svc.Spec.LoadBalancerClass == nil
	ours := p.wants(svc)
	served := ours && svc.DeletionTimestamp == nil
	has := servicehelpers.HasLBFinalizer(svc)
	// The finalizer of one of another class that never was ours is left alone; the condition tells. So it does where those
	// without class are somebody else's.
	left := has && (classless && !p.OnlyClass || ours || hasCondition(svc)) || !served && len(p.alloc.held(nameOf(svc))) > 0
	switch {
	case served, left:
		if classless && has && !p.OnlyClass {
			return svc
		}
		shown := *svc
		shown.Spec.LoadBalancerClass = nil
		if !ours {
			shown.Spec.Type = corev1.ServiceTypeClusterIP
		}
		if !has {
			shown.Finalizers = append(slices.Clone(svc.Finalizers), servicehelpers.LoadBalancerCleanupFinalizer)
		}
		return &shown
	case ours, !classless, svc.Spec.Type == corev1.ServiceTypeLoadBalancer:
		return nil
	default:
		return svc
	}
}

func hasCondition(svc *corev1.Service) bool {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated) != nil
}

// wake makes the stock service controller look at Services.
type wake struct {
	mu       sync.Mutex
	handlers []classHandler
}

func (w *wake) add(h classHandler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handlers = append(w.handlers, h)
}

// up wakes the controller for a Service. Its queue holds a Service once, however often it is woken.
func (w *wake) up(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.handlers {
		h.OnAdd(svc, false)
	}
}

// gone wakes the controller for a Service that does not exist any more, or that it is not shown any more.
func (w *wake) gone(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.handlers {
		h.onGone(svc)
	}
}

// classInformer shows what view shows.
type classInformer struct {
	coreinformers.ServiceInformer
	provider *Provider
}

// Informer returns the shared informer, whose handlers get what view shows and can be woken.
func (i classInformer) Informer() cache.SharedIndexInformer {
	return classIndexInformer{i.ServiceInformer.Informer(), i.provider}
}

// Lister lists what view shows.
func (i classInformer) Lister() corelisters.ServiceLister {
	return classLister{i.ServiceInformer.Lister(), i.provider}
}

type classIndexInformer struct {
	cache.SharedIndexInformer
	provider *Provider
}

// wrap returns a handler that is told of what view shows.
func (i classIndexInformer) wrap(h cache.ResourceEventHandler) cache.ResourceEventHandler {
	wrapped := classHandler{h, i.provider}
	i.provider.wake.add(wrapped)
	return wrapped
}

// AddEventHandler adds a handler that can be woken.
func (i classIndexInformer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandler(i.wrap(h))
}

// AddEventHandlerWithResyncPeriod adds a handler that can be woken.
func (i classIndexInformer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(i.wrap(h), resync)
}

// AddEventHandlerWithOptions adds a handler that can be woken.
func (i classIndexInformer) AddEventHandlerWithOptions(h cache.ResourceEventHandler, o cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithOptions(i.wrap(h), o)
}

type classHandler struct {
	cache.ResourceEventHandler
	provider *Provider
}

// OnAdd tells of a Service that is shown.
func (h classHandler) OnAdd(obj any, initial bool) {
	if shown := h.provider.view(obj.(*corev1.Service)); shown != nil {
		h.ResourceEventHandler.OnAdd(shown, initial)
	}
}

// OnUpdate tells of a Service that is shown now, also when it was not before, and of one that is not shown any more.
func (h classHandler) OnUpdate(old, obj any) {
	was, shown := h.provider.view(old.(*corev1.Service)), h.provider.view(obj.(*corev1.Service))
	switch {
	case was != nil && shown != nil:
		h.ResourceEventHandler.OnUpdate(was, shown)
	case shown != nil:
		h.ResourceEventHandler.OnAdd(shown, false)
	case was != nil:
		h.onGone(was)
	}
}

// onGone has the stock controller look for a Service that it will not find, so that it forgets it. It has no handler of
// deletions, because it counts on the finalizer, which a Service that only waited never had.
func (h classHandler) onGone(svc *corev1.Service) {
	h.ResourceEventHandler.OnAdd(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}, false)
}

// classLister lists what view shows.
type classLister struct {
	corelisters.ServiceLister
	provider *Provider
}

// List lists the Services that are shown.
func (l classLister) List(selector labels.Selector) ([]*corev1.Service, error) {
	all, err := l.ServiceLister.List(selector)
	return l.provider.viewAll(all), err
}

// Services lists the Services of a namespace that are shown.
func (l classLister) Services(namespace string) corelisters.ServiceNamespaceLister {
	return classNamespaceLister{l.ServiceLister.Services(namespace), l.provider}
}

type classNamespaceLister struct {
	corelisters.ServiceNamespaceLister
	provider *Provider
}

// List lists the Services of a namespace that are shown.
func (l classNamespaceLister) List(selector labels.Selector) ([]*corev1.Service, error) {
	all, err := l.ServiceNamespaceLister.List(selector)
	return l.provider.viewAll(all), err
}

// Get returns a Service that is shown; a NotFound error for any other.
func (l classNamespaceLister) Get(name string) (*corev1.Service, error) {
	svc, err := l.ServiceNamespaceLister.Get(name)
	if err != nil {
		return nil, err
	}
	if shown := l.provider.view(svc); shown != nil {
		return shown, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("services"), name)
}

func (p *Provider) viewAll(all []*corev1.Service) []*corev1.Service {
	out := make([]*corev1.Service, 0, len(all))
	for _, svc := range all {
		if shown := p.view(svc); shown != nil {
			out = append(out, shown)
		}
	}
	return out
}
