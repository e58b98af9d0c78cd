package provider

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	servicehelpers "k8s.io/cloud-provider/service/helpers"
)

const (
	// retryWrite is when the stock controller tries again after the API server refused or did not answer. Its own
	// back-off goes up to five minutes.
	retryWrite = 5 * time.Second
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

// EnsureLoadBalancer gives a Service the addresses that it wants and returns them; where this controller is the only one, the
// VIPs are written at the same time as the status (onewrite.go). It may be called any number of times,
// with a Service from a stale cache too. Where the Service cannot have what it wants, it keeps what it has, its condition
// and an event say what to change, and it is served as soon as that is possible: the error is then ImplementedElsewhere,
// so that the stock controller neither tries again by itself nor tells of it at every try.
func (p *Provider) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	if err := p.waitReady(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	r, notices := p.request(svc)
	p.alloc.describe(r)
	d, addrs, wrote, err := p.alloc.ensure(ctx, r, p.Sole)
	if err != nil {
		return nil, api.NewRetryError(err.Error(), retryWrite)
	}
	p.left.put(r.Service, left{addrs, start})
	if wrote {
		p.metrics.allocated(time.Since(start))
	}
	p.tell(svc, d, notices)
	status := statusOf(d.Addresses)
	if err := p.finalize(ctx, svc, status); err != nil {
		return nil, api.NewRetryError(fmt.Sprintf("write Service %s: %v", r.Service, err), retryWrite)
	}
	if d.Problem != nil {
		p.waiting.add(svc, d.Problem)
		if len(d.Addresses) > 0 && !servicehelpers.LoadBalancerStatusEqual(&svc.Status.LoadBalancer, status) {
			return status, nil // it keeps what it has, and somebody has edited the status
		}
		return nil, cloudprovider.ImplementedElsewhere
	}
	if d.Missing != nil {
		p.waiting.add(svc, d.Missing)
	} else {
		p.waiting.remove(r.Service)
	}
	return status, nil
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
	p.left.take(name)
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
