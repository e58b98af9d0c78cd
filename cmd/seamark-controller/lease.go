package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// releaseLease gives up the leadership of a process that is about to end, so that another replica takes over within its
// retry period rather than when the Lease has run out. k8s.io/cloud-provider goes on renewing until the process is gone and
// has no switch for it. It does nothing when another process leads.
func releaseLease(ctx context.Context, kube kubernetes.Interface, namespace, name string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	leases := kube.CoordinationV1().Leases(namespace)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the Lease: %w", err)
	}
	// k8s.io/cloud-provider calls a process by the name of its host, "_" and a random part.
	if !strings.HasPrefix(ptr.Deref(lease.Spec.HolderIdentity, ""), host+"_") {
		return nil
	}
	lease.Spec.HolderIdentity = ptr.To("")
	lease.Spec.LeaseDurationSeconds = ptr.To[int32](1)
	if _, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("release the Lease: %w", err)
	}
	return nil
}
