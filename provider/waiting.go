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

// serveWaiting promises what has become free to the Services that wait, in order of age, and wakes the stock
// controller for those that got something. It renews what the others are told.
func (p *Provider) serveWaiting() {
	for _, name := range p.waiting.byAge() {
		svc, err := p.services.Services(name.Namespace).Get(name.Name)
		if err != nil || !wants(svc) {
			p.waiting.remove(name)
			continue
		}
		r, notices := p.request(svc)
		d := p.alloc.promise(r)
		problem := cmp.Or(d.Problem, d.Missing)
		if problem == nil || len(d.Take) > 0 {
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

// serviceChanged looks for changes that matter to a Service that waits and that the stock controller does not see.
func (p *Provider) serviceChanged(old, svc *corev1.Service) {
	if _, waits := p.waiting.get(nameOf(svc)); !waits || old == nil {
		return
	}
	if !maps.Equal(old.Labels, svc.Labels) || !slices.Equal(old.Spec.IPFamilies, svc.Spec.IPFamilies) || !equal(old.Spec.IPFamilyPolicy, svc.Spec.IPFamilyPolicy) {
		notify(p.changed)
	}
}

func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
