package plan

import (
	"cmp"
	"net/netip"
	"slices"
)

// subnet is a prefix of one of this node's interfaces.
type subnet struct {
	prefix netip.Prefix
	// network is the first address, which means the subnet itself or all its routers (RFC 4291 section 2.6.1), broadcast is
	// the last address of an IPv4 subnet. Where they have no meaning they are invalid.
	network, broadcast netip.Addr
	iface              *Interface
}

// subnetsOf returns the subnets that can carry ARP or NDP, the ones to prefer first: up, most specific, lowest index.
// Addresses of full length are no subnet (a loopback's, or those that kube-proxy's IPVS mode binds).
func subnetsOf(ifaces []Interface) []subnet {
	var out []subnet
	for i := range ifaces {
		for _, p := range ifaces[i].Prefixes {
			if ifaces[i].MAC == (MAC{}) || p.IsSingleIP() || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			s := subnet{prefix: p.Masked(), broadcast: broadcastOf(p), iface: &ifaces[i]}
			if p.Bits() < p.Addr().BitLen()-1 { // RFC 3021, RFC 6164: both addresses of a link between two are plain ones
				s.network = s.prefix.Addr()
			}
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b subnet) int {
		up := 0
		if a.iface.Up != b.iface.Up {
			up = 1
			if a.iface.Up {
				up = -1
			}
		}
		return cmp.Or(up, cmp.Compare(b.prefix.Bits(), a.prefix.Bits()), cmp.Compare(a.iface.Index, b.iface.Index))
	})
	return out
}

// broadcastOf returns the subnet's broadcast address; a /31 (RFC 3021) and IPv6 have none.
func broadcastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() >= 31 {
		return netip.Addr{}
	}
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(a)
}

// subnetFor finds the subnet that the VIP lies in, on an interface that its pool allows. With a reason other than NoSubnet,
// other nodes may still have the address there.
func (b *builder) subnetFor(u *use) (*subnet, Reason) {
	var forbidden *subnet
	for i := range b.subnets {
		s := &b.subnets[i]
		if !s.prefix.Contains(u.addr) {
			continue
		}
		name := s.iface.Name
		switch {
		case !allows(u.pool.ARP, name):
			forbidden = cmp.Or(forbidden, s)
		case u.addr == s.network || u.addr == s.broadcast:
			return s, because(SubnetAddress, "it is the network or broadcast address of %s on %s", s.prefix, name)
		case !s.iface.Up:
			return s, because(InterfaceDown, "interface %s of node %s is down", name, b.facts.Node)
		default:
			return s, Reason{}
		}
	}
	if forbidden != nil {
		return forbidden, because(InterfaceNotAllowed, "IPPool %s does not name interface %s of node %s, the one whose subnet it is in", u.pool.Name, forbidden.iface.Name, b.facts.Node)
	}
	return nil, because(NoSubnet, "no interface of node %s has a subnet that it is in", b.facts.Node)
}
