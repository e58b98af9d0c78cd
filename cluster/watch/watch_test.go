package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/seamark-io/seamark/api/client"
	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// stub lists what it holds and passes on what a test sends. A list waits until it is released.
type stub[T, L any] struct {
	client.Resource[T, L]
	list    L
	release chan struct{}
	events  *watch.FakeWatcher
}

func (s stub[T, L]) List(ctx context.Context, _ metav1.ListOptions) (L, error) {
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	return s.list, ctx.Err()
}

func (s stub[T, L]) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return s.events, nil
}

func (s stub[T, L]) IsWatchListSemanticsUnSupported() bool { return true }

func TestSnapshotIsNilUntilEveryKindIsListed(t *testing.T) {
	released, held := make(chan struct{}), make(chan struct{})
	close(released)
	kube := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"fd00:96::/108", "10.96.0.0/16"}}},
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16", "10.95.0.0/16"}}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "seamark-system", Name: "tor"}, Data: map[string][]byte{"password": []byte("s3cret")}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "seamark-system", Name: "seamark-heartbeat"}, Data: map[string][]byte{"key": []byte("a"), "next": []byte("b")}},
		lease("seamark-node.n1", "n1", "10.0.0.0/24=eth0 rubbish"), lease("seamark-node.nobody", "", ""),
	)
	vips := watch.NewFake()
	w, err := New(Config{
		Kube: kube,
		Seamark: &client.Client{
			IPPools: stub[*v1alpha1.IPPool, *v1alpha1.IPPoolList]{list: &v1alpha1.IPPoolList{}, release: held, events: watch.NewFake()},
			BGPPeers: stub[*v1alpha1.BGPPeer, *v1alpha1.BGPPeerList]{
				list: &v1alpha1.BGPPeerList{Items: []v1alpha1.BGPPeer{{
					ObjectMeta: metav1.ObjectMeta{Name: "tor"},
					Spec:       v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.1", PasswordSecretRef: &v1alpha1.SecretReference{Name: "tor"}},
				}}},
				release: released, events: watch.NewFake(),
			},
			VIPs: stub[*v1alpha1.VIP, *v1alpha1.VIPList]{list: &v1alpha1.VIPList{}, release: released, events: vips},
		},
		Namespace: "seamark-system",
		Log:       slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	source := w.Source()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()

	select {
	case <-source.Changed():
		t.Fatal("told of a change before the pools were listed")
	case <-time.After(300 * time.Millisecond):
	}
	if source.Snapshot() != nil {
		t.Fatal("a snapshot without pools would withdraw every address")
	}
	close(held)

	s := await(t, source, func(s *cluster.Snapshot) bool { return true })
	if _, ok := s.Namespaces["ns"]; !ok || s.Peers["tor"].Password != "s3cret" {
		t.Errorf("namespaces %v, peer %+v", s.Namespaces, s.Peers["tor"])
	}

	if got := fmt.Sprint(s.ServiceCIDRs); got != "[10.95.0.0/16 10.96.0.0/16 fd00:96::/108]" {
		t.Errorf("ranges of cluster IPs: %s", got)
	}

	if a := s.Agents["n1"]; len(s.Agents) != 1 || a == nil || len(a.Interfaces) != 1 || a.Interfaces[netip.MustParsePrefix("10.0.0.0/24")] != "eth0" {
		t.Errorf("agents %+v", s.Agents)
	}
	if k := s.Heartbeat; k == nil || string(k.Send) != "a" || len(k.Accept) != 1 || string(k.Accept[0]) != "b" {
		t.Errorf("keys of heartbeats %+v", k)
	}

	before := s
	vips.Add(&v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.7"}, Spec: v1alpha1.VIPSpec{Address: "192.0.2.7", Pool: "p"}})
	vip := netip.MustParseAddr("192.0.2.7")
	await(t, source, func(s *cluster.Snapshot) bool { return s.VIPs[vip] != nil })
	if len(before.VIPs) != 0 {
		t.Error("a snapshot changed after it was given out")
	}

	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func lease(name, holder, segments string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "seamark-system", Name: name, Labels: map[string]string{"seamark.io/agent": "true"}, Annotations: map[string]string{"seamark.io/segments": segments},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder},
	}
}

func await(t *testing.T, s *Source, ok func(*cluster.Snapshot) bool) *cluster.Snapshot {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-s.Changed():
			if snap := s.Snapshot(); snap != nil && ok(snap) {
				return snap
			}
		case <-deadline:
			t.Fatal("the snapshot did not come")
		}
	}
}
