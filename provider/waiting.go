package provider

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// waiting are the Services that did not get all that they want.
type waiting struct {
	mu    sync.Mutex
	since map[cluster.Name]waiter
}

type waiter struct {
	created time.Time
	problem *ipam.Problem
}

func (w *waiting) add(svc *corev1.Service, problem *ipam.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since[nameOf(svc)] = waiter{svc.CreationTimestamp.Time, problem}
}

func (w *waiting) remove(s cluster.Name) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, s)
}

func (w *waiting) get(s cluster.Name) (waiter, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	got, ok := w.since[s]
	return got, ok
}

// byAge returns the Services that wait, the oldest first.
func (w *waiting) byAge() []cluster.Name {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Keys(w.since), func(a, b cluster.Name) int {
		return cmp.Or(w.since[a].created.Compare(w.since[b].created), a.Compare(b))
	})
}

// count returns how many Services wait, by reason.
func (w *waiting) count() map[ipam.Reason]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := map[ipam.Reason]int{}
	for _, waits := range w.since {
		n[waits.problem.Reason]++
	}
	return n
}

// serveWaiting promises what has become free to the Services that wait, in order of age, and wakes the stock
// controller for those that got something. It renews what the others are told.
func (p *Provider) serveWaiting() {
	for _, name := range p.waiting.byAge() {
		svc, err := p.services.Services(name.Namespace).Get(name.Name)
		if err != nil || !p.wants(svc) {
			p.waiting.remove(name)
			continue
		}
		r, notices := p.request(svc)
		d, news := p.alloc.promise(r)
		problem := cmp.Or(d.Problem, d.Missing)
		if problem == nil || news {
			p.waiting.remove(name)
			p.wake.up(svc)
			continue
		}
		if was, ok := p.waiting.get(name); ok && was.problem.Message != problem.Message {
			p.waiting.add(svc, problem)
			p.tell(svc, d, notices)
		}
	}
}

// promiseAll promises addresses to all Services that lack one, first those whose status shows what they had, then the oldest
// first: so what they get after a start does not depend on the order in which they are read.
func (p *Provider) promiseAll(services []*corev1.Service) {
	var lacking []*corev1.Service
	for _, svc := range services {
		if p.wants(svc) && svc.DeletionTimestamp == nil && len(p.alloc.held(nameOf(svc))) < len(svc.Spec.IPFamilies) {
			lacking = append(lacking, svc)
		}
	}
	slices.SortFunc(lacking, func(a, b *corev1.Service) int {
		return cmp.Or(shows(b)-shows(a), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), nameOf(a).Compare(nameOf(b)))
	})
	for _, svc := range lacking {
		r, _ := p.request(svc)
		p.alloc.promise(r)
	}
}

// shows returns how many addresses a Service's status has.
func shows(svc *corev1.Service) int { return len(svc.Status.LoadBalancer.Ingress) }
