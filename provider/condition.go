package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// told is what the Services' conditions shall say.
type told struct {
	mu       sync.Mutex
	outcomes map[cluster.Name]outcome
}

// outcome is what came of a Service's request. The zero value takes the condition away.
type outcome struct {
	status          metav1.ConditionStatus
	reason, message string
	notices         string
}

// set returns the outcome that was told before.
func (t *told) set(s cluster.Name, o outcome) (was outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was = t.outcomes[s]
	t.outcomes[s] = o
	return was
}

func (t *told) get(s cluster.Name) (outcome, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.outcomes[s]
	return o, ok
}

func (t *told) forget(s cluster.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.outcomes, s)
}

// tell has the Service's condition say what came of its request, and makes events of what is new: a problem, or notices.
// The event about a success is the stock controller's, and its write of the addresses takes the condition along.
func (p *Provider) tell(svc *corev1.Service, d ipam.Decision, notices []string) {
	o := outcomeOf(d)
	o.notices = strings.Join(notices, "; ")
	name := nameOf(svc)
	was := p.told.set(name, o)
	if o.notices != "" && o.notices != was.notices {
		p.Events.Event(svc, corev1.EventTypeWarning, v1alpha1.ServiceReasonConflictingRequest, o.notices)
	}
	if d.Problem == nil {
		delay := alongWith
		if servicehelpers.LoadBalancerStatusEqual(&svc.Status.LoadBalancer, statusOf(d.Addresses)) {
			delay = 0 // nothing else will be written
		}
		p.conditions.AddAfter(name.String(), delay)
		return
	}
	shown := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated)
	before := shown != nil && shown.Reason == o.reason && shown.Message == o.message // told by an earlier controller
	if !before && (o.reason != was.reason || o.message != was.message) {
		p.Events.Event(svc, corev1.EventTypeWarning, o.reason, o.message)
	}
	p.conditions.Add(name.String())
}

// alongWith is how long a condition waits to be written along with the addresses before it is written alone.
const alongWith = 2 * time.Second

// tellNothing takes the condition away from a Service that is no load balancer any more.
func (p *Provider) tellNothing(svc *corev1.Service) {
	if svc.DeletionTimestamp == nil {
		p.told.set(nameOf(svc), outcome{})
		p.conditions.Add(nameOf(svc).String())
	}
}

func outcomeOf(d ipam.Decision) outcome {
	if d.Problem != nil {
		o := outcome{status: metav1.ConditionFalse, reason: string(d.Problem.Reason), message: d.Problem.Message}
		if len(d.Addresses) > 0 {
			o.message += fmt.Sprintf("; until then the Service keeps %s", join(d.Addresses))
		}
		return o
	}
	o := outcome{status: metav1.ConditionTrue, reason: v1alpha1.ServiceReasonAllocated, message: join(d.Addresses)}
	if d.Missing != nil {
		o.message += "; " + d.Missing.Message
	}
	return o
}

func join[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return strings.Join(out, ", ")
}

func (p *Provider) syncCondition(ctx context.Context, key string) error {
	name := nameOfKey(key)
	entry := p.conditionEntry(name)
	if entry == nil {
		return nil
	}
	data, err := json.Marshal(servicePatch{Status: map[string]any{"conditions": []any{entry}}})
	if err != nil {
		return fmt.Errorf("encode the condition of Service %s: %w", key, err)
	}
	_, err = p.Kube.CoreV1().Services(name.Namespace).Patch(ctx, name.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the condition of Service %s: %w", key, err)
	}
	return nil
}

// conditionEntry returns the entry of a strategic merge patch that makes a Service's condition say what came of its
// request; nil when it says so already.
func (p *Provider) conditionEntry(s cluster.Name) any {
	o, ok := p.told.get(s)
	if !ok {
		return nil
	}
	svc, err := p.services.Services(s.Namespace).Get(s.Name)
	if err != nil {
		return nil // gone
	}
	return conditionEntry(svc, o, metav1.Now())
}

func conditionEntry(svc *corev1.Service, o outcome, now metav1.Time) any {
	if o.status == "" {
		if meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated) == nil {
			return nil
		}
		return map[string]string{"$patch": "delete", "type": v1alpha1.ServiceAddressAllocated}
	}
	conditions := slices.Clone(svc.Status.Conditions)
	if !meta.SetStatusCondition(&conditions, metav1.Condition{
		Type: v1alpha1.ServiceAddressAllocated, Status: o.status, Reason: o.reason, Message: o.message,
		ObservedGeneration: svc.Generation, LastTransitionTime: now,
	}) {
		return nil
	}
	return meta.FindStatusCondition(conditions, v1alpha1.ServiceAddressAllocated)
}
