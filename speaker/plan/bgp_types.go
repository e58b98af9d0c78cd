package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// BGP are this node's sessions and what it originates.
type BGP struct {
	// RouterID is the BGP identifier: four bytes, not zero (RFC 6286). Invalid where there are no peers.
	RouterID netip.Addr
	// Peers sorted by name.
	Peers []Peer
	// Routes sorted by prefix.
	Routes []Route
	// Leaving is true when routers should be told to prefer other nodes before the routes are withdrawn (RFC 8326).
	Leaving bool
	// Refused are peers that no session is tried with, and why.
	Refused []PeerProblem
	// Discover are the interfaces on which routers have to be found, sorted.
	Discover []string
}

// PeerProblem says why there is no session with a BGPPeer.
type PeerProblem struct {
	Peer   string
	Reason Reason
}

// Peer is a router to have a session with. Peers are comparable; one whose Session is unchanged needs no reset.
type Peer struct {
	// Name of the BGPPeer.
	Name    string
	Session Session
	// NextHop4 and NextHop6 are the next hops of routes of each family. Invalid: the session's own local address.
	NextHop4, NextHop6 netip.Addr
	// BFD of the path to the router.
	BFD cluster.BFD
}

// Session are the parameters of a session. A change of any makes it another session.
type Session struct {
	// Address of the router; a link-local one has the interface as zone.
	Address  netip.AddrPort
	PeerASN  uint32
	LocalASN uint32
	// Source is invalid where the kernel chooses.
	Source netip.Addr
	// HoldTime, KeepaliveTime, ConnectRetryTime and RestartTime (0: no graceful restart) in seconds.
	HoldTime         uint16
	KeepaliveTime    uint16
	ConnectRetryTime uint16
	RestartTime      uint16
	// MultihopTTL is 0 for a router on the link.
	MultihopTTL uint8
	// MinTTL of packets from the router (RFC 5082); 0: any.
	MinTTL   uint8
	Password string
	// IPv4 and IPv6 are the families that are spoken.
	IPv4, IPv6 bool
	// ExtendedNextHop is true where IPv4 routes have an IPv6 next hop, if the router can (RFC 8950).
	ExtendedNextHop bool
	// MaxPrefixes of each family that the router may send; 0: any number.
	MaxPrefixes uint32
}

// Speaks reports whether the session carries routes of the family.
func (s *Session) Speaks(f cluster.Family) bool {
	return f == cluster.IPv4 && s.IPv4 || f == cluster.IPv6 && s.IPv6
}

// Route is a prefix to originate.
type Route struct {
	Prefix netip.Prefix
	// Exports sorted by peer; at least one.
	Exports []Export
}

// Export is a route for one peer. Attributes may be shared by many and must not be changed.
type Export struct {
	Peer       string
	Attributes *cluster.Attributes
}

// routeTable has the exports of each prefix.
type routeTable map[netip.Prefix][]Export

// add merges exports into those of the prefix; where a peer has one already, it keeps that.
func (t routeTable) add(prefix netip.Prefix, exports []Export) {
	have, ok := t[prefix]
	if !ok {
		t[prefix] = exports // shared with other prefixes of the pool
		return
	}
	merged := slices.Clone(have)
	for _, e := range exports {
		if !slices.ContainsFunc(have, func(h Export) bool { return h.Peer == e.Peer }) {
			merged = append(merged, e)
		}
	}
	if len(merged) > len(have) {
		slices.SortFunc(merged, func(a, b Export) int { return cmp.Compare(a.Peer, b.Peer) })
		t[prefix] = merged
	}
}

func (t routeTable) sorted() []Route {
	if len(t) == 0 {
		return nil
	}
	out := make([]Route, 0, len(t))
	for _, p := range slices.SortedFunc(maps.Keys(t), netip.Prefix.Compare) {
		out = append(out, Route{Prefix: p, Exports: t[p]})
	}
	return out
}
