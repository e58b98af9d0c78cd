package client

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// Resource is the client of one kind. T is the pointer type of an object, L that of its list.
type Resource[T, L any] interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
	Create(ctx context.Context, obj T, opts metav1.CreateOptions) (T, error)
	Update(ctx context.Context, obj T, opts metav1.UpdateOptions) (T, error)
	UpdateStatus(ctx context.Context, obj T, opts metav1.UpdateOptions) (T, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

type (
	// IPPools is the client of IPPool objects.
	IPPools = Resource[*v1alpha1.IPPool, *v1alpha1.IPPoolList]
	// BGPPeers is the client of BGPPeer objects.
	BGPPeers = Resource[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]
	// VIPs is the client of VIP objects.
	VIPs = Resource[*v1alpha1.VIP, *v1alpha1.VIPList]
)

// Client holds the clients of all kinds.
type Client struct {
	IPPools  IPPools
	BGPPeers BGPPeers
	VIPs     VIPs
}

// New makes a client. The configuration is copied; its content type is set to JSON, the only one that custom
// resources have.
func New(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c := rest.CopyConfig(config)
	c.APIPath = "/apis"
	c.GroupVersion = &v1alpha1.SchemeGroupVersion
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	r, err := rest.RESTClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", v1alpha1.SchemeGroupVersion, err)
	}
	codec := runtime.NewParameterCodec(scheme)
	return &Client{
		IPPools: gentype.NewClientWithList("ippools", r, codec, "",
			func() *v1alpha1.IPPool { return &v1alpha1.IPPool{} }, func() *v1alpha1.IPPoolList { return &v1alpha1.IPPoolList{} }),
		BGPPeers: gentype.NewClientWithList("bgppeers", r, codec, "",
			func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} }, func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} }),
		VIPs: gentype.NewClientWithList("vips", r, codec, "",
			func() *v1alpha1.VIP { return &v1alpha1.VIP{} }, func() *v1alpha1.VIPList { return &v1alpha1.VIPList{} }),
	}, nil
}

// ApplyStatus applies the status in obj by server-side apply as the given field manager: fields that the manager
// applied before and that obj leaves out are removed, fields of other managers stay. obj needs apiVersion, kind, name
// and the fields that are meant.
func ApplyStatus[T, L any](ctx context.Context, r Resource[T, L], manager, name string, obj any) error {
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("encode the status of %s: %w", name, err)
	}
	force := true
	_, err = r.Patch(ctx, name, types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: manager, Force: &force}, "status")
	return err
}
