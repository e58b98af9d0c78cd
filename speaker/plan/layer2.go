package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

// subnet is a prefix of one of this node's interfaces.
type subnet struct {
	prefix netip.Prefix
	// broadcast is the last address of an IPv4 subnet that has one.
	broadcast netip.Addr
	iface     *Interface
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
			out = append(out, subnet{prefix: p.Masked(), broadcast: broadcastOf(p), iface: &ifaces[i]})
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

// layer2 decides whether this node owns the VIP on one of its links.
func (b *builder) layer2(u *use) (Way, Link) {
	way := Way{Via: ARP}
	if u.addr.Is6() {
		way.Via = NDP
	}
	var net subnet
	if net, way.Reason = b.subnetFor(u); way.Reason.Code != "" {
		return way, Link{}
	}
	way.Interface = net.iface.Name
	if way.Reason = b.fit(u, u.pool.ARP.Nodes); way.Reason.Code != "" {
		return way, Link{}
	}
	candidates := b.candidatesIn(u.pool, net.prefix)
	if !slices.Contains(candidates, b.node.Name) {
		way.Reason = because(NotCandidate, "node %s has no InternalIP in %s", b.node.Name, net.prefix)
		return way, Link{}
	}
	if !u.all {
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(n string) bool { return !b.serves(u, n) })
	}
	if owner := elect.Owner(u.addr, candidates); owner != b.node.Name {
		way.Reason = because(NotOwner, "node %s owns it", owner)
		return way, Link{}
	}
	way.Announced = true
	return way, net.iface.Link
}

// subnetFor finds the subnet that the VIP lies in, on an interface that its pool allows.
func (b *builder) subnetFor(u *use) (subnet, Reason) {
	forbidden := ""
	for _, s := range b.subnets {
		if !s.prefix.Contains(u.addr) {
			continue
		}
		name := s.iface.Name
		allowed := u.pool.ARP.Interfaces
		switch {
		case len(allowed) > 0 && !slices.Contains(allowed, name):
			forbidden = name
		case u.addr.Is4() && (u.addr == s.broadcast || s.broadcast.IsValid() && u.addr == s.prefix.Addr()):
			return s, because(SubnetAddress, "it is the network or broadcast address of %s on %s", s.prefix, name)
		case !s.iface.Up:
			return s, because(InterfaceDown, "interface %s of node %s is down", name, b.facts.Node)
		default:
			return s, Reason{}
		}
	}
	if forbidden != "" {
		return subnet{}, because(InterfaceNotAllowed, "IPPool %s does not name interface %s of node %s, the one whose subnet it is in", u.pool.Name, forbidden, b.facts.Node)
	}
	return subnet{}, because(NoSubnet, "no interface of node %s has a subnet that it is in", b.facts.Node)
}

// candidatesIn returns the nodes that may own addresses of the pool in the subnet. That a node is on the subnet is seen
// from its InternalIPs: it is all that the API tells of another node's interfaces.
func (b *builder) candidatesIn(pool *cluster.Pool, net netip.Prefix) []string {
	key := segment{pool.Name, net}
	names, ok := b.candidates[key]
	if !ok {
		for _, n := range b.announcers {
			if pool.ARP.Nodes.Matches(n.Labels) && slices.ContainsFunc(n.InternalIPs, net.Contains) {
				names = append(names, n.Name)
			}
		}
		b.candidates[key] = names
	}
	return names
}
