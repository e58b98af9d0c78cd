package bgp

import (
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

const (
	// globalASN is the server's own AS number. No router sees it: every session has a local AS.
	globalASN = 4294967294
	// defaultLocalPref is usual where nothing else is said.
	defaultLocalPref = 100

	globalTable = "global"
	importName  = "import"
	exportName  = "export"
)

// Our tags are large communities (RFC 8092) of the AS 4294967295: 4294967295:ATTRIBUTES:PEER. That number is reserved
// (RFC 7300), so nobody's own community can look like one. They are taken off on the way out.

// addressOf is the key that gobgp knows a peer by.
func addressOf(p plan.Peer) netip.Addr { return p.Session.Address.Addr() }

var families = map[cluster.Family]*api.Family{ //nolint:gochecknoglobals // a constant
	cluster.IPv4: {Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST},
	cluster.IPv6: {Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST},
}

// deferral is how long gobgp waits at most, in seconds, for routers to send their routes before it sends ours after a restart
// (RFC 4724 section 4.1). Ours do not depend on theirs, and 0 would be its default of 360.
const deferral = 1

// neighbor returns the configuration of a session. After a restart it says so to the router and that forwarding went on, so
// that the router keeps the routes that it has until it gets them anew (RFC 4724 section 4.2).
func neighbor(p plan.Peer, restarted bool) *api.Peer {
	s := p.Session
	n := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: s.Address.Addr().String(),
			PeerAsn:         s.PeerASN,
			LocalAsn:        s.LocalASN,
			AuthPassword:    s.Password,
			Description:     p.Name,
		},
		Timers: &api.Timers{
			Config: &api.TimersConfig{
				HoldTime:          uint64(s.HoldTime),
				KeepaliveInterval: uint64(s.KeepaliveTime),
				ConnectRetry:      uint64(s.ConnectRetryTime),
			},
			// gobgp 4.8 works the hold time out when a session is established, and until then goes by what is here: with 0 it
			// would wait for ever for a router that sends an OPEN and no KEEPALIVE, and send none either (pkg/server/fsm.go,
			// openconfirm; RFC 4271 section 8.2.2 has the timer run from the OPEN on).
			State: &api.TimersState{NegotiatedHoldTime: uint64(s.HoldTime), KeepaliveInterval: uint64(s.KeepaliveTime)},
		},
		Transport: &api.Transport{RemotePort: uint32(s.Address.Port())},
	}
	if s.Source.IsValid() {
		n.Transport.LocalAddress = s.Source.String()
	}
	switch eBGP := s.PeerASN != s.LocalASN; {
	case s.MinTTL > 0:
		n.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: uint32(s.MinTTL)}
	case eBGP && s.MultihopTTL > 0:
		n.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(s.MultihopTTL)}
	case eBGP: // TTL 255, for routers that check it, and no check of theirs
		n.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 1}
	}
	if s.RestartTime > 0 {
		n.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(s.RestartTime), DeferralTime: deferral, LocalRestarting: restarted}
	}
	for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		if !s.Speaks(f) {
			continue
		}
		n.AfiSafis = append(n.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: families[f], Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: s.RestartTime > 0}},
			PrefixLimits:      &api.PrefixLimit{Family: families[f], MaxPrefixes: s.MaxPrefixes},
		})
	}
	return n
}

// path returns a route as gobgp originates it. Its next hop is unspecified: the session's local address, or what the
// export policy of the peer says, takes its place. So it is with all attributes; the LOCAL_PREF of 0 is there because no
// policy of gobgp's can set that.
func path(prefix netip.Prefix, tags []tag) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(prefix)
	if err != nil {
		return nil, fmt.Errorf("route to %s: %w", prefix, err)
	}
	p := &apiutil.Path{Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP),
		bgp.NewPathAttributeLocalPref(0),
	}}
	if prefix.Addr().Is4() {
		nh, err := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified())
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", prefix, err)
		}
		p.Attrs = append(p.Attrs, nh)
	} else {
		p.Family = bgp.RF_IPv6_UC
		reach, err := bgp.NewPathAttributeMpReachNLRI(p.Family, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", prefix, err)
		}
		p.Attrs = append(p.Attrs, reach)
	}
	tagged := make([]*bgp.LargeCommunity, 0, len(tags))
	for _, t := range tags {
		tagged = append(tagged, bgp.NewLargeCommunity(cluster.ReservedASN, t.attributes, t.peer))
	}
	p.Attrs = append(p.Attrs, bgp.NewPathAttributeLargeCommunities(tagged))
	return p, nil
}

// statement lets a peer have the routes of one family that carry one tag. Statements are comparable.
type statement struct {
	peer       string
	router     netip.Addr
	tag        tag
	family     cluster.Family
	attributes *cluster.Attributes
	// nextHop is invalid for the session's local address.
	nextHop  netip.Addr
	localASN uint32
	iBGP     bool
}

// export returns the statement for a peer's routes with a tag; ok is false where the peer cannot have the family. extended is
// true when the router agreed to IPv6 next hops of IPv4 routes.
func export(p plan.Peer, f cluster.Family, t tag, a *cluster.Attributes, extended bool) (st statement, ok bool) {
	s := p.Session
	if !s.Speaks(f) || f == cluster.IPv4 && s.ExtendedNextHop && !extended {
		return statement{}, false
	}
	st = statement{
		peer: p.Name, router: addressOf(p), tag: t, family: f, attributes: a, nextHop: p.NextHop4,
		localASN: s.LocalASN, iBGP: s.LocalASN == s.PeerASN,
	}
	if f == cluster.IPv6 {
		st.nextHop = p.NextHop6
	}
	return st, true
}

// policies lets in what this node originates (gobgp's import policy sees that too) and lets out what the statements say. All
// else is rejected by the default of the assignments.
func policies(statements []statement) *api.SetPoliciesRequest {
	local := &api.Policy{Name: importName, Statements: []*api.Statement{{
		Name:       "originated here",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	out := &api.Policy{Name: exportName}
	req := &api.SetPoliciesRequest{Policies: []*api.Policy{local, out}}
	known := map[string]bool{}
	for i := range statements {
		st := &statements[i]
		tagged := fmt.Sprintf("%s %d", st.peer, st.tag.attributes)
		if !known[st.peer] {
			known[st.peer] = true
			a := st.router.WithZone("")
			req.DefinedSets = append(req.DefinedSets, &api.DefinedSet{
				DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: st.peer, List: []string{netip.PrefixFrom(a, a.BitLen()).String()},
			})
		}
		if !known[tagged] {
			known[tagged] = true
			req.DefinedSets = append(req.DefinedSets, &api.DefinedSet{
				DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: tagged,
				List: []string{fmt.Sprintf("^%d:%d:%d$", uint32(cluster.ReservedASN), st.tag.attributes, st.tag.peer)},
			})
		}
		out.Statements = append(out.Statements, &api.Statement{
			Name: tagged + " " + st.family.String(),
			Conditions: &api.Conditions{
				NeighborSet:       &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: st.peer},
				LargeCommunitySet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: tagged},
				AfiSafiIn:         []*api.Family{families[st.family]},
			},
			Actions: actions(st),
		})
	}
	return req
}

// actions put the attributes of a statement on a route, in place of the tags.
func actions(st *statement) *api.Actions {
	attr := st.attributes
	a := &api.Actions{
		RouteAction:  api.RouteAction_ROUTE_ACTION_ACCEPT,
		Community:    replace(attr.Communities, cluster.Community.String),
		ExtCommunity: replace(attr.ExtCommunities, extCommunity),
		LargeCommunity: &api.CommunityAction{
			Type: api.CommunityAction_TYPE_REMOVE, Communities: []string{fmt.Sprintf("^%d:[0-9]+:[0-9]+$", uint32(cluster.ReservedASN))},
		},
	}
	if large := replace(attr.LargeCommunities, cluster.LargeCommunity.String); large != nil {
		a.LargeCommunity = large
	}
	if attr.MED != nil {
		a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*attr.MED)}
	}
	switch {
	case !st.iBGP && attr.Prepend > 0:
		a.AsPrepend = &api.AsPrependAction{Asn: st.localASN, Repeat: uint32(attr.Prepend)}
	case st.iBGP && attr.LocalPref == nil:
		a.LocalPref = &api.LocalPrefAction{Value: defaultLocalPref}
	case st.iBGP && *attr.LocalPref > 0:
		a.LocalPref = &api.LocalPrefAction{Value: *attr.LocalPref}
	}
	if st.nextHop.IsValid() {
		a.Nexthop = &api.NexthopAction{Address: st.nextHop.String()}
	}
	return a
}

func replace[T any](list []T, write func(T) string) *api.CommunityAction {
	if len(list) == 0 {
		return nil
	}
	a := &api.CommunityAction{Type: api.CommunityAction_TYPE_REPLACE}
	for _, c := range list {
		a.Communities = append(a.Communities, write(c))
	}
	return a
}

// extCommunity writes an extended community as gobgp reads it: an AS number of four octets with a dot (RFC 5396).
func extCommunity(c cluster.ExtCommunity) string {
	if !c.Addr.IsValid() && c.ASN > 65535 {
		return fmt.Sprintf("%s:%d.%d:%d", c.Kind, c.ASN>>16, c.ASN&0xffff, c.Number)
	}
	return c.String()
}
