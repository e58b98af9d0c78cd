package provider

import (
	"testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// What nodes found of theirs in pools is somebody else's; what several have in common is told once.
func TestForeignOfNodes(t *testing.T) {
	at := func(node, address string, use v1alpha1.NodeAddressUse) v1alpha1.NodeAddress {
		return v1alpha1.NodeAddress{Node: node, Address: address, Use: use}
	}
	pool := &v1alpha1.IPPool{Status: v1alpha1.IPPoolStatus{NodeAddresses: []v1alpha1.NodeAddress{
		at("n2", "192.0.2.1", v1alpha1.UseGateway), at("n1", "192.0.2.1", v1alpha1.UseGateway),
		at("n1", "192.0.2.11", v1alpha1.UseInterface),
		at("n1", "192.0.2.255", v1alpha1.UseSubnet), at("n2", "192.0.2.255", v1alpha1.UseSubnet), at("n1", "192.0.2.0", v1alpha1.UseSubnet),
	}}}
	want := map[string]string{
		"192.0.2.0":   "the network or broadcast address of the subnet of n1",
		"192.0.2.1":   "the default gateway of n1,n2",
		"192.0.2.11":  "an address of node n1",
		"192.0.2.255": "the network or broadcast address of the subnet of n1,n2",
	}
	got := foreign(nil, nil, []*v1alpha1.IPPool{pool})
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
	for _, f := range got {
		if f.From() != f.To() || want[f.From().String()] != f.By {
			t.Errorf("%s is %q, want %q", f.IPRange, f.By, want[f.From().String()])
		}
	}
}
