package provider

import (
	"cmp"
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// mostTurns bounds how often a Service that comes new lets those that wait go first.
const mostTurns = 8

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
// and an event say what to change, and it is served as soon as that is possible; where the API server fails it is tried again
// (retry.go). The error is then ImplementedElsewhere, so that the stock controller neither tries again by itself nor tells of
// it at every try; and it is so where the status shows the addresses already, and for a Service whose namespace has not been seen.
func (p *Provider) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, _ []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	if err := p.waitReady(ctx); err != nil {
		return nil, err
	}
	if !p.knowsNamespace(svc) {
		return nil, cloudprovider.ImplementedElsewhere
	}
	start := time.Now()
	r, notices := p.request(svc)
	e, err := p.ensureInTurn(ctx, svc, r)
	if err != nil {
		p.failed(r.Service, err)
		return nil, cloudprovider.ImplementedElsewhere
	}
	p.left.put(r.Service, left{e.left, start})
	if e.wrote {
		p.metrics.allocated(time.Since(start))
	} else {
		p.metrics.decided(time.Since(start))
	}
	d := e.Decision
	p.tell(svc, r, d, notices)
	if waitsFor := cmp.Or(d.Problem, d.Missing); waitsFor != nil {
		p.waiting.add(svc, waitsFor)
		p.alloc.openSince(e.at)
	} else {
		p.waiting.remove(r.Service)
	}
	status := statusOf(d.Addresses)
	if err := p.finalize(ctx, svc, status); err != nil {
		p.failed(r.Service, err)
		return nil, cloudprovider.ImplementedElsewhere
	}
	if d.Problem != nil && len(d.Addresses) == 0 || servicehelpers.LoadBalancerStatusEqual(&svc.Status.LoadBalancer, status) {
		return nil, cloudprovider.ImplementedElsewhere // nothing is left to be written
	}
	return status, nil // with a problem: it keeps what it has, and somebody has edited the status
}

// ensureInTurn has the allocator serve a Service, after those that have waited for the same.
func (p *Provider) ensureInTurn(ctx context.Context, svc *corev1.Service, r ipam.Request) (ensured, error) {
	// After a failure the VIPs come first: the status is not to say again and again what is not so.
	together := p.Sole && p.retries.NumRequeues(r.Service.String()) == 0
	for turn := range mostTurns {
		e, err := p.alloc.ensure(ctx, r, together, turn == mostTurns-1)
		if !errors.Is(err, errQueue) {
			return e, err
		}
		p.waiting.arrive(svc)
		p.serveWaiting()
	}
	panic("unreachable: the last one jumps the queue")
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
	if err := p.alloc.release(ctx, name, neverMind); err != nil {
		p.failed(name, err)
		return err // else the stock controller would take the finalizer off
	}
	p.succeeded(name)
	p.tellNothing(svc)
	return nil
}

// neverMind is for the release of what the stock controller says is to be released.
func neverMind(cluster.Name) bool { return false }

// waitReady waits until everything has been read once. The stock controller is started after that.
func (p *Provider) waitReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
