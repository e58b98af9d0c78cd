package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
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
	// given are the messages of outcomes that say nothing else: most Services just have their addresses, and there may be many.
	given map[cluster.Name]string
	// failed say, in place of the outcome, that it could not be written and why, until there is another one.
	failed map[cluster.Name]string
}

// outcome is what came of a Service's request. The zero value takes the condition away.
type outcome struct {
	status          metav1.ConditionStatus
	reason, message string
	notices         string
	// asked is what a request that cannot be met was for: another problem with the same request is the same piece of news.
	asked string
}

// given is the outcome of a Service that has what it asked for.
func given(message string) outcome {
	return outcome{status: metav1.ConditionTrue, reason: v1alpha1.ServiceReasonAllocated, message: message}
}

// fail notes that what came of a Service's request could not be written.
func (t *told) fail(s cluster.Name, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed[s] = message
}

// mended takes back what fail noted.
func (t *told) mended(s cluster.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failed, s)
}

// countFailed returns for how many Services something cannot be written.
func (t *told) countFailed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failed)
}

// set returns the outcome before, whether or not that could be written.
func (t *told) set(s cluster.Name, o outcome) (was outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, _ = t.of(s)
	t.drop(s)
	if o == given(o.message) {
		t.given[s] = o.message
	} else {
		t.outcomes[s] = o
	}
	return was
}

func (t *told) get(s cluster.Name) (outcome, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if message, ok := t.failed[s]; ok {
		return outcome{status: metav1.ConditionFalse, reason: v1alpha1.ServiceReasonWriteFailed, message: message}, true
	}
	return t.of(s)
}

func (t *told) forget(s cluster.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(s)
}

// of returns the outcome of a Service; mu is held.
func (t *told) of(s cluster.Name) (outcome, bool) {
	if message, ok := t.given[s]; ok {
		return given(message), true
	}
	o, ok := t.outcomes[s]
	return o, ok
}

// drop forgets the outcome of a Service; mu is held.
func (t *told) drop(s cluster.Name) {
	delete(t.outcomes, s)
	delete(t.given, s)
	delete(t.failed, s)
}

// names returns the Services whose conditions shall say something.
func (t *told) names() []cluster.Name {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.AppendSeq(slices.AppendSeq(slices.Collect(maps.Keys(t.outcomes)), maps.Keys(t.given)), maps.Keys(t.failed))
}

// tell has the Service's condition say what came of its request, and makes events of what is new: another reason why it
// cannot be met, or other notices. Figures and names in the message change without an event; and in the condition some time
// later, since one change of a pool changes them for all that wait.
// The stock controller's write of the addresses takes the condition along, and the event about a success follows from it.
func (p *Provider) tell(svc *corev1.Service, r ipam.Request, d ipam.Decision, notices []string) {
	o := outcomeOf(r, d, notices)
	name := nameOf(svc)
	was := p.told.set(name, o)
	// What an earlier controller told is in the condition.
	shown := cmp.Or(meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated), &metav1.Condition{})
	if o.notices != "" && o.notices != was.notices && !strings.Contains(shown.Message, o.notices) {
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
	if known := was.reason == "" && shown.Reason == o.reason; !known && (o.reason != was.reason || o.asked != was.asked) {
		p.Events.Event(svc, corev1.EventTypeWarning, o.reason, strings.TrimSuffix(o.message, withNotices("", o.notices)))
	} else if shown.Reason == o.reason && len(shown.Message) > 0 && o.asked == was.asked {
		p.conditions.AddAfter(name.String(), detailsDelay)
		return
	}
	p.conditions.Add(name.String())
}

const (
	// alongWith is how long a condition waits to be written along with the addresses before it is written alone.
	alongWith = 2 * time.Second
	// detailsDelay is how long a condition waits of which only the details are new.
	detailsDelay = 10 * time.Second
)

// tellNothing takes the condition away from a Service that is no load balancer any more; the stock controller's clean-up
// takes that along, where there is one.
func (p *Provider) tellNothing(svc *corev1.Service) {
	name := nameOf(svc)
	if now, err := p.services.Services(name.Namespace).Get(name.Name); err != nil || now.DeletionTimestamp != nil || p.serves(now) {
		return // gone, or back
	}
	p.told.set(name, outcome{})
	p.conditions.AddAfter(name.String(), alongWith)
}

func outcomeOf(r ipam.Request, d ipam.Decision, notices []string) outcome {
	o := given(join(d.Addresses))
	o.notices = strings.Join(notices, "; ")
	switch {
	case d.Problem != nil:
		o.status, o.reason, o.message = metav1.ConditionFalse, string(d.Problem.Reason), d.Problem.Message
		if len(d.Addresses) > 0 {
			o.message += fmt.Sprintf("; until then the Service keeps %s", join(d.Addresses))
		}
		o.asked = fmt.Sprintf("%v %v %v %v", r.Families, r.Ask, r.Sharing, r.Ports)
	case d.Missing != nil:
		o.message += "; " + d.Missing.Message
	}
	o.message = withNotices(o.message, o.notices)
	return o
}

// withNotices keeps notices in the condition, where a controller that starts anew finds that they have been told.
func withNotices(message, notices string) string {
	if notices == "" {
		return message
	}
	return message + "; note: " + notices
}

func join[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return strings.Join(out, ", ")
}

// syncCondition writes what a Service's status shall say, apart from addresses that it gets.
func (p *Provider) syncCondition(ctx context.Context, key string) error {
	name := nameOfKey(key)
	status := p.statusPatch(name)
	if status == nil {
		return nil
	}
	data, err := json.Marshal(servicePatch{Status: status})
	if err != nil {
		return fmt.Errorf("encode the condition of Service %s: %w", key, err)
	}
	_, err = p.Kube.CoreV1().Services(name.Namespace).Patch(ctx, name.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the condition of Service %s: %w", key, err)
	}
	return nil
}

// statusPatch returns the strategic merge patch of a Service's status that makes its condition say what came of its request,
// and takes addresses away that it shows although it waits and holds none; nil when nothing is to be changed.
func (p *Provider) statusPatch(s cluster.Name) map[string]any {
	o, ok := p.told.get(s)
	if !ok {
		return nil
	}
	svc, err := p.services.Services(s.Namespace).Get(s.Name)
	if err != nil {
		return nil // gone
	}
	patch := map[string]any{}
	if entry := conditionEntry(svc, o, metav1.Now()); entry != nil {
		patch["conditions"] = []any{entry}
	}
	if o.asked != "" && p.serves(svc) && len(svc.Status.LoadBalancer.Ingress) > 0 && len(p.alloc.held(s)) == 0 {
		patch["loadBalancer"] = map[string]any{"ingress": nil}
	}
	if len(patch) == 0 {
		return nil
	}
	return patch
}

func conditionEntry(svc *corev1.Service, o outcome, now metav1.Time) any {
	if o.status == "" {
		if meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ServiceAddressAllocated) == nil {
			return nil
		}
		return noCondition()
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

// noCondition is the entry of a strategic merge patch that takes the condition away.
func noCondition() any {
	return map[string]string{"$patch": "delete", "type": v1alpha1.ServiceAddressAllocated}
}
