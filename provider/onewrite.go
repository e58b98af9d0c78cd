package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// The stock service controller writes a Service's finalizer, lets the provider work, and writes the addresses; the provider
// has a condition to write as well. Three writes of one object are three versions for everybody who watches Services, which
// is every node. Here they are one: the controller is shown Services that have the finalizer already (class.go), and handed a
// client that adds what is missing of it, and the condition, to the write of the addresses. VIPs that are to be created with
// it are written at the same time. See docs/decisions/one-write.md for why that may be.

// Client returns the client to hand to the stock service controller.
func (p *Provider) Client(kube kubernetes.Interface) kubernetes.Interface {
	return oneWriteClient{kube, p}
}

type oneWriteClient struct {
	kubernetes.Interface
	provider *Provider
}

// CoreV1 returns the client whose Services are written once.
func (c oneWriteClient) CoreV1() coreclient.CoreV1Interface {
	return oneWriteCore{c.Interface.CoreV1(), c.provider}
}

type oneWriteCore struct {
	coreclient.CoreV1Interface
	provider *Provider
}

// Services returns the client of the Services of a namespace.
func (c oneWriteCore) Services(namespace string) coreclient.ServiceInterface {
	return oneWriteServices{c.CoreV1Interface.Services(namespace), c.provider, namespace}
}

type oneWriteServices struct {
	coreclient.ServiceInterface
	provider  *Provider
	namespace string
}

// servicePatch is the strategic merge patch of a Service's metadata and status.
type servicePatch struct {
	Metadata map[string]any `json:"metadata,omitempty"`
	Status   map[string]any `json:"status,omitempty"`
}

// Patch adds the finalizer, if the Service does not have it, and the condition to a patch that sets addresses, and writes VIPs
// that were left to it. Of a patch that takes addresses away it takes the condition along.
func (c oneWriteServices) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*corev1.Service, error) {
	var patch servicePatch
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, fmt.Errorf("the service controller's patch of Service %s/%s: %w", c.namespace, name, err)
	}
	if patch.Status == nil {
		return c.ServiceInterface.Patch(ctx, name, pt, data, opts, subresources...)
	}
	service := cluster.Name{Namespace: c.namespace, Name: name}
	if svc, err := c.provider.services.Services(c.namespace).Get(name); err == nil && c.provider.lacksFinalizer(svc) {
		patch.Metadata = finalizer()
	}
	if entry := c.provider.conditionEntry(service); entry != nil {
		patch.Status["conditions"] = []any{entry}
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	var vips sync.WaitGroup
	vips.Go(func() { c.provider.writeLeft(ctx, service) })
	defer vips.Wait()
	return c.ServiceInterface.Patch(ctx, name, pt, data, opts, subresources...)
}

// writeLeft writes the VIPs that were left to be written with the status. If that fails, or somebody else has one of the
// addresses, the status shows what nobody serves: the Service is served anew.
func (p *Provider) writeLeft(ctx context.Context, s cluster.Name) {
	left := p.left.take(s)
	if len(left.addrs) == 0 {
		return
	}
	switch agreed, err := p.alloc.writeAll(ctx, left.addrs); {
	case err != nil:
		p.Log.Warn("will try again", "service", s.String(), "after", retryWrite, "err", err)
		p.told.set(s, outcome{status: metav1.ConditionFalse, reason: v1alpha1.ServiceReasonWriteFailed, message: err.Error()})
		p.conditions.Add(s.String())
		p.again.AddAfter(s.String(), retryWrite)
	case !agreed:
		p.again.Add(s.String())
	default:
		p.metrics.allocated(time.Since(left.since))
	}
}

// left are addresses of a Service whose VIPs are to be created when its status is written.
type left struct {
	addrs []netip.Addr
	// since is when the Service began to be served.
	since time.Time
}

// leftovers are what is left of all Services.
type leftovers struct {
	mu sync.Mutex
	of map[cluster.Name]left
}

func (l *leftovers) put(s cluster.Name, what left) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(what.addrs) > 0 {
		l.of[s] = what
	} else {
		delete(l.of, s)
	}
}

func (l *leftovers) take(s cluster.Name) left {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := l.of[s]
	delete(l.of, s)
	return what
}

// lacksFinalizer reports whether a Service is to have the finalizer and has not.
func (p *Provider) lacksFinalizer(svc *corev1.Service) bool {
	return p.wants(svc) && svc.DeletionTimestamp == nil && !servicehelpers.HasLBFinalizer(svc)
}

// finalizer is the strategic merge patch that adds it to those that are there.
func finalizer() map[string]any {
	return map[string]any{"finalizers": []string{servicehelpers.LoadBalancerCleanupFinalizer}}
}

// finalize writes what was left, and the finalizer, where the stock controller will not write the Service for another reason,
// because it has the addresses that it is to have.
func (p *Provider) finalize(ctx context.Context, shown *corev1.Service, status *corev1.LoadBalancerStatus) error {
	if len(status.Ingress) > 0 && !servicehelpers.LoadBalancerStatusEqual(&shown.Status.LoadBalancer, status) {
		return nil
	}
	p.writeLeft(ctx, nameOf(shown))
	if len(status.Ingress) == 0 {
		return nil
	}
	svc, err := p.services.Services(shown.Namespace).Get(shown.Name)
	if err != nil || !p.lacksFinalizer(svc) {
		return nil // gone, or it has it
	}
	data, err := json.Marshal(servicePatch{Metadata: finalizer()})
	if err != nil {
		return err
	}
	_, err = p.Kube.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager}, "status")
	return err
}
