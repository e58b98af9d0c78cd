package provider

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// wake makes the stock service controller look at a Service. That controller has no call for it; but it queues every
// Service that its informer says was added, so that is what it is told.
type wake struct {
	mu       sync.Mutex
	handlers []cache.ResourceEventHandler
}

// up wakes the controller for a Service. Its queue holds a Service once, however often it is woken.
func (w *wake) up(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.handlers {
		h.OnAdd(svc, false)
	}
}

// Services returns the informer of Services to hand to the stock service controller, in place of the shared one that it
// wraps.
func (p *Provider) Services(shared coreinformers.ServiceInformer) coreinformers.ServiceInformer {
	return wakeableInformer{shared, &p.wake}
}

type wakeableInformer struct {
	coreinformers.ServiceInformer
	wake *wake
}

// Informer returns the shared informer, but notes who listens.
func (i wakeableInformer) Informer() cache.SharedIndexInformer {
	return wakeableIndexInformer{i.ServiceInformer.Informer(), i.wake}
}

type wakeableIndexInformer struct {
	cache.SharedIndexInformer
	wake *wake
}

func (i wakeableIndexInformer) note(h cache.ResourceEventHandler) cache.ResourceEventHandler {
	i.wake.mu.Lock()
	defer i.wake.mu.Unlock()
	i.wake.handlers = append(i.wake.handlers, h)
	return h
}

// AddEventHandler adds a handler that can be woken.
func (i wakeableIndexInformer) AddEventHandler(h cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandler(i.note(h))
}

// AddEventHandlerWithResyncPeriod adds a handler that can be woken.
func (i wakeableIndexInformer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithResyncPeriod(i.note(h), resync)
}

// AddEventHandlerWithOptions adds a handler that can be woken.
func (i wakeableIndexInformer) AddEventHandlerWithOptions(h cache.ResourceEventHandler, o cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return i.SharedIndexInformer.AddEventHandlerWithOptions(i.note(h), o)
}
