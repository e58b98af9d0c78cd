package plan

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"

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
		if p.Interface != "" && !p.Address.Addr().IsValid() && !slices.Contains(out.Discover, p.Interface) {
			out.Discover = append(out.Discover, p.Interface)
		}
		session, why := b.session(p)
		// gobgp's policies tell peers apart by address, without its zone.
		router := session.Address.Addr().WithZone("")
		if first, ok := byAddress[router]; ok && why.Code == "" {
			why = because(DuplicatePeer, "BGPPeer %s has the same address %s", first, router)
		}
		if why.Code != "" {
			out.Refused = append(out.Refused, PeerProblem{Peer: p.Name, Reason: why})
			continue
		}
		byAddress[router] = p.Name
		out.Peers = append(out.Peers, b.peer(p, session))
	}
	slices.Sort(out.Discover)
	if len(out.Peers) > 0 {
		out.RouterID = b.routerID()
	}
	out.Leaving = b.leaving()
	return out
}

// leaving reports whether the node gives its routes up on purpose while it can still forward.
func (b *builder) leaving() bool {
	n := b.node
	return n != nil && n.Ready && !n.OutOfService && (n.Excluded || b.facts.Draining)
}

// session works out the parameters of the session with a peer, but for the families, or why there is none.
func (b *builder) session(p *cluster.Peer) (Session, Reason) {
	s := Session{
		Address: p.Address, PeerASN: p.PeerASN, LocalASN: p.LocalASN, Source: p.Source,
		HoldTime: p.HoldTime, KeepaliveTime: p.KeepaliveTime, ConnectRetryTime: p.ConnectRetryTime, RestartTime: p.RestartTime,
		MultihopTTL: p.MultihopTTL, MinTTL: p.MinTTL, Password: p.Password, MaxPrefixes: p.MaxPrefixes,
	}
	switch {
	case p.PasswordSecret != "" && p.Password == "":
		return s, because(PasswordNotFound, "Secret %q in Seamark's namespace does not exist or has no key \"password\"", p.PasswordSecret)
	case len(p.Password) > md5KeyLen:
		return s, because(PasswordTooLong, "the password in Secret %q has more than %d bytes: TCP MD5 takes no longer key", p.PasswordSecret, md5KeyLen)
	}
	if p.LocalASNLabel != "" {
		label, ok := b.node.Labels[p.LocalASNLabel]
		if !ok {
			return s, because(NoASN, "node %s has no label %s with its AS number", b.node.Name, p.LocalASNLabel)
		}
		asn, err := strconv.ParseUint(label, 10, 32)
		if err != nil || asn == 0 || asn == cluster.ReservedASN {
			return s, because(NoASN, "label %s of node %s is %q, which is not an AS number of 1 to 4294967294", p.LocalASNLabel, b.node.Name, label)
		}
		s.LocalASN = uint32(asn)
	}
	if p.Interface != "" {
		router, why := b.routerOn(p)
		if why.Code != "" {
			return s, why
		}
		s.Address = netip.AddrPortFrom(router.WithZone(p.Interface), p.Address.Port())
	}
	if p.SourceInterface != "" {
		if s.Source = b.sourceOn(p.SourceInterface, cluster.FamilyOf(p.Address.Addr())); !s.Source.IsValid() {
			return s, because(NoSource, "node %s has no %s address on an interface %s to dial from", b.node.Name, cluster.FamilyOf(p.Address.Addr()), p.SourceInterface)
		}
	}
	if p.Interface == "" && !s.Source.IsValid() {
		s.Source = b.internalIPFacing(s.Address.Addr())
	}
	return s, Reason{}
}

// internalIPFacing returns the node's InternalIP in the subnet of the router. The router most likely has it as neighbor, and
// among several addresses of an interface the kernel may prefer another one, such as one that came by SLAAC (RFC 6724).
func (b *builder) internalIPFacing(router netip.Addr) netip.Addr {
	for _, i := range b.facts.Interfaces {
		for _, x := range i.Prefixes {
			if x.Contains(router) && !x.IsSingleIP() && slices.Contains(b.node.InternalIPs, x.Addr()) {
				return x.Addr()
			}
		}
	}
	return netip.Addr{}
}

// routerOn returns the router at the other end of the peer's interface.
func (b *builder) routerOn(p *cluster.Peer) (netip.Addr, Reason) {
	linkLocal := func(x netip.Prefix) bool { return x.Addr().Is6() && x.Addr().IsLinkLocalUnicast() }
	there := slices.ContainsFunc(b.facts.Interfaces, func(i Interface) bool {
		return i.Name == p.Interface && i.Up && slices.ContainsFunc(i.Prefixes, linkLocal)
	})
	heard := b.facts.Routers[p.Interface]
	switch {
	case !there:
		return netip.Addr{}, because(NoRouter, "node %s has no interface %s that is up and has a link-local IPv6 address", b.node.Name, p.Interface)
	case p.Address.Addr().IsValid():
		return p.Address.Addr(), Reason{}
	case len(heard) == 0:
		return netip.Addr{}, because(NoRouter, "no router advertisement was heard on %s: check that the router sends them on this link", p.Interface)
	case len(heard) > 1:
		return netip.Addr{}, because(NoRouter, "more than one router was heard on %s, among them %s and %s: write the one to speak to into peerAddress", p.Interface, heard[0], heard[1])
	default:
		return heard[0], Reason{}
	}
}

// sourceOn returns the first global address of the family on an interface.
func (b *builder) sourceOn(name string, f cluster.Family) netip.Addr {
	for _, i := range b.facts.Interfaces {
		if i.Name != name {
			continue
		}
		for _, x := range i.Prefixes {
			if cluster.FamilyOf(x.Addr()) == f && x.Addr().IsGlobalUnicast() {
				return x.Addr()
			}
		}
	}
	return netip.Addr{}
}

// peer adds families and next hops. A family is spoken if its routes can have a next hop: the session's own address, one of
// the interface that faces the router, or, if the router can, one of the other family (RFC 8950).
func (b *builder) peer(p *cluster.Peer, s Session) Peer {
	out := Peer{Name: p.Name, BFD: p.BFD}
	if s.Address.Addr().Is4() {
		out.NextHop6 = b.nextHop(p, &s, cluster.IPv6)
		s.IPv4, s.IPv6 = true, out.NextHop6.IsValid()
	} else {
		if !p.ExtendedNextHop {
			out.NextHop4 = b.nextHop(p, &s, cluster.IPv4)
		}
		s.ExtendedNextHop = p.ExtendedNextHop
		s.IPv4, s.IPv6 = out.NextHop4.IsValid() || s.ExtendedNextHop, true
	}
	out.Session = s
	return out
}

// nextHop returns the address that routes of the family the session is not made over point to (RFC 4760 section 3). A
// router accepts only what it can reach, so it is taken from the interface that faces the router (which lo does, with an
// address to dial from; 127.0.0.1 and ::1 are on it too); failing that, it is the node's InternalIP.
func (b *builder) nextHop(p *cluster.Peer, s *Session, f cluster.Family) netip.Addr {
	var onLink netip.Addr
	for _, i := range b.facts.Interfaces {
		facing := i.Name == p.Interface || p.Interface == "" && slices.ContainsFunc(i.Prefixes, func(x netip.Prefix) bool {
			return x.Contains(s.Address.Addr()) && !x.IsSingleIP() || x.Addr() == s.Source
		})
		if !facing {
			continue
		}
		for _, x := range i.Prefixes {
			if cluster.FamilyOf(x.Addr()) != f || !x.Addr().IsGlobalUnicast() {
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

// exports are what an advertisement does for the addresses of one family.
type exports struct {
	list  []Export
	names []string
	// mute is a peer that has no next hop for the family; empty: none.
	mute string
}

type exportKey struct {
	ad     *cluster.Advertisement
	family cluster.Family
}

// exportsOf returns the peers that an advertisement reaches, worked out once for all addresses of the pool.
func (b *builder) exportsOf(ad *cluster.Advertisement, f cluster.Family, peers []Peer) *exports {
	key := exportKey{ad, f}
	if e, ok := b.exports[key]; ok {
		return e
	}
	e := &exports{}
	for i := range peers {
		switch p := &peers[i]; {
		case len(ad.Peers) > 0 && !slices.Contains(ad.Peers, p.Name):
		case !p.Session.Speaks(f):
			e.mute = p.Name
		default:
			e.names = append(e.names, p.Name)
			e.list = append(e.list, Export{Peer: p.Name, Attributes: &ad.Attributes})
		}
	}
	b.exports[key] = e
	return e
}

// everyone is the advertisement of a pool that has none.
var everyone = []*cluster.Advertisement{{}} //nolint:gochecknoglobals // a constant

// bgp decides which peers this node announces the VIP to, and adds the routes.
func (b *builder) bgp(u *use, peers []Peer) Way {
	way := Way{Via: BGPRoute}
	way.Reason = b.fit(u, u.pool.BGP.Nodes)
	leaving := b.leaving()
	switch {
	case leaving && u.pool.BGP.Nodes.Matches(b.node.Labels) && b.serves(u, b.node.Name):
		// What is announced now stays until other nodes have taken over.
	case way.Reason.Code != "":
		return way
	}
	ads, f := u.pool.BGP.Advertisements, cluster.FamilyOf(u.addr)
	if len(ads) == 0 {
		ads = everyone
	}
	mute, limited := "", false
	for _, ad := range ads {
		e := b.exportsOf(ad, f, peers)
		limited = limited || len(ad.Peers) > 0
		if e.mute != "" {
			mute = e.mute
		}
		if len(e.list) == 0 {
			continue
		}
		prefix, _ := u.addr.Prefix(ad.Length(f))
		b.routes.add(prefix, e.list)
		way.Peers = union(way.Peers, e.names)
	}
	switch {
	case leaving && way.Reason.Code == "":
		way.Peers, way.Reason = nil, because(Draining, "node %s is being drained", b.node.Name)
	case leaving:
		way.Peers = nil
	case len(way.Peers) > 0:
		way.Announced = true
	case mute != "":
		way.Reason = because(NoNextHop, "node %s has no %s address that router %s could use as next hop", b.node.Name, f, mute)
	case limited:
		way.Reason = because(NoPeers, "none of the BGPPeers that IPPool %s names is usable from node %s", u.pool.Name, b.node.Name)
	default:
		way.Reason = because(NoPeers, "no BGPPeer is usable from node %s", b.node.Name)
	}
	return way
}

// union returns the names of both, sorted. It shares a where that is all.
func union(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	out := a
	for _, name := range b {
		if i, ok := slices.BinarySearch(out, name); !ok {
			out = slices.Insert(slices.Clone(out), i, name)
		}
	}
	return out
}
