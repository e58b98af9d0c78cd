package provider

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// A pool is kept from going as soon as it gives out addresses: one that is deleted right after its first Service came stays until
// that has gone. It is written twice, whatever it says: the finalizer, and then the status.
func TestPoolDeletedAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		create := func(name string, spec v1alpha1.IPPoolSpec) {
			_, err := w.seamark.IPPools.Create(w.Context(), &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
			w.must(err)
		}
		create("default", v1alpha1.IPPoolSpec{Addresses: []string{"192.0.2.0/30"}})
		create("wrong", v1alpha1.IPPoolSpec{Addresses: []string{"192.0.2.9-192.0.2.8"}})
		w.create("web")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.wantAddress("web", "192.0.2.0")
		writes := map[string][]string{}
		for _, a := range w.fake.Actions() {
			if p, ok := a.(clienttesting.PatchAction); ok && a.GetResource().Resource == "ippools" {
				writes[p.GetName()] = append(writes[p.GetName()], a.GetSubresource())
			}
		}
		if want := map[string][]string{"default": {""}, "wrong": {""}}; !maps.EqualFunc(writes, want, slices.Equal) {
			t.Errorf("writes of pools %q; want just the finalizers", writes)
		}
		w.must(w.seamark.IPPools.Delete(w.Context(), "default", metav1.DeleteOptions{}))
		w.settle()
		w.wantAddress("web", "192.0.2.0")
		w.wantPool("default", "used 1 free 0 ready False", "192.0.2.0 shop/web PoolDeleted")
		w.wantPool("wrong", "used 0 free 0 ready False")
		w.delete("web")
		if _, err := w.seamark.IPPools.Get(w.Context(), "default", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the pool is still there although nobody uses it: %v", err)
		}
		n := 0
		for _, a := range w.fake.Actions() {
			if p, ok := a.(clienttesting.PatchAction); ok && p.GetName() == "wrong" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("the other pool was written %d times; want 2", n)
		}
	})
}

// A mistake in a pool's spec, made and put right, costs nobody an address: what is in use stays the pool's although a younger
// one has it as well, and what it retains is retained.
func TestMistakeInAPool(t *testing.T) {
	inWorld(t, func(w *world) {
		w.controller()
		w.pool("older", "192.0.2.0/30")
		w.editPool("older", func(p *v1alpha1.IPPool) { p.Spec.ReclaimPolicy = v1alpha1.ReclaimRetain })
		w.service("stays")
		w.service("goes")
		w.pool("younger", "192.0.2.0/28")
		w.editPool("older", func(p *v1alpha1.IPPool) { p.Spec.ServiceSelector = &metav1.LabelSelector{MatchExpressions: typo()} })
		w.wantAddress("stays", "192.0.2.0")
		w.update("stays", annotated("seamark.io/addresses", "192.0.2.0")) // it is looked at
		w.delete("goes")
		w.service("other")
		w.wantAddress("other", "192.0.2.2")
		w.editPool("older", func(p *v1alpha1.IPPool) { p.Spec.ServiceSelector = nil })
		w.service("goes")
		w.wantAddress("goes", "192.0.2.1")
		vip, err := w.seamark.VIPs.Get(w.Context(), "192.0.2.0", metav1.GetOptions{})
		w.must(err)
		if vip.Spec.Pool != "older" {
			t.Errorf("the address that stays is from pool %s now", vip.Spec.Pool)
		}
	})
}

// typo is a requirement that cannot be read.
func typo() []metav1.LabelSelectorRequirement {
	return []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Notin", Values: []string{"gold"}}}
}
