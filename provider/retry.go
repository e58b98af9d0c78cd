package provider

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// After a write that failed the stock controller would make an event each time and try again after up to five minutes. Here
// it is tried again sooner, by waking that controller, with a back-off and at a different moment for each Service; it is told
// once, when it has failed twice.
const (
	retryWrite        = time.Second
	retryWriteLongest = 15 * time.Second
	// retryJitter is how much longer than its back-off a Service may have to wait.
	retryJitter = 0.5
)

// retryLater has a Service looked at again after its back-off.
func (p *Provider) retryLater(s cluster.Name) {
	p.again.AddAfter(s.String(), wait.Jitter(p.retries.When(s.String()), retryJitter))
}

// succeeded ends the back-off of a Service.
func (p *Provider) succeeded(s cluster.Name) { p.retries.Forget(s.String()) }

// failed has a Service served again that could not be because the API server failed, and tells of it if that goes on.
func (p *Provider) failed(svc *corev1.Service, err error) {
	name := nameOf(svc)
	again := p.retries.NumRequeues(name.String()) > 0
	p.Log.Warn("will try again", "service", name.String(), "err", err)
	p.retryLater(name)
	if !again {
		return
	}
	was := p.told.set(name, outcome{status: metav1.ConditionFalse, reason: v1alpha1.ServiceReasonWriteFailed, message: err.Error()})
	if was.reason != v1alpha1.ServiceReasonWriteFailed {
		p.Events.Event(svc, corev1.EventTypeWarning, v1alpha1.ServiceReasonWriteFailed, err.Error())
		p.conditions.Add(name.String())
	}
}
