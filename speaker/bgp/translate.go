package bgp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

const (
	// globalASN is the server's own AS number. No router sees it: every session has a local AS.
	globalASN = 4294967294
	// tagASN marks our tags among the large communities (RFC 8092): 4294967295:0:TAG. The number is reserved (RFC 7300),
	// so nobody's own community can look like one. They are removed on the way out.
	tagASN = 4294967295

	globalTable = "global"
	importName  = "import"
	exportName  = "export"
)

// addressOf is the key that gobgp knows a peer by.
func addressOf(p plan.Peer) netip.Addr { return p.Session.Address.Addr() }

var families = map[cluster.Family]*api.Family{ //nolint:gochecknoglobals // a constant
	cluster.IPv4: {Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST},
	cluster.IPv6: {Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST},
}

// neighbor returns the configuration of a session.
func neighbor(p plan.Peer) *api.Peer {
	s := p.Session
	n := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: s.Address.Addr().String(),
			PeerAsn:         s.PeerASN,
			LocalAsn:        s.LocalASN,
			AuthPassword:    s.Password,
			Description:     p.Name,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime:          uint64(s.HoldTime),
			KeepaliveInterval: uint64(s.KeepaliveTime),
			ConnectRetry:      uint64(s.ConnectRetryTime),
		}},
		Transport: &api.Transport{RemotePort: uint32(s.Address.Port())},
	}
	if s.Source.IsValid() {
		n.Transport.LocalAddress = s.Source.String()
	}
	if s.MultihopTTL > 0 && s.PeerASN != s.LocalASN {
		n.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(s.MultihopTTL)}
	}
	for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		if s.Speaks(f) {
			n.AfiSafis = append(n.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: families[f], Enabled: true}})
		}
	}
	return n
}

// path returns a route as gobgp originates it. Its next hop is unspecified: the session's local address, or what the
// export policy of the peer says, takes its place.
func path(r plan.Route, tags map[string]uint32) (*apiutil.Path, error) {
	nlri, err := bgp.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, fmt.Errorf("route to %s: %w", r.Prefix, err)
	}
	p := &apiutil.Path{Family: bgp.RF_IPv4_UC, Nlri: nlri, Attrs: []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP),
	}}
	if r.Prefix.Addr().Is4() {
		nh, err := bgp.NewPathAttributeNextHop(netip.IPv4Unspecified())
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", r.Prefix, err)
		}
		p.Attrs = append(p.Attrs, nh)
	} else {
		p.Family = bgp.RF_IPv6_UC
		reach, err := bgp.NewPathAttributeMpReachNLRI(p.Family, []bgp.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
		if err != nil {
			return nil, fmt.Errorf("route to %s: %w", r.Prefix, err)
		}
		p.Attrs = append(p.Attrs, reach)
	}
	if len(r.Communities) > 0 {
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeCommunities(r.Communities))
	}
	if r.LocalPref != nil { // gobgp leaves it out towards eBGP peers (RFC 4271 section 5.1.5)
		p.Attrs = append(p.Attrs, bgp.NewPathAttributeLocalPref(*r.LocalPref))
	}
	var tagged []*bgp.LargeCommunity
	for _, name := range r.Peers {
		tagged = append(tagged, bgp.NewLargeCommunity(tagASN, 0, tags[name]))
	}
	p.Attrs = append(p.Attrs, bgp.NewPathAttributeLargeCommunities(tagged))
	return p, nil
}

// policies lets in what this node originates (gobgp's import policy sees that too) and lets each peer have the routes with
// its tag, without the tags and with its next hops. All else is rejected by the default of the assignments.
func policies(peers map[string]plan.Peer, tags map[string]uint32) *api.SetPoliciesRequest {
	local := &api.Policy{Name: importName, Statements: []*api.Statement{{
		Name:       "originated here",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}}}
	export := &api.Policy{Name: exportName}
	req := &api.SetPoliciesRequest{Policies: []*api.Policy{local, export}}
	for _, p := range slices.SortedFunc(maps.Values(peers), func(a, b plan.Peer) int { return cmp.Compare(a.Name, b.Name) }) {
		a := addressOf(p)
		set := &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: p.Name}
		req.DefinedSets = append(req.DefinedSets,
			&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: p.Name, List: []string{netip.PrefixFrom(a, a.BitLen()).String()}},
			&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: p.Name, List: []string{fmt.Sprintf("^%d:0:%d$", uint32(tagASN), tags[p.Name])}},
		)
		for f, nextHop := range map[cluster.Family]netip.Addr{cluster.IPv4: p.NextHop4, cluster.IPv6: p.NextHop6} {
			actions := &api.Actions{
				RouteAction:    api.RouteAction_ROUTE_ACTION_ACCEPT,
				LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_TYPE_REMOVE, Communities: []string{fmt.Sprintf("^%d:0:[0-9]+$", uint32(tagASN))}},
			}
			if nextHop.IsValid() {
				actions.Nexthop = &api.NexthopAction{Address: nextHop.String()}
			}
			export.Statements = append(export.Statements, &api.Statement{
				Name:       p.Name + " " + f.String(),
				Conditions: &api.Conditions{NeighborSet: set, LargeCommunitySet: set, AfiSafiIn: []*api.Family{families[f]}},
				Actions:    actions,
			})
		}
	}
	return req
}
