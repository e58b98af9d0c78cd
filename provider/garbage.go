package provider

import (
	"context"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
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
	if svc, err := p.services.Services(s.Namespace).Get(s.Name); err == nil && p.wants(svc) {
		return nil
	}
	// The cache may be behind: an address that is in use must never be given away.
	svc, err := p.Kube.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if err == nil && p.wants(svc) || err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && servicehelpers.HasLBFinalizer(svc) {
		p.wake.up(svc) // the stock controller cleans up, and takes the finalizer off
		return nil
	}
	p.Log.Info("giving back the addresses of a Service that is gone or none of ours", "service", s.String())
	return p.alloc.release(ctx, s)
}

// restore gives an address whose VIP somebody deleted by hand back to the Services that it served: they have not asked
// for another one, and those that wait must not get it first.
func (p *Provider) restore(addr netip.Addr, was ipam.Claim) {
	var users []ipam.User
	var wake []*corev1.Service
	for _, u := range was.Users {
		svc, err := p.services.Services(u.Service.Namespace).Get(u.Service.Name)
		if err == nil && p.wants(svc) && svc.DeletionTimestamp == nil {
			users, wake = append(users, u), append(wake, svc)
		}
	}
	if len(users) == 0 {
		return
	}
	p.Log.Info("restoring a VIP that was deleted while in use", "address", addr, "services", usersOf(was))
	was.Users, was.Since = users, time.Time{}
	p.alloc.restore(addr, was)
	for _, svc := range wake {
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
		if p.alloc.doubts(vip) {
			p.garbage.Add(vip.Name)
		}
		for _, s := range vip.Spec.Services {
			if svc, err := p.services.Services(s.Namespace).Get(s.Name); err != nil || !p.wants(svc) {
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
		_, waits := p.waiting.get(name)
		if !p.wants(svc) || p.statusRight(svc) || waits && len(p.alloc.held(name)) == 0 {
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
