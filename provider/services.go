package provider

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/cluster"
)

// serviceChanged looks for what the stock controller passes over: changes of labels, selector and IP family policy, which
// decide about addresses here, and a status or a finalizer that somebody else has edited.
func (p *Provider) serviceChanged(old, svc *corev1.Service) {
	p.describe(svc)
	if old == nil || !p.isReady() {
		return
	}
	name := nameOf(svc)
	if !p.serves(svc) {
		if p.serves(old) {
			p.waiting.remove(name)
			p.succeeded(name) // what failed is not wanted any more
			p.tellNothing(svc)
		}
		return
	}
	passedOver := !maps.Equal(old.Labels, svc.Labels) || !maps.Equal(old.Spec.Selector, svc.Spec.Selector) ||
		ptr.Deref(old.Spec.IPFamilyPolicy, "") != ptr.Deref(svc.Spec.IPFamilyPolicy, "")
	switch {
	case passedOver, p.statusRight(old) && !p.statusRight(svc):
		p.wake.up(svc)
	case p.statusPatch(name) != nil:
		p.conditions.AddAfter(name.String(), alongWith)
	}
}

// serviceDeleted forgets a Service. What VIPs say is its is given back after a look at the API server.
func (p *Provider) serviceDeleted(svc *corev1.Service) {
	name := nameOf(svc)
	p.alloc.undescribe(name)
	p.forget(name)
	rest := p.alloc.drop(name)
	if !p.isReady() {
		return
	}
	p.wake.gone(svc)
	for _, a := range rest {
		p.garbage.Add(cluster.VIPName(a))
	}
}

// forget takes a Service out of all that is kept of Services that exist.
func (p *Provider) forget(s cluster.Name) {
	p.waiting.remove(s)
	p.told.forget(s)
	p.left.take(s)
	p.cleared.take(s)
	p.succeeded(s)
}

// describe notes what a Service wants.
func (p *Provider) describe(svc *corev1.Service) {
	if !p.serves(svc) {
		p.alloc.undescribe(nameOf(svc))
		return
	}
	r, _ := p.request(svc)
	p.alloc.describe(r)
}

// namespaceChanged notes anew what the Services of a namespace want, after its labels have changed. Those that were seen before
// it are served now.
func (p *Provider) namespaceChanged(old, ns *corev1.Namespace) {
	if old != nil && maps.Equal(old.Labels, ns.Labels) || !p.isReady() {
		return
	}
	services, err := p.services.Services(ns.Name).List(labels.Everything())
	if err != nil {
		return
	}
	for _, svc := range services {
		p.describe(svc)
		if old == nil {
			p.wake.up(svc)
		}
	}
	p.alloc.open()
	notify(p.relabeled)
}

// wakeService wakes the stock controller for a Service, if it is one for us or was.
func (p *Provider) wakeService(s cluster.Name) {
	if svc, err := p.services.Services(s.Namespace).Get(s.Name); err == nil {
		p.wake.up(svc)
	} else {
		p.wake.gone(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}})
	}
}

// stillServed reports whether a Service exists and is one for us, as far as is known.
func (p *Provider) stillServed(s cluster.Name) bool {
	svc, err := p.services.Services(s.Namespace).Get(s.Name)
	return err == nil && p.serves(svc)
}

// isReady reports whether everything has been read once.
func (p *Provider) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}
