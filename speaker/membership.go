package speaker

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordination "k8s.io/client-go/applyconfigurations/coordination/v1"
	meta "k8s.io/client-go/applyconfigurations/meta/v1"
	leases "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// renewal is how often the Lease is renewed, at least: three times in its duration.
const renewal = v1alpha1.AgentLeaseDuration / 3

// membership keeps the Lease by which this node is a member of its segments. It lives beside the loop and never holds it up. The
// Lease stays when the agent ends: an agent that ends is nearly always followed by another.
type membership struct {
	node   string
	leases leases.LeasesGetter
	// namespace is Seamark's.
	namespace string
	log       *slog.Logger
	wake      chan struct{}

	mu   sync.Mutex
	want member
	// there: the API has what is wanted.
	there bool
}

// member is what the Lease says.
type member struct {
	// uid of the Node; empty: there is none, so there must be no Lease.
	uid      string
	segments string
}

func newMembership(cfg Config) *membership {
	return &membership{node: cfg.Node, leases: cfg.Leases, namespace: cfg.Namespace, log: cfg.Log, wake: make(chan struct{}, 1)}
}

// set says in which subnets this node can answer, and what the API has. It does not wait.
func (m *membership) set(snap *cluster.Snapshot, interfaces map[netip.Prefix]string) {
	want, there := member{}, true
	if n := snap.Nodes[m.node]; n != nil {
		want = member{uid: n.UID, segments: cluster.FormatSegments(interfaces)}
		a := snap.Agents[m.node]
		there = a != nil && maps.Equal(a.Interfaces, interfaces)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if want != m.want || !there {
		signal(m.wake)
	}
	m.want, m.there = want, there
}

// run writes until ctx ends.
func (m *membership) run(ctx context.Context) {
	if m.leases == nil {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(renewal)
	defer timer.Stop()
	var wrote member
	delay, failing := retryMin, false
	for {
		due := false
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
			due = true
		}
		m.mu.Lock()
		want, there := m.want, m.there
		m.mu.Unlock()
		if want.uid == "" || there && want == wrote && !due {
			continue
		}
		err := m.apply(ctx, want)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				m.log.Warn("cannot write the Lease by which this node is a member of its segments: trying again", "err", err)
			}
			failing = true
			timer.Reset(delay)
			delay = min(2*delay, retryMax)
		default:
			wrote, failing, delay = want, false, retryMin
			timer.Reset(renewal)
		}
		// What was written comes back before it is looked for again.
		if !sleep(ctx, pause) {
			return
		}
	}
}

func (m *membership) apply(ctx context.Context, want member) error {
	lease := coordination.Lease(v1alpha1.AgentLeasePrefix+m.node, m.namespace).
		WithLabels(map[string]string{v1alpha1.AgentLabel: "true"}).
		WithAnnotations(map[string]string{v1alpha1.AnnotationSegments: want.segments}).
		WithOwnerReferences(meta.OwnerReference().WithAPIVersion("v1").WithKind("Node").WithName(m.node).WithUID(types.UID(want.uid))).
		WithSpec(coordination.LeaseSpec().
			WithHolderIdentity(m.node).
			WithLeaseDurationSeconds(int32(v1alpha1.AgentLeaseDuration / time.Second)).
			WithRenewTime(metav1.NowMicro()))
	_, err := m.leases.Leases(m.namespace).Apply(ctx, lease, metav1.ApplyOptions{FieldManager: "seamark-node/" + m.node, Force: true})
	return err
}
