package provider

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/cluster"
)

// serviceChanged looks for what the stock controller passes over: changes of labels, selector and IP family policy, which
// decide about addresses here, and a status that somebody else has edited.
func (p *Provider) serviceChanged(old, svc *corev1.Service) {
	asks := p.describe(svc)
	if old == nil || !p.wants(svc) || !p.isReady() {
		return
	}
	if asks || !maps.Equal(old.Annotations, svc.Annotations) {
		notify(p.changed) // what it asks for is kept from others; whom it shares with may have waited for it
	}
	passedOver := !maps.Equal(old.Labels, svc.Labels) || !maps.Equal(old.Spec.Selector, svc.Spec.Selector) ||
		ptr.Deref(old.Spec.IPFamilyPolicy, "") != ptr.Deref(svc.Spec.IPFamilyPolicy, "")
	switch {
	case passedOver, p.statusRight(old) && !p.statusRight(svc):
		p.wake.up(svc)
	case p.conditionEntry(nameOf(svc)) != nil:
		p.conditions.AddAfter(nameOf(svc).String(), alongWith)
	}
}

// describe notes what a Service wants. It reports whether it asks for addresses by name.
func (p *Provider) describe(svc *corev1.Service) (asks bool) {
	if !p.wants(svc) || svc.DeletionTimestamp != nil {
		p.alloc.undescribe(nameOf(svc))
		return false
	}
	r, _ := p.request(svc)
	p.alloc.describe(r)
	return len(r.Ask.Addresses) > 0
}

// describeNamespace notes anew what the Services of a namespace want, after its labels have changed.
func (p *Provider) describeNamespace(namespace string) {
	services, err := p.services.Services(namespace).List(labels.Everything())
	if err != nil || !p.isReady() {
		return
	}
	for _, svc := range services {
		p.describe(svc)
	}
}

// wakeService wakes the stock controller for a Service, if it is one for us.
func (p *Provider) wakeService(s cluster.Name) {
	if svc, err := p.services.Services(s.Namespace).Get(s.Name); err == nil && p.wants(svc) {
		p.wake.up(svc)
	}
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
