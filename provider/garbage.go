package provider

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// syncGarbage gives an address back for each Service of a VIP that does not exist any more or is not ours: it was
// deleted or changed while no controller ran, or before it had its finalizer. A VIP without Services is a reservation and
// stays. What is known of a VIP and contradicts what the watch shows is read anew.
func (p *Provider) syncGarbage(ctx context.Context, name string) error {
	vip, ok := get[*v1alpha1.VIP](p.vips, name)
	if !ok {
		return nil
	}
	addr, ok := addressOf(vip)
	if !ok {
		return nil
	}
	if p.alloc.doubts(vip) {
		if err := p.alloc.reread(ctx, addr); err != nil {
			return err
		}
	}
	for _, u := range claimOf(vip).Users {
		if err := p.collect(ctx, u.Service); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) collect(ctx context.Context, s cluster.Name) error {
	if p.stillServed(s) {
		return nil
	}
	// The cache may be behind: an address that is in use must never be given away.
	svc, err := p.Kube.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err == nil && p.serves(svc) || err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil {
		if shown := p.view(svc); shown != nil && servicehelpers.HasLBFinalizer(shown) {
			p.wake.up(svc) // the stock controller cleans up, and takes the finalizer off
			return nil
		}
	}
	p.Log.Info("giving back the addresses of a Service that is gone or none of ours", "service", s.String())
	// It may have been created and served since it was looked for.
	return p.alloc.release(ctx, s, p.stillServed)
}

// allExist reports whether all Services of a VIP exist and are ours, as far as is known.
func (p *Provider) allExist(vip *v1alpha1.VIP) bool {
	return !slices.ContainsFunc(vip.Spec.Services, func(s v1alpha1.VIPService) bool {
		return !p.stillServed(cluster.Name{Namespace: s.Namespace, Name: s.Name})
	})
}

// sweep looks at everything once in a while, whatever was missed: claims without object, VIPs without Service, and
// Services whose status is not what they hold.
func (p *Provider) sweep() {
	p.alloc.sweep(func(vip string) bool {
		_, ok, _ := p.vips.GetStore().GetByKey(vip)
		return ok
	})
	for _, vip := range list[*v1alpha1.VIP](p.vips) {
		if p.alloc.doubts(vip) || !p.allExist(vip) {
			p.garbage.Add(vip.Name)
		}
	}
	p.sweepForgotten()
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return
	}
	wrong := map[cluster.Name]struct{}{}
	for _, svc := range services {
		p.tidy(svc)
		name := nameOf(svc)
		_, waits := p.waiting.get(name)
		if !p.serves(svc) || p.statusRight(svc) || waits && len(p.alloc.held(name)) == 0 {
			continue
		}
		// Twice in a row: it is not just being worked on.
		if _, again := p.wrong[name]; again {
			p.wake.up(svc)
		} else {
			wrong[name] = struct{}{}
		}
	}
	p.wrong = wrong
}

// tidy takes away what the status of a Service should not say: the condition of one that is none of ours any more, an address
// of one that waits and has none.
func (p *Provider) tidy(svc *corev1.Service) {
	name := nameOf(svc)
	switch {
	case p.serves(svc):
		if _, clears := p.statusPatch(name)["loadBalancer"]; clears {
			p.conditions.Add(name.String())
		}
	case hasCondition(svc):
		if shown := p.view(svc); shown == nil || !servicehelpers.HasLBFinalizer(shown) { // else the stock controller cleans up
			p.tellNothing(svc)
		}
	}
}

// sweepForgotten forgets Services that have gone while something was being noted about them.
func (p *Provider) sweepForgotten() {
	for _, names := range [][]cluster.Name{p.waiting.names(), p.told.names(), p.alloc.described()} {
		for _, s := range names {
			if _, err := p.services.Services(s.Namespace).Get(s.Name); err != nil {
				p.alloc.undescribe(s)
				p.forget(s)
			}
		}
	}
}

// statusRight reports whether a Service's status says what it holds, and nothing else, and it has the finalizer.
func (p *Provider) statusRight(svc *corev1.Service) bool {
	held, shown := p.alloc.held(nameOf(svc)), svc.Status.LoadBalancer.Ingress
	if len(held) == 0 || len(shown) != len(held) || p.lacksFinalizer(svc) {
		return false
	}
	return !slices.ContainsFunc(statusOf(held).Ingress, func(want corev1.LoadBalancerIngress) bool {
		return !slices.ContainsFunc(shown, func(in corev1.LoadBalancerIngress) bool { return equality.Semantic.DeepEqual(in, want) })
	})
}
