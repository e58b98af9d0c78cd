package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

const (
	// retryWrite is when the stock controller tries again after the API server refused or did not answer. Its own
	// back-off goes up to five minutes.
	retryWrite = 5 * time.Second
	// retryWaiting is when it tries again for a Service that waits for an address: only in case that nobody woke it.
	retryWaiting = time.Minute
	// startTimeout bounds how long a call waits for the first reading of everything.
	startTimeout = 20 * time.Second
)

// GetLoadBalancerName returns a name for log lines.
func (p *Provider) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return nameOf(svc).String()
}

// GetLoadBalancer returns the addresses that a Service holds.
func (p *Provider) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	if err := p.waitReady(ctx); err != nil {
		return nil, false, err
	}
	held := p.alloc.held(nameOf(svc))
	return statusOf(held), len(held) > 0, nil
}

// EnsureLoadBalancer gives a Service the addresses that it wants and returns them. It may be called any number of times,
// with a Service from a stale cache too. Where the Service cannot have what it wants, it keeps what it has, the error
// says what to change, and the Service is served as soon as that is possible.
func (p *Provider) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	if err := p.waitReady(ctx); err != nil {
		return nil, err
	}
	r, notices := p.request(svc)
	d, err := p.alloc.ensure(ctx, r)
	if err != nil {
		return nil, api.NewRetryError(err.Error(), retryWrite)
	}
	p.tell(svc, d, notices)
	if d.Problem != nil {
		p.waiting.add(svc, d.Problem)
		return nil, api.NewRetryError(d.Problem.Message, retryWaiting)
	}
	if d.Missing != nil {
		p.waiting.add(svc, d.Missing)
	} else {
		p.waiting.remove(r.Service)
	}
	return statusOf(d.Addresses), nil
}

// UpdateLoadBalancer has nothing to do: addresses do not depend on nodes. To say so saves an event for each Service
// whenever a node comes or goes.
func (p *Provider) UpdateLoadBalancer(context.Context, string, *corev1.Service, []*corev1.Node) error {
	return cloudprovider.ImplementedElsewhere
}

// EnsureLoadBalancerDeleted gives back all addresses of a Service.
func (p *Provider) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	if err := p.waitReady(ctx); err != nil {
		return err
	}
	name := nameOf(svc)
	p.waiting.remove(name)
	if err := p.alloc.release(ctx, name); err != nil {
		return err
	}
	p.tellNothing(svc)
	return nil
}

func (p *Provider) waitReady(ctx context.Context) error {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-p.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return api.NewRetryError("not all Services, pools and VIPs have been read yet: see the controller's log", retryWrite)
	}
}

// request turns a Service into a request. Notices are what its owner should hear although it does no harm.
func (p *Provider) request(svc *corev1.Service) (r ipam.Request, notices []string) {
	r = ipam.Request{
		Service:   nameOf(svc),
		Labels:    svc.Labels,
		AnyFamily: ptr.Deref(svc.Spec.IPFamilyPolicy, "") == corev1.IPFamilyPolicyPreferDualStack,
		Prefer:    ingressIPs(svc),
	}
	for _, f := range svc.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			r.Families = append(r.Families, cluster.IPv4)
		case corev1.IPv6Protocol:
			r.Families = append(r.Families, cluster.IPv6)
		}
	}
	if ns, err := p.namespaces.Get(svc.Namespace); err == nil {
		r.NamespaceLabels = ns.Labels
	}
	r.Ask, notices, r.Invalid = ipam.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP)
	return r, notices
}

func ingressIPs(svc *corev1.Service) (ips []netip.Addr) {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			ips = append(ips, a)
		}
	}
	return ips
}

// statusOf writes addresses as the status of a Service. The mode VIP says that packets arrive with the address as their
// destination, so that nodes may short-cut them (KEP-1860).
func statusOf(addrs []netip.Addr) *corev1.LoadBalancerStatus {
	s := &corev1.LoadBalancerStatus{}
	for _, a := range addrs {
		s.Ingress = append(s.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	return s
}

// wants reports whether a Service is one for us: a load balancer without class.
func wants(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass == nil
}

var errBusy = errors.New("another change to the Service's addresses is under way")

func wrapVIP(verb string, a netip.Addr, err error) error {
	return fmt.Errorf("%s VIP %s: %w", verb, cluster.VIPName(a), err)
}
