package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

// Build makes the Plan of the node that facts are of.
func Build(snap *cluster.Snapshot, facts Facts) Plan { return UsesOf(snap).Build(facts) }

// Build is Build of the Snapshot that the Uses are of.
func (s *Uses) Build(facts Facts) Plan {
	b := newBuilder(s, facts)
	plan := Plan{BGP: b.sessions(), Decisions: make([]Decision, 0, len(s.list))}
	plan.Own = b.ownAddresses()
	plan.Neighbours = b.neighbours()
	plan.Ping.IPv4, plan.Ping.IPv6 = b.hostAddress(cluster.IPv4), b.hostAddress(cluster.IPv6)
	uses := make([]use, len(s.list))
	for i := range s.list {
		uses[i].usage = &s.list[i]
	}
	plan.LANs = b.electOwners(uses)
	ways := b.reserve(&plan, uses)
	for i := range uses {
		u := &uses[i]
		d := Decision{VIP: u.addr, Services: u.services, Reason: u.reason}
		if u.inUse && !u.pool.Silent {
			plan.Ping.VIPs = append(plan.Ping.VIPs, u.addr)
		}
		if b.untaken(u) {
			if plan.Untaken == nil {
				plan.Untaken = map[netip.Addr]bool{}
			}
			plan.Untaken[u.addr] = true
		}
		first := len(ways)
		if d.Reason.Code == "" && u.pool.ARP != nil {
			way, l2 := b.layer2(u)
			if way.Announced {
				plan.L2 = append(plan.L2, l2)
			}
			ways = append(ways, way)
		}
		if d.Reason.Code == "" && u.pool.BGP != nil {
			ways = append(ways, b.bgp(u, plan.BGP.Peers))
		}
		if len(ways) > first {
			d.Ways = ways[first:len(ways):len(ways)]
		}
		d.Reporter = b.reporter(u, &d)
		plan.Decisions = append(plan.Decisions, d)
	}
	plan.BGP.Routes = b.routes.sorted()
	return plan
}

// reserve makes room in the plan for what there will be about the VIPs, and returns the room for their ways: there may be
// many, and the plan is made often.
func (b *builder) reserve(p *Plan, uses []use) []Way {
	ways, own, pinged := 0, 0, 0
	for i := range uses {
		u := &uses[i]
		if u.inUse && !u.pool.Silent {
			pinged++
		}
		if u.reason.Code != "" {
			continue
		}
		if u.owner == b.facts.Node {
			own++
		}
		if u.pool.ARP != nil {
			ways++
		}
		if u.pool.BGP != nil {
			ways++
		}
	}
	if own > 0 {
		p.L2 = make([]L2, 0, own)
	}
	if pinged > 0 {
		p.Ping.VIPs = make([]netip.Addr, 0, pinged)
	}
	return make([]Way, 0, ways)
}

// use is what a VIP is used for, and what becomes of it.
type use struct {
	*usage
	contest
}

// builder holds what is worked out once for all VIPs.
type builder struct {
	snap  *cluster.Snapshot
	facts Facts
	// node is nil as long as the API does not have it.
	node    *cluster.Node
	subnets []subnet
	// nodes by name; announcers are those that may announce; nodeIPs are the addresses of all nodes.
	nodes      []*cluster.Node
	announcers []string
	// readinessCounts is false where most nodes are said not to be ready.
	readinessCounts bool
	nodeIPs         map[netip.Addr]string
	// routes of BGP so far; exports are those of each pool's advertisements.
	routes  routeTable
	exports map[exportKey]*exports

	electorate
	// routers are the nodes that could announce addresses of a pool by BGP.
	routers map[string][]string
}

func newBuilder(s *Uses, facts Facts) *builder {
	b := &builder{
		snap: s.snap, facts: facts, node: s.snap.Nodes[facts.Node],
		subnets: subnetsOf(facts.Interfaces),
		nodeIPs: s.nodeIPs, electorate: newElectorate(), routers: map[string][]string{},
		routes: routeTable{}, exports: map[exportKey]*exports{},
	}
	for _, n := range s.snap.Nodes {
		b.nodes = append(b.nodes, n)
	}
	slices.SortFunc(b.nodes, func(x, y *cluster.Node) int { return cmp.Compare(x.Name, y.Name) })
	ready := 0
	for _, n := range b.nodes {
		if n.Ready {
			ready++
		}
	}
	b.readinessCounts = 2*ready >= len(b.nodes)
	for _, n := range b.readyOnes(b.nodes) {
		b.announcers = append(b.announcers, n.Name)
	}
	return b
}

// readyOnes returns the nodes that are not excluded and ready. Where most of the cluster's nodes are not, or all of these, that says
// more of the API than of the nodes (kubelets that cannot reach it are not ready): then readiness does not count, so that a control
// plane that is lost does not silence everybody, and one that is back does not send everything to the first node that is ready again.
func (b *builder) readyOnes(nodes []*cluster.Node) []*cluster.Node {
	var ready, all []*cluster.Node
	for _, n := range nodes {
		if n.Excluded {
			continue
		}
		all = append(all, n)
		if n.Ready {
			ready = append(ready, n)
		}
	}
	if len(ready) == 0 || !b.readinessCounts {
		return all
	}
	return ready
}

// serves reports whether traffic that arrives at the node would find an endpoint.
func (b *builder) serves(u *use, node string) bool {
	return u.all || slices.ContainsFunc(u.local, func(svc cluster.Name) bool { return b.snap.HasLocalEndpoint(svc, node) })
}

// fit says why this node must not announce the VIP in any way, or in a way that is limited by the selector.
func (b *builder) fit(u *use, selector cluster.Selector) Reason {
	if b.node != nil && !slices.Contains(b.announcers, b.node.Name) {
		_, why := b.node.CanAnnounce()
		return because(NodeCannotAnnounce, "node %s is %s", b.node.Name, why)
	}
	return b.suits(u, selector)
}

// suits is fit without regard to what else the node may do.
func (b *builder) suits(u *use, selector cluster.Selector) Reason {
	switch {
	case b.node == nil:
		return because(NodeNotFound, "node %s is not known to the API server", b.facts.Node)
	case !selector.Matches(b.node.Labels):
		return because(NodeNotSelected, "the node selector of IPPool %s leaves node %s out", u.pool.Name, b.node.Name)
	case !b.serves(u, b.node.Name):
		return because(NoLocalEndpoint, "node %s has no ready endpoint of Service %s, whose externalTrafficPolicy is Local", b.node.Name, u.local[0])
	default:
		return Reason{}
	}
}

// reporter elects, with the hash that elects owners, the node that tells of a VIP that nobody seems to announce: among the
// nodes that could announce it, as far as this one can know, or, where none could, among all. One that is ready comes before
// those that are not, whether or not that counts: they may be gone.
func (b *builder) reporter(u *use, d *Decision) bool {
	for _, w := range d.Ways {
		if w.Announced || w.Reason.Code == NotOwner {
			return false
		}
	}
	switch {
	case d.Reason.Code == Reserved:
		return false
	case u.owner == b.facts.Node:
		return true // the others wait for this one
	}
	var could []string
	if d.Reason.Code == "" {
		could = b.could(u)
	}
	if len(could) == 0 {
		could = b.announcers
	}
	unready := func(name string) bool { return !b.snap.Nodes[name].Ready }
	if ready := slices.DeleteFunc(slices.Clone(could), unready); len(ready) > 0 {
		could = ready
	}
	return elect.Owner(d.VIP, could) == b.facts.Node
}

// could returns the nodes that could announce the VIP by layer 2 or, as far as the API tells, by BGP.
func (b *builder) could(u *use) []string {
	var out []string
	for _, c := range u.candidates {
		out = append(out, c.Name)
	}
	if u.pool.BGP == nil {
		return out
	}
	routers, ok := b.routers[u.pool.Name]
	if !ok {
		for _, name := range b.announcers {
			n := b.snap.Nodes[name]
			if u.pool.BGP.Nodes.Matches(n.Labels) && b.hasPeer(n, u.pool.BGP) {
				routers = append(routers, name)
			}
		}
		b.routers[u.pool.Name] = routers
	}
	for _, name := range routers {
		if b.serves(u, name) {
			out = append(out, name)
		}
	}
	return out
}

// hasPeer reports whether there is a BGPPeer for the node that one of the advertisements is for.
func (b *builder) hasPeer(n *cluster.Node, announce *cluster.BGPAnnounce) bool {
	meant := func(peer string) bool {
		return len(announce.Advertisements) == 0 || slices.ContainsFunc(announce.Advertisements, func(ad *cluster.Advertisement) bool {
			return len(ad.Peers) == 0 || slices.Contains(ad.Peers, peer)
		})
	}
	for name, p := range b.snap.Peers {
		if p.Nodes.Matches(n.Labels) && meant(name) {
			return true
		}
	}
	return false
}
