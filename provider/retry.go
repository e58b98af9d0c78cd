package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// After a write that failed the stock controller would make an event each time and try again after up to five minutes. Here
// it is tried again sooner, by waking that controller, with a back-off and at a different moment for each Service; it is told
// once, when it has failed twice. Where that controller must be told of the failure (onewrite.go), its events are left out.
const (
	retryWrite        = time.Second
	retryWriteLongest = 15 * time.Second
	// retryJitter is how much longer than its back-off a Service may have to wait.
	retryJitter = 0.5
)

// succeeded ends the back-off of a Service.
func (p *Provider) succeeded(s cluster.Name) {
	p.retries.Forget(s.String())
	p.told.mended(s)
}

// failed has a Service looked at again for which something could not be written, after its back-off, and tells of it once, if that
// goes on.
func (p *Provider) failed(s cluster.Name, err error) {
	key := s.String()
	p.Log.Warn("will try again", "service", key, "err", err)
	svc, gone := p.services.Services(s.Namespace).Get(s.Name)
	if gone != nil {
		p.again.AddAfter(key, retryWriteLongest) // there is nothing to tell, and nothing is to be kept of it
		return
	}
	before := p.retries.NumRequeues(key)
	p.again.AddAfter(key, wait.Jitter(p.retries.When(key), retryJitter))
	if before == 0 {
		return
	}
	message := err.Error() + "; it is tried again every few seconds until that is over"
	p.told.fail(s, message)
	if before == 1 {
		p.Events.Event(svc, corev1.EventTypeWarning, v1alpha1.ServiceReasonWriteFailed, message)
		p.conditions.Add(key)
	}
}
