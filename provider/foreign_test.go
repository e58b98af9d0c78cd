package provider

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// What nodes found of theirs in pools is somebody else's; what several have in common is told once. What a node left behind that
// is gone is nobody's.
func TestForeignOfNodes(t *testing.T) {
	at := func(node, address string, use v1alpha1.NodeAddressUse) v1alpha1.NodeAddress {
		return v1alpha1.NodeAddress{Node: node, Address: address, Use: use}
	}
	pool := &v1alpha1.IPPool{Status: v1alpha1.IPPoolStatus{NodeAddresses: []v1alpha1.NodeAddress{
		at("n2", "192.0.2.1", v1alpha1.UseGateway), at("n1", "192.0.2.1", v1alpha1.UseGateway),
		at("n1", "192.0.2.11", v1alpha1.UseInterface),
		at("n1", "192.0.2.255", v1alpha1.UseSubnet), at("n2", "192.0.2.255", v1alpha1.UseSubnet), at("n1", "192.0.2.0", v1alpha1.UseSubnet),
		at("gone", "192.0.2.1", v1alpha1.UseGateway), at("gone", "192.0.2.12", v1alpha1.UseInterface),
	}}}
	nodes := []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n2"}}}
	want := map[string]string{
		"192.0.2.0":   "the network or broadcast address of the subnet of n1",
		"192.0.2.1":   "the default gateway of n1,n2",
		"192.0.2.11":  "an address of node n1",
		"192.0.2.255": "the network or broadcast address of the subnet of n1,n2",
	}
	got := foreign(nodes, nil, []*v1alpha1.IPPool{pool})
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for _, f := range got {
		if f.From() != f.To() || want[f.From().String()] != f.By {
			t.Errorf("%s is %q, want %q", f.IPRange, f.By, want[f.From().String()])
		}
	}
}

// The address of a node is given out when the node has been taken out of the cluster, and not any more when it is back.
func TestAddressOfANodeThatGoes(t *testing.T) {
	inWorld(t, func(w *world) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		nodes := w.kube.CoreV1().Nodes()
		_, err := nodes.Create(w.Context(), node, metav1.CreateOptions{})
		w.must(err)
		w.controller()
		w.pool("default", "192.0.2.0/31")
		w.editPool("default", func(p *v1alpha1.IPPool) {
			p.Status.NodeAddresses = []v1alpha1.NodeAddress{{Node: "n1", Address: "192.0.2.0", Use: v1alpha1.UseInterface}}
		})
		w.service("web")
		w.wantAddress("web", "192.0.2.1")
		w.service("early")
		w.wantWaiting("early", "PoolExhausted", "")
		w.delete("early") // the stock controller's own look at all Services when nodes change races with its work on one
		w.must(nodes.Delete(w.Context(), "n1", metav1.DeleteOptions{}))
		w.settle()
		w.service("next")
		w.wantAddress("next", "192.0.2.0")
		w.delete("next")
		_, err = nodes.Create(w.Context(), node, metav1.CreateOptions{})
		w.must(err)
		w.settle()
		w.service("late")
		w.wantWaiting("late", "PoolExhausted", "")
	})
}
