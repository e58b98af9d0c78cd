package speaker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

// The Lease says what the node's interfaces are, belongs to the Node, comes back when it is deleted, and outlives the agent.
func TestMembership(t *testing.T) {
	kube := fake.NewClientset()
	var failures, writes atomic.Int32
	failures.Store(1)
	kube.PrependReactor("patch", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		writes.Add(1)
		if failures.Add(-1) >= 0 {
			return true, nil, errors.New("the API server is away")
		}
		return false, nil, nil
	})
	m := newMembership(Config{Node: "n1", Namespace: "seamark-system", Leases: kube.CoordinationV1(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { m.run(ctx); close(ended) }()

	lease := func() *coordinationv1.Lease {
		l, err := kube.CoordinationV1().Leases("seamark-system").Get(t.Context(), "seamark-node.n1", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return l
	}
	segments := map[netip.Prefix]string{netip.MustParsePrefix("10.0.0.0/24"): "eth0"}
	snap := &cluster.Snapshot{Agents: map[string]*cluster.Agent{}}
	m.set(snap, segments)
	time.Sleep(50 * time.Millisecond)
	if writes.Load() > 0 {
		t.Error("written although there is no Node")
	}
	snap.Nodes = map[string]*cluster.Node{"n1": {Name: "n1", UID: "u1"}}
	m.set(snap, segments)
	netlab.Eventually(t, "the Lease is there, after a failure", func() bool { return lease() != nil })
	l := lease()
	if *l.Spec.HolderIdentity != "n1" || *l.Spec.LeaseDurationSeconds != 600 || l.Spec.RenewTime == nil ||
		l.Annotations["seamark.io/segments"] != "10.0.0.0/24=eth0" || l.Labels["seamark.io/agent"] != "true" ||
		len(l.OwnerReferences) != 1 || l.OwnerReferences[0].Kind != "Node" || l.OwnerReferences[0].UID != "u1" {
		t.Errorf("the Lease is %+v", l)
	}
	snap.Agents["n1"] = &cluster.Agent{Node: "n1", Interfaces: segments}
	m.set(snap, segments)
	time.Sleep(2 * pause)
	before := writes.Load()
	for range 3 {
		m.set(snap, segments)
		time.Sleep(pause / 4)
	}
	if writes.Load() != before {
		t.Error("written again although nothing has changed")
	}
	other := map[netip.Prefix]string{netip.MustParsePrefix("10.0.1.0/24"): "eth1"}
	m.set(snap, other)
	netlab.Eventually(t, "it follows the interfaces", func() bool { return lease().Annotations["seamark.io/segments"] == "10.0.1.0/24=eth1" })
	if err := kube.CoordinationV1().Leases("seamark-system").Delete(t.Context(), "seamark-node.n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	delete(snap.Agents, "n1")
	netlab.Eventually(t, "it comes back", func() bool { m.set(snap, other); return lease() != nil })
	cancel()
	<-ended
	if lease() == nil {
		t.Error("the Lease has gone with the agent")
	}
}
