package provider

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/provider/ipam"
)

// foreign returns what must not be given to a Service because something else uses it: the ranges of pods and Services, and
// the addresses, gateways and subnets of nodes. Of the latter the API knows some, and nodes that find one of theirs in a pool write
// it into the pool's status. What a node wrote that is gone does not count; it stays there, for the node to find if it comes back.
func foreign(nodes []*corev1.Node, services []*networkingv1.ServiceCIDR, pools []*v1alpha1.IPPool) []ipam.Foreign {
	var out []ipam.Foreign
	seen := map[ipam.Foreign]struct{}{}
	add := func(r netipx.IPRange, by string) {
		f := ipam.Foreign{IPRange: r, By: by}
		if _, again := seen[f]; again || !r.IsValid() {
			return
		}
		seen[f] = struct{}{}
		out = append(out, f)
	}
	exist := map[string]struct{}{}
	for _, n := range nodes {
		exist[n.Name] = struct{}{}
		for _, cidr := range n.Spec.PodCIDRs {
			add(rangeOf(cidr), "part of the pod range of node "+n.Name)
		}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
				add(single(a.Address), "an address of node "+n.Name)
			}
		}
	}
	for _, s := range services {
		for _, cidr := range s.Spec.CIDRs {
			add(rangeOf(cidr), "part of the cluster IPs (ServiceCIDR "+s.Name+")")
		}
	}
	// What many nodes have in common is told once: the nodes, by the address of their gateway, and by that of their subnet.
	gateways, subnets := map[string][]string{}, map[string][]string{}
	for _, p := range pools {
		for _, a := range p.Status.NodeAddresses {
			_, exists := exist[a.Node]
			switch {
			case !exists:
			case a.Use == v1alpha1.UseGateway:
				gateways[a.Address] = append(gateways[a.Address], a.Node)
			case a.Use == v1alpha1.UseSubnet:
				subnets[a.Address] = append(subnets[a.Address], a.Node)
			default:
				add(single(a.Address), "an address of node "+a.Node)
			}
		}
	}
	for what, by := range map[string]map[string][]string{
		"the default gateway of ": gateways, "the network or broadcast address of the subnet of ": subnets,
	} {
		for address, nodes := range by {
			slices.Sort(nodes)
			add(single(address), what+short(slices.Compact(nodes)))
		}
	}
	slices.SortFunc(out, func(a, b ipam.Foreign) int {
		return cmp.Or(a.From().Compare(b.From()), a.To().Compare(b.To()), cmp.Compare(a.By, b.By))
	})
	return out
}

// rangeOf returns the zero range for what is no prefix.
func rangeOf(cidr string) netipx.IPRange {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return netipx.IPRange{}
	}
	return netipx.RangeOfPrefix(p.Masked())
}

func single(address string) netipx.IPRange {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netipx.IPRange{}
	}
	return netipx.IPRangeFrom(a, a)
}
