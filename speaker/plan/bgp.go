package plan

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// md5KeyLen is TCP_MD5SIG_MAXKEYLEN of linux/tcp.h.
const md5KeyLen = 80

// sessions returns the sessions of this node, without routes. A node that may not announce keeps its sessions, so that
// it need not build them up when it may again.
func (b *builder) sessions() BGP {
	var out BGP
	if b.node == nil {
		return out
	}
	peers := make([]*cluster.Peer, 0, len(b.snap.Peers))
	for _, p := range b.snap.Peers {
		if p.Nodes.Matches(b.node.Labels) {
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(a, b *cluster.Peer) int { return cmp.Compare(a.Name, b.Name) })

	byAddress := map[netip.Addr]string{}
	for _, p := range peers {
		first, duplicate := byAddress[p.Address.Addr()]
		var why Reason
		switch {
		case p.PasswordSecret != "" && p.Password == "":
			why = because(PasswordNotFound, "Secret %q in Seamark's namespace does not exist or has no key \"password\"", p.PasswordSecret)
		case len(p.Password) > md5KeyLen:
			why = because(PasswordTooLong, "the password in Secret %q has more than %d bytes: TCP MD5 takes no longer key", p.PasswordSecret, md5KeyLen)
		case duplicate:
			why = because(DuplicatePeer, "BGPPeer %s has the same address", first)
		}
		if why.Code != "" {
			out.Refused = append(out.Refused, PeerProblem{Peer: p.Name, Reason: why})
			continue
		}
		byAddress[p.Address.Addr()] = p.Name
		out.Peers = append(out.Peers, b.peer(p))
	}
	if len(out.Peers) > 0 {
		out.RouterID = b.routerID()
	}
	return out
}

func (b *builder) peer(p *cluster.Peer) Peer {
	out := Peer{Name: p.Name, Session: Session{
		Address: p.Address, PeerASN: p.PeerASN, LocalASN: p.LocalASN, Source: p.Source,
		HoldTime: p.HoldTime, KeepaliveTime: p.KeepaliveTime, ConnectRetryTime: p.ConnectRetryTime,
		MultihopTTL: p.MultihopTTL, Password: p.Password,
	}}
	if p.Address.Addr().Is4() {
		out.NextHop6 = b.nextHop(p, cluster.IPv6)
		out.Session.IPv4, out.Session.IPv6 = true, out.NextHop6.IsValid()
	} else {
		out.NextHop4 = b.nextHop(p, cluster.IPv4)
		out.Session.IPv4, out.Session.IPv6 = out.NextHop4.IsValid(), true
	}
	return out
}

// nextHop returns the address that routes of the family the session is not made over point to (RFC 4760 section 3). A
// router accepts only what it can reach, so it is taken from the interface that faces the router; failing that, it is the
// node's InternalIP. Without either the family is not spoken: a next hop of the other family (RFC 8950) is for routers
// that negotiate it, which few do.
func (b *builder) nextHop(p *cluster.Peer, f cluster.Family) netip.Addr {
	var onLink netip.Addr
	for _, i := range b.facts.Interfaces {
		facing := slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool {
			return x.Contains(p.Address.Addr()) && !x.IsSingleIP() || x.Addr() == p.Source
		})
		if !facing {
			continue
		}
		for _, x := range i.Prefixes {
			if cluster.FamilyOf(x.Addr()) != f || x.Addr().IsLinkLocalUnicast() {
				continue
			}
			if slices.Contains(b.node.InternalIPs, x.Addr()) {
				return x.Addr()
			}
			if !onLink.IsValid() {
				onLink = x.Addr()
			}
		}
	}
	if onLink.IsValid() {
		return onLink
	}
	return b.internalIP(f)
}

func (b *builder) internalIP(f cluster.Family) netip.Addr {
	if b.node != nil {
		for _, ip := range b.node.InternalIPs {
			if cluster.FamilyOf(ip) == f {
				return ip
			}
		}
	}
	return netip.Addr{}
}

// hostAddress returns an address of the family that this host certainly has: its InternalIP if that is on an interface,
// otherwise the first global one.
func (b *builder) hostAddress(f cluster.Family) netip.Addr {
	var first netip.Addr
	internal := b.internalIP(f)
	for _, i := range b.facts.Interfaces {
		for _, p := range i.Prefixes {
			a := p.Addr()
			if a == internal {
				return a
			}
			if !first.IsValid() && cluster.FamilyOf(a) == f && a.IsGlobalUnicast() {
				first = a
			}
		}
	}
	return first
}

// routerID returns the primary IPv4 InternalIP, and for a node without one a hash of its name: since RFC 6286 the BGP
// identifier is any four bytes but zero that are unique in the AS.
func (b *builder) routerID() netip.Addr {
	if ip := b.internalIP(cluster.IPv4); ip.IsValid() {
		return ip
	}
	h := fnv.New32a()
	h.Write([]byte(b.node.Name))
	id := max(h.Sum32(), 1)
	return netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)})
}

// bgp decides which peers this node announces the VIP to.
func (b *builder) bgp(u *use, peers []Peer) (Way, Route) {
	way := Way{Via: BGPRoute}
	if way.Reason = b.fit(u, u.pool.BGP.Nodes); way.Reason.Code != "" {
		return way, Route{}
	}
	allowed := u.pool.BGP.Peers
	family := cluster.FamilyOf(u.addr)
	mute := ""
	for i := range peers {
		switch p := &peers[i]; {
		case len(allowed) > 0 && !slices.Contains(allowed, p.Name):
		case !p.Session.Speaks(family):
			mute = p.Name
		default:
			way.Peers = append(way.Peers, p.Name)
		}
	}
	switch {
	case len(way.Peers) > 0:
		way.Announced = true
	case mute != "":
		way.Reason = because(NoNextHop, "node %s has no %s address that router %s could use as next hop", b.node.Name, family, mute)
	case len(allowed) > 0:
		way.Reason = because(NoPeers, "none of the BGPPeers that IPPool %s names is usable from node %s", u.pool.Name, b.node.Name)
	default:
		way.Reason = because(NoPeers, "no BGPPeer is usable from node %s", b.node.Name)
	}
	return way, Route{
		Prefix: netip.PrefixFrom(u.addr, u.addr.BitLen()), Peers: way.Peers,
		Communities: u.pool.BGP.Communities, LocalPref: u.pool.BGP.LocalPref,
	}
}
