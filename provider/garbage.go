package provider

import (
	"context"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// syncGarbage gives an address back for each Service of a VIP that does not exist any more or is not ours: it was
// deleted or changed while no controller ran, or its finalizer was taken off by hand. A VIP without Services is a
// person's reservation and stays.
func (p *Provider) syncGarbage(ctx context.Context, name string) error {
	vip, ok := get[*v1alpha1.VIP](p.vips, name)
	if !ok {
		return nil
	}
	addr, ok := addressOf(vip)
	if !ok {
		return nil
	}
	for _, s := range servicesOf(vip) {
		if err := p.collect(ctx, addr, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Provider) collect(ctx context.Context, addr netip.Addr, s cluster.Name) error {
	if svc, err := p.services.Services(s.Namespace).Get(s.Name); err == nil && wants(svc) {
		return nil
	}
	if !p.alloc.enter(s) {
		return errBusy
	}
	defer p.alloc.leave(s)
	// The cache may be behind: an address that is in use must never be given away.
	svc, err := p.Kube.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err == nil && wants(svc) || err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	p.Log.Info("giving back an address whose Service is gone", "address", addr, "service", s.String())
	return p.alloc.remove(ctx, addr, s)
}

// restore gives an address whose VIP somebody deleted by hand back to the Services that it served: they have not asked
// for another one, and those that wait must not get it first.
func (p *Provider) restore(vip *v1alpha1.VIP) {
	addr, _ := addressOf(vip)
	for _, s := range servicesOf(vip) {
		svc, err := p.services.Services(s.Namespace).Get(s.Name)
		if err != nil || !wants(svc) || svc.DeletionTimestamp != nil || !slices.Contains(ingressIPs(svc), addr) {
			continue
		}
		r, _ := p.request(svc)
		p.alloc.promise(r)
		p.wake.up(svc)
	}
}

// sweep looks at everything once in a while, whatever was missed: claims without object, VIPs without Service, and
// Services whose status is not what they hold.
func (p *Provider) sweep() {
	p.alloc.sweep(func(vip string) bool {
		_, ok, _ := p.vips.GetStore().GetByKey(vip)
		return ok
	})
	for _, vip := range list[*v1alpha1.VIP](p.vips) {
		for _, s := range servicesOf(vip) {
			if svc, err := p.services.Services(s.Namespace).Get(s.Name); err != nil || !wants(svc) {
				p.garbage.Add(vip.Name)
			}
		}
	}
	services, err := p.services.List(labels.Everything())
	if err != nil {
		return
	}
	wrong := map[cluster.Name]struct{}{}
	for _, svc := range services {
		name := nameOf(svc)
		if _, waits := p.waiting.get(name); waits || !wants(svc) || p.statusRight(svc) {
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

// statusRight reports whether a Service's status says what it holds.
func (p *Provider) statusRight(svc *corev1.Service) bool {
	held, shown := p.alloc.held(nameOf(svc)), ingressIPs(svc)
	slices.SortFunc(shown, netip.Addr.Compare)
	return len(held) > 0 && slices.Equal(held, shown)
}
