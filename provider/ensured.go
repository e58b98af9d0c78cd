package provider

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"

	"github.com/seamark-io/seamark/cluster"
)

// reasonEnsured is the stock controller's word for a Service that has its addresses.
const reasonEnsured = "EnsuredLoadBalancer"

// So many of these events are made at once, and each second. Of a thousand Services at once nobody reads a thousand events, and each
// is a third of what the controller writes for a Service; the condition says the same.
const (
	ensuredAtOnce  = 100
	ensuredASecond = 5
)

// ensuredCache is of how many Services it is remembered what was told last: more than are told of while a cache is behind.
const ensuredCache = 256

// ensuredEvents are those about Services that have their addresses.
type ensuredEvents struct {
	rate flowcontrol.PassiveRateLimiter
	last *lru.Cache
}

func newEnsured() ensuredEvents {
	return ensuredEvents{flowcontrol.NewTokenBucketPassiveRateLimiter(ensuredASecond, ensuredAtOnce), lru.New(ensuredCache)}
}

// write writes the event about a Service whose addresses have been written, but for one that there was a moment ago: the stock controller
// writes again what it does not see in its cache yet.
func (e *ensuredEvents) write(p *Provider, svc *corev1.Service) {
	s, addresses := nameOf(svc), svc.Status.LoadBalancer.String()
	if last, ok := e.last.Get(s); ok && last == addresses || !e.rate.TryAccept() {
		return
	}
	e.last.Add(s, addresses)
	p.Events.Event(svc, corev1.EventTypeNormal, reasonEnsured, "Ensured load balancer")
}

// forget has the Service told of again, whatever it is given.
func (e *ensuredEvents) forget(s cluster.Name) { e.last.Remove(s) }
