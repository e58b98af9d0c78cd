package provider

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

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
	// problem is what it was told; nil: nothing yet.
	problem *ipam.Problem
	// present is true for one that is being served just now: it need not be woken.
	present bool
}

func (w *waiting) add(svc *corev1.Service, problem *ipam.Problem) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since[nameOf(svc)] = waiter{created: svc.CreationTimestamp.Time, problem: problem}
}

// arrive adds a Service that is being served, without a problem yet.
func (w *waiting) arrive(svc *corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := nameOf(svc)
	w.since[name] = waiter{svc.CreationTimestamp.Time, w.since[name].problem, true}
}

// renew changes the problem of a Service that waits as it did; it reports false for one that does not.
func (w *waiting) renew(s cluster.Name, was waiter, problem *ipam.Problem) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now, ok := w.since[s]; !ok || now != was {
		return false
	}
	was.problem = problem
	w.since[s] = was
	return true
}

// any reports whether any Service waits.
func (w *waiting) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.since) > 0
}

// names returns the Services that wait, in no order.
func (w *waiting) names() []cluster.Name {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.since))
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
		if waits.problem != nil {
			n[waits.problem.Reason]++
		}
	}
	return n
}

// serveWaiting promises what has become free to the Services that wait, in order of age, and wakes the stock
// controller for those that got something. It renews what the others are told.
func (p *Provider) serveWaiting() {
	p.serving.Lock()
	defer p.serving.Unlock()
	openings, any := p.alloc.unserved()
	if !any {
		return
	}
	for _, name := range p.waiting.byAge() {
		svc, err := p.services.Services(name.Namespace).Get(name.Name)
		if err != nil || !p.serves(svc) {
			p.waiting.remove(name)
			continue
		}
		if !p.knowsNamespace(svc) {
			continue
		}
		r, notices := p.request(svc)
		d, news := p.alloc.promise(r)
		was, waits := p.waiting.get(name)
		problem := cmp.Or(d.Problem, d.Missing)
		switch {
		case problem == nil || news:
			p.waiting.remove(name)
			if !was.present {
				p.wake.up(svc)
			}
		case waits && !was.present && (was.problem == nil || was.problem.Message != problem.Message) && p.waiting.renew(name, was, problem):
			p.tell(svc, r, d, notices)
			if _, still := p.waiting.get(name); !still {
				p.wake.up(svc) // it was served meanwhile: what was told is old
			}
		}
	}
	p.alloc.serve(openings)
}

// reassign wakes the stock controller for the Services that are to move and that the pools would move, or would not have where
// they are, after pools or labels of namespaces have changed. Those that wait have been looked at.
func (p *Provider) reassign() {
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return
	}
	for _, svc := range services {
		if svc.Annotations[ipam.AnnotationReassign] == "" || !p.serves(svc) {
			continue
		}
		if _, waits := p.waiting.get(nameOf(svc)); waits {
			continue
		}
		if r, _ := p.request(svc); r.Ask.Reassign && p.alloc.moves(r) {
			p.wake.up(svc)
		}
	}
}

// promiseAll promises addresses to all Services that lack one, first those whose status shows what they had, then the oldest
// first: so what they get after a start does not depend on the order in which they are read.
func (p *Provider) promiseAll(services []*corev1.Service) {
	var lacking []*corev1.Service
	for _, svc := range services {
		if p.serves(svc) && p.knowsNamespace(svc) && len(p.alloc.held(nameOf(svc))) < len(svc.Spec.IPFamilies) {
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
