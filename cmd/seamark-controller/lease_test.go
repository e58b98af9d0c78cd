package main

import (
	"os"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

func TestReleaseLease(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for holder, want := range map[string]string{host + "_1234": "", "other_1234": "other_1234", "": ""} {
		kube := fake.NewClientset(&coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: ptr.To[int32](15)},
		})
		if err := releaseLease(t.Context(), kube, namespace, leaseName); err != nil {
			t.Fatal(err)
		}
		lease, err := kube.CoordinationV1().Leases(namespace).Get(t.Context(), leaseName, metav1.GetOptions{})
		if err != nil || *lease.Spec.HolderIdentity != want {
			t.Errorf("held by %q: now by %q (%v); want %q", holder, *lease.Spec.HolderIdentity, err, want)
		}
	}
	if err := releaseLease(t.Context(), fake.NewClientset(), namespace, leaseName); err == nil {
		t.Error("no error although there is no Lease")
	}
}
