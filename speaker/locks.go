package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	leases "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
)

// lockDuration is how long a lock lasts from when it was taken or renewed. It is renewed three times in that.
const lockDuration = 5 * time.Second

// clockError is by how much the clock of a node may be fast or slow: a holder counts its lock for shorter, others wait longer.
const clockError = lockDuration / 50

// locks are the locks of segments, as Leases in Seamark's namespace: arbiters between two halves that do not hear each
// other. Only nodes that lack a single vote ask for one.
//
// The times in a Lease are of its writer's clock and do not count: a lock is another's until it has not changed for its
// duration, by this node's own clock, since this node saw it for the first time as it is.
type locks struct {
	node      string
	leases    leases.LeasesGetter
	namespace string

	mu   sync.Mutex
	seen map[string]lockSeen
}

type lockSeen struct {
	version string
	at      liveness.Time
}

func newLocks(cfg Config) *locks {
	return &locks{node: cfg.Node, leases: cfg.Leases, namespace: cfg.Namespace, seen: map[string]lockSeen{}}
}

func lockName(subnet netip.Prefix) string {
	return "seamark-segment." + strings.NewReplacer("/", "-", ":", "-").Replace(subnet.String())
}

// Lock takes or renews the lock of a segment, and returns until when it is this node's alone.
func (l *locks) Lock(ctx context.Context, subnet netip.Prefix) (liveness.Time, error) {
	name := lockName(subnet)
	// Before anything is sent: the lock begins later.
	now := segment.Now()
	client := l.leases.Leases(l.namespace)
	lease, err := client.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
		l.hold(lease)
		_, err = client.Create(ctx, lease, metav1.CreateOptions{FieldManager: "seamark-node"})
	case err != nil:
	default:
		if holder := l.holder(name, lease); holder != "" && holder != l.node {
			return liveness.Never, fmt.Errorf("node %s has the lock of the segment", holder)
		}
		l.hold(lease)
		_, err = client.Update(ctx, lease, metav1.UpdateOptions{FieldManager: "seamark-node"})
	}
	if err != nil {
		return liveness.Never, fmt.Errorf("take Lease %s: %w", name, err)
	}
	return now.Add(lockDuration - clockError), nil
}

func (l *locks) hold(lease *coordinationv1.Lease) {
	seconds, at := int32(lockDuration/time.Second), metav1.NowMicro()
	if h := lease.Spec.HolderIdentity; h == nil || *h != l.node {
		lease.Spec.AcquireTime = &at
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &l.node, &seconds, &at
}

// holder returns who has the lock; empty if nobody has it any more.
func (l *locks) holder(name string, lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := segment.Now() // after it was read
	s, ok := l.seen[name]
	if !ok || s.version != lease.ResourceVersion {
		s = lockSeen{lease.ResourceVersion, now}
		l.seen[name] = s
	}
	if now.Sub(s.at) > lockDuration+clockError {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// Unlock gives a lock up that this node has; it must not count on it any more.
func (l *locks) Unlock(ctx context.Context, subnet netip.Prefix) error {
	name := lockName(subnet)
	client := l.leases.Leases(l.namespace)
	lease, err := client.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		if h := lease.Spec.HolderIdentity; h == nil || *h != l.node {
			return nil
		}
		nobody := ""
		lease.Spec.HolderIdentity = &nobody
		_, err = client.Update(ctx, lease, metav1.UpdateOptions{FieldManager: "seamark-node"})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("give up Lease %s: %w", name, err)
	}
	return nil
}
