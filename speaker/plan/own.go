package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// ownAddresses finds the node's own addresses, its gateways and the special addresses of its subnets in pools. Addresses that
// a VIP gives to Services do not count: there are proxies that put those on an interface.
func (b *builder) ownAddresses() []OwnAddress {
	var out []OwnAddress
	add := func(a netip.Addr, use OwnUse) {
		if v := b.snap.VIPs[a]; !a.IsValid() || v != nil && len(v.Services) > 0 {
			return
		}
		for _, p := range b.snap.Pools {
			if p.Contains(a) {
				out = append(out, OwnAddress{p.Name, a, use})
			}
		}
	}
	for _, i := range b.facts.Interfaces {
		for _, p := range i.Prefixes {
			add(p.Addr(), OwnInterface)
		}
	}
	for _, a := range b.facts.Gateways {
		add(a, OwnGateway)
	}
	for _, s := range b.subnets {
		add(s.network, OwnSubnet)
		add(s.broadcast, OwnSubnet)
	}
	slices.SortFunc(out, func(x, y OwnAddress) int {
		return cmp.Or(cmp.Compare(x.Pool, y.Pool), x.Addr.Compare(y.Addr), cmp.Compare(x.Use, y.Use))
	})
	return slices.CompactFunc(out, func(x, y OwnAddress) bool { return x.Pool == y.Pool && x.Addr == y.Addr })
}
