package provider

import (
	"context"
	"encoding/json"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	servicehelpers "k8s.io/cloud-provider/service/helpers"

	"github.com/seamark-io/seamark/cluster"
)

// The stock service controller writes a Service's finalizer, lets the provider work, and writes the addresses; the provider
// has a condition to write as well. Three writes of one object are three versions for everybody who watches Services, which
// is every node. The controller is handed a client that makes them one: it holds the finalizer back and writes it, and the
// condition, together with the addresses. See docs/decisions/one-write.md for why the finalizer may wait.

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
	Metadata map[string]json.RawMessage `json:"metadata,omitempty"`
	Status   map[string]any             `json:"status,omitempty"`
}

// Patch holds back a patch that only adds the finalizer, and adds it and the condition to one of the addresses.
func (c oneWriteServices) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*corev1.Service, error) {
	var patch servicePatch
	if err := json.Unmarshal(data, &patch); err != nil {
		return c.ServiceInterface.Patch(ctx, name, pt, data, opts, subresources...)
	}
	service := cluster.Name{Namespace: c.namespace, Name: name}
	if _, adds := patch.Metadata["finalizers"]; adds && patch.Status == nil {
		c.provider.heldBack.put(service, patch.Metadata)
		return &corev1.Service{}, nil // the controller looks only at the error
	}
	if patch.Status != nil {
		finalizer := c.provider.heldBack.take(service)
		if finalizer != nil && patch.Metadata == nil {
			patch.Metadata = map[string]json.RawMessage{}
		}
		maps.Copy(patch.Metadata, finalizer)
		if entry := c.provider.conditionEntry(service); entry != nil {
			patch.Status["conditions"] = []any{entry}
		}
		var err error
		if data, err = json.Marshal(patch); err != nil {
			return nil, err
		}
	}
	return c.ServiceInterface.Patch(ctx, name, pt, data, opts, subresources...)
}

// heldBack are the patches of metadata that add the finalizer and are not written yet.
type heldBack struct {
	mu      sync.Mutex
	patches map[cluster.Name]map[string]json.RawMessage
}

func (h *heldBack) put(s cluster.Name, metadata map[string]json.RawMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.patches[s] = metadata
}

func (h *heldBack) take(s cluster.Name) map[string]json.RawMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	metadata := h.patches[s]
	delete(h.patches, s)
	return metadata
}

// finalize writes a finalizer that was held back, where the stock controller will not write the Service for another reason:
// because it has the addresses that it is to have.
func (p *Provider) finalize(ctx context.Context, svc *corev1.Service, status *corev1.LoadBalancerStatus) error {
	if len(status.Ingress) > 0 && !servicehelpers.LoadBalancerStatusEqual(&svc.Status.LoadBalancer, status) {
		return nil
	}
	metadata := p.heldBack.take(nameOf(svc))
	if metadata == nil || len(status.Ingress) == 0 {
		return nil // without addresses there is nothing to clean up
	}
	data, err := json.Marshal(servicePatch{Metadata: metadata})
	if err != nil {
		return err
	}
	_, err = p.Kube.CoreV1().Services(svc.Namespace).Patch(ctx, svc.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{FieldManager: FieldManager}, "status")
	return err
}
