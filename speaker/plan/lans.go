package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// addPoolLANs adds the subnets in which a pool announces addresses by ARP or NDP: the nodes get to know each other there
// before there is a first address to compete for.
func (b *builder) addPoolLANs(lans map[netip.Prefix]LAN) {
	for i := range b.subnets {
		s := &b.subnets[i]
		if _, ok := lans[s.prefix]; ok {
			continue
		}
		for _, p := range b.snap.Pools {
			overlaps := func(r netipx.IPRange) bool { return r.Overlaps(netipx.RangeOfPrefix(s.prefix)) }
			if p.ARP != nil && allows(p.ARP, s.iface.Name) && slices.ContainsFunc(p.Ranges, overlaps) {
				lans[s.prefix] = b.lan(*s)
				break
			}
		}
	}
}

func (b *builder) lan(s subnet) LAN {
	out := LAN{Subnet: s.prefix, Link: s.iface.Link}
	for _, a := range b.snap.Agents {
		if iface, ok := a.Interfaces[s.prefix]; ok && b.snap.Nodes[a.Node] != nil {
			out.Members = append(out.Members, LANMember{a.Node, iface})
		}
	}
	slices.SortFunc(out.Members, func(x, y LANMember) int { return cmp.Compare(x.Node, y.Node) })
	return out
}

func sortedLANs(lans map[netip.Prefix]LAN) []LAN {
	var out []LAN
	for _, l := range lans {
		out = append(out, l)
	}
	slices.SortFunc(out, func(x, y LAN) int { return x.Subnet.Compare(y.Subnet) })
	return out
}

// SegmentsOf returns the subnets in which a node with these interfaces can answer for addresses, with the interfaces: what its
// agent says of it to the others.
func SegmentsOf(ifaces []Interface) map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for i := range ifaces {
		for _, p := range ifaces[i].Prefixes {
			if ifaces[i].MAC == (MAC{}) || p.IsSingleIP() || !p.Addr().IsGlobalUnicast() {
				continue
			}
			// The interface with the lowest index, whatever its state: what goes down for a moment stays a member.
			if _, ok := out[p.Masked()]; !ok {
				out[p.Masked()] = ifaces[i].Name
			}
		}
	}
	return out
}
