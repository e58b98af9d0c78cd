package provider

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

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
