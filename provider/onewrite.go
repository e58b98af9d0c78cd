package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/cluster"
)

// The stock service controller writes a Service's finalizer, lets the provider work, and writes the addresses; the provider
// has a condition to write as well. Three writes of one object are three versions for everybody who watches Services, which
// is every node. Here they are one: the controller is shown Services that have the finalizer already (class.go), and handed a
// client that adds it, and the condition, to the write of the addresses. VIPs that are to be created with
// it are written at the same time. When it cleans up, what it would take away by two writes goes with the first. See
// docs/decisions/one-write.md for why that may be.

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

// Patch adds the finalizer and the condition to a patch that sets addresses, and writes VIPs that were left to it. To one that
// takes the finalizer off it adds that the addresses and the condition go; the patch of the addresses alone that follows has
// nothing left to do. Addresses are told of when they have been written. What fails is repeated before the stock controller would.
func (c oneWriteServices) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (svc *corev1.Service, err error) {
	service := cluster.Name{Namespace: c.namespace, Name: name}
	var patch servicePatch
	if err := json.Unmarshal(data, &patch); err != nil {
		return nil, fmt.Errorf("the service controller's patch of Service %s: %w", service, err)
	}
	cleared := c.provider.cleared.take(service)
	removes, gives := patch.removesFinalizer(), false
	switch {
	case cleared && patch.onlyClears():
		return &corev1.Service{}, nil
	case removes:
		patch.Status = map[string]any{"loadBalancer": nil, "conditions": []any{noCondition()}}
	case patch.Status != nil:
		if gives = !patch.onlyClears(); gives {
			patch.Metadata = finalizer()
		}
		if entry, ok := c.provider.statusPatch(service)["conditions"]; ok {
			patch.Status["conditions"] = entry
		}
	}
	if data, err = json.Marshal(patch); err != nil {
		return nil, err
	}
	start := time.Now()
	var written error
	var vips sync.WaitGroup
	vips.Go(func() { written = c.provider.writeLeft(ctx, service) })
	svc, err = c.ServiceInterface.Patch(ctx, name, pt, data, opts, subresources...)
	vips.Wait()
	if err == nil && gives {
		c.provider.ensured.write(c.provider, svc)
	}
	switch {
	case written != nil: // it has been seen to
	case err != nil && !apierrors.IsNotFound(err):
		c.provider.failed(service, err)
	default:
		if err == nil && gives {
			c.provider.metrics.wrote(time.Since(start))
		}
		c.provider.succeeded(service)
	}
	if err == nil && removes {
		c.provider.ensured.forget(service)
		c.provider.cleared.put(service)
	}
	return svc, err
}

// removesFinalizer reports whether a patch takes the finalizer off, the only one that the stock controller ever does.
func (p *servicePatch) removesFinalizer() bool {
	rest, all := p.Metadata["finalizers"]
	_, one := p.Metadata["$deleteFromPrimitiveList/finalizers"]
	return one || all && rest == nil
}

// onlyClears reports whether a patch takes all addresses away and does nothing else. What it says of the order of finalizers
// is not about those that it names.
func (p *servicePatch) onlyClears() bool {
	lb, _ := p.Status["loadBalancer"].(map[string]any)
	ingress, has := lb["ingress"]
	return !p.removesFinalizer() && has && ingress == nil
}

// Events returns the client of the events of a namespace, without those that the stock controller makes at every try: that
// something is about to be done, that the addresses are there before they are written (Patch tells), that a write has failed
// (failed tells), and that there are no nodes (the nodes tell of addresses that nobody announces).
func (c oneWriteCore) Events(namespace string) coreclient.EventInterface {
	return fewerEvents{c.CoreV1Interface.Events(namespace)}
}

type fewerEvents struct{ coreclient.EventInterface }

// leavesOut reports whether an event is not to be written.
func (c fewerEvents) leavesOut(e *corev1.Event) bool {
	switch e.Reason {
	case "EnsuringLoadBalancer", "DeletingLoadBalancer", reasonEnsured,
		"SyncLoadBalancerFailed", "DeleteLoadBalancerFailed", "UnAvailableLoadBalancer":
		return true
	}
	return false
}

// CreateWithEventNamespace creates an event, unless it is left out.
func (c fewerEvents) CreateWithEventNamespace(e *corev1.Event) (*corev1.Event, error) {
	if c.leavesOut(e) {
		return e, nil
	}
	return c.EventInterface.CreateWithEventNamespace(e) //nolint:staticcheck // the recorder calls this one
}

// PatchWithEventNamespace counts an event that comes again, unless it is left out: the recorder believes that it was written.
func (c fewerEvents) PatchWithEventNamespace(e *corev1.Event, data []byte) (*corev1.Event, error) {
	if c.leavesOut(e) {
		return e, nil
	}
	return c.EventInterface.PatchWithEventNamespace(e, data) //nolint:staticcheck // the recorder calls this one
}

// writeLeft writes the VIPs that were left to be written with the status. If that fails, or somebody else has one of the
// addresses, the status shows what nobody serves: the Service is served anew.
func (p *Provider) writeLeft(ctx context.Context, s cluster.Name) error {
	left := p.left.take(s)
	if len(left.addrs) == 0 {
		return nil
	}
	agreed, err := p.alloc.writeAll(ctx, left.addrs)
	switch {
	case err != nil:
		p.failed(s, err)
	case !agreed:
		p.again.Add(s.String())
	default:
		p.metrics.allocated(time.Since(left.since))
	}
	return err
}

// names is a set of Services.
type names struct {
	mu  sync.Mutex
	set map[cluster.Name]struct{}
}

func (n *names) put(s cluster.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set[s] = struct{}{}
}

// take takes a Service out, and reports whether it was there.
func (n *names) take(s cluster.Name) (was bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, was = n.set[s]
	delete(n.set, s)
	return was
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
	return p.serves(svc) && !servicehelpers.HasLBFinalizer(svc)
}

// finalizer is the strategic merge patch that adds it to those that are there. It is part of every write of addresses: that
// the cache shows it does not mean that it is there.
func finalizer() map[string]any {
	return map[string]any{"finalizers": []string{servicehelpers.LoadBalancerCleanupFinalizer}}
}

// finalize writes what was left, and the finalizer, where the stock controller will not write the Service for another reason,
// because it has the addresses that it is to have.
func (p *Provider) finalize(ctx context.Context, shown *corev1.Service, status *corev1.LoadBalancerStatus) error {
	if len(status.Ingress) > 0 && !servicehelpers.LoadBalancerStatusEqual(&shown.Status.LoadBalancer, status) {
		return nil
	}
	name := nameOf(shown)
	if p.writeLeft(ctx, name) != nil {
		return nil // it has been seen to
	}
	if svc, err := p.services.Services(shown.Namespace).Get(shown.Name); err == nil && len(status.Ingress) > 0 && p.lacksFinalizer(svc) {
		data, err := json.Marshal(servicePatch{Metadata: finalizer(), Status: p.statusPatch(name)})
		if err != nil {
			return err
		}
		_, err = p.Kube.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	p.succeeded(name)
	return nil
}
