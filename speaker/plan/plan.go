package plan

import (
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

// Build makes the Plan of the node that facts are of.
func Build(snap *cluster.Snapshot, facts Facts) Plan {
	b := newBuilder(snap, facts)
	plan := Plan{BGP: b.sessions(), Decisions: make([]Decision, 0, len(snap.VIPs))}
	plan.Own = b.ownAddresses()
	plan.Ping.IPv4, plan.Ping.IPv6 = b.hostAddress(cluster.IPv4), b.hostAddress(cluster.IPv6)
	for _, vip := range b.sortedVIPs() {
		u := b.use(vip)
		d := Decision{VIP: vip.Address, Services: u.services, Reason: u.reason}
		if u.inUse {
			plan.Ping.VIPs = append(plan.Ping.VIPs, vip.Address)
		}
		if d.Reason.Code == "" && u.pool.ARP != nil {
			way, link := b.layer2(&u)
			if way.Announced {
				plan.L2 = append(plan.L2, L2{Addr: vip.Address, Link: link})
			}
			d.Ways = append(d.Ways, way)
		}
		if d.Reason.Code == "" && u.pool.BGP != nil {
			way, route := b.bgp(&u, plan.BGP.Peers)
			if way.Announced {
				plan.BGP.Routes = append(plan.BGP.Routes, route)
			}
			d.Ways = append(d.Ways, way)
		}
		d.Reporter = b.reporter(&d)
		plan.Decisions = append(plan.Decisions, d)
	}
	return plan
}

// builder holds what is worked out once for all VIPs.
type builder struct {
	snap  *cluster.Snapshot
	facts Facts
	// node is nil as long as the API does not have it.
	node    *cluster.Node
	subnets []subnet
	// announcers are the nodes that may announce; nodeIPs are the addresses of all nodes.
	announcers     []*cluster.Node
	announcerNames []string
	nodeIPs        map[netip.Addr]string
	// candidates by pool and subnet.
	candidates map[segment][]string
}

type segment struct {
	pool   string
	subnet netip.Prefix
}

func newBuilder(snap *cluster.Snapshot, facts Facts) *builder {
	b := &builder{
		snap: snap, facts: facts, node: snap.Nodes[facts.Node],
		subnets: subnetsOf(facts.Interfaces),
		nodeIPs: map[netip.Addr]string{}, candidates: map[segment][]string{},
	}
	for _, n := range snap.Nodes {
		for _, ip := range n.InternalIPs {
			b.nodeIPs[ip] = n.Name
		}
		if ok, _ := n.CanAnnounce(); ok {
			b.announcers = append(b.announcers, n)
			b.announcerNames = append(b.announcerNames, n.Name)
		}
	}
	return b
}

func (b *builder) sortedVIPs() []*cluster.VIP {
	vips := make([]*cluster.VIP, 0, len(b.snap.VIPs))
	for _, v := range b.snap.VIPs {
		vips = append(vips, v)
	}
	slices.SortFunc(vips, func(x, y *cluster.VIP) int { return x.Address.Compare(y.Address) })
	return vips
}

// use is what a VIP is used for.
type use struct {
	addr netip.Addr
	pool *cluster.Pool
	// services that have the VIP and an endpoint somewhere; with a reason, those that the VIP names.
	services []cluster.Name
	// local are those of services that have externalTrafficPolicy Local; all is true when one has not, so that any node
	// will do.
	local []cluster.Name
	all   bool
	// inUse is true when a Service has the address, with or without endpoints.
	inUse bool
	// reason why no node announces it.
	reason Reason
}

// use finds the Services that a VIP may be announced for. One is enough; if there is none, the reason is that of the
// Service that came furthest.
func (b *builder) use(vip *cluster.VIP) use {
	u := use{addr: vip.Address, pool: b.poolOf(vip), services: vip.Services}
	node, isNode := b.nodeIPs[vip.Address]
	switch {
	case len(vip.Services) == 0:
		u.reason = because(Reserved, "no Service uses it")
	case isNode:
		u.reason = because(NodeAddress, "it is the InternalIP of node %s: take it out of IPPool %s", node, vip.Pool)
	}
	if u.reason.Code != "" {
		return u
	}

	var serving []cluster.Name
	for _, name := range vip.Services {
		svc := b.snap.Services[name]
		rank, why := b.suffices(svc, name, vip.Address)
		if rank >= rankInUse {
			u.inUse = true
		}
		if rank == rankServing {
			serving = append(serving, name)
			if svc.ExternalLocal {
				u.local = append(u.local, name)
			} else {
				u.all = true
			}
		}
		if rank > rankOf[u.reason.Code] || u.reason.Code == "" {
			u.reason = why
		}
	}
	if len(serving) > 0 {
		u.services, u.reason = serving, Reason{}
	}
	return u
}

// poolOf returns the pool whose settings the VIP has. Whether the pool still holds it does not matter: what was given out is
// announced. If somebody removed the pool by force, it is announced in every way.
func (b *builder) poolOf(vip *cluster.VIP) *cluster.Pool {
	if p := b.snap.Pools[vip.Pool]; p != nil {
		return p
	}
	return &cluster.Pool{Name: vip.Pool, ARP: &cluster.ARPAnnounce{}, BGP: &cluster.BGPAnnounce{}}
}

// Ranks of a Service on its way to being announced: what it takes for one reason to hide another.
const (
	rankInUse   = 4
	rankServing = 5
)

var rankOf = map[Code]int{ServiceNotFound: 1, NotLoadBalancer: 2, NotInStatus: 3, NoEndpoints: rankInUse} //nolint:gochecknoglobals // a constant

func (b *builder) suffices(svc *cluster.Service, name cluster.Name, addr netip.Addr) (int, Reason) {
	var why Reason
	switch {
	case svc == nil:
		why = because(ServiceNotFound, "Service %s does not exist", name)
	case svc.Type != cluster.LoadBalancer:
		why = because(NotLoadBalancer, "Service %s is not of type LoadBalancer", name)
	case !slices.Contains(b.snap.VIPsOf(svc), addr):
		why = because(NotInStatus, "the status of Service %s does not have it", name)
	case !b.snap.HasEndpoint(name):
		why = because(NoEndpoints, "Service %s has no ready endpoint", name)
	default:
		return rankServing, Reason{}
	}
	return rankOf[why.Code], why
}

// serves reports whether traffic that arrives at the node would find an endpoint.
func (b *builder) serves(u *use, node string) bool {
	return u.all || slices.ContainsFunc(u.local, func(svc cluster.Name) bool { return b.snap.HasLocalEndpoint(svc, node) })
}

// fit says why this node must not announce the VIP in any way, or in a way that is limited by the selector.
func (b *builder) fit(u *use, selector cluster.Selector) Reason {
	if b.node == nil {
		return because(NodeNotFound, "node %s is not known to the API server", b.facts.Node)
	}
	if ok, why := b.node.CanAnnounce(); !ok {
		return because(NodeCannotAnnounce, "node %s is %s", b.node.Name, why)
	}
	if !selector.Matches(b.node.Labels) {
		return because(NodeNotSelected, "the node selector of IPPool %s leaves node %s out", u.pool.Name, b.node.Name)
	}
	if !b.serves(u, b.node.Name) {
		return because(NoLocalEndpoint, "node %s has no ready endpoint of Service %s, whose externalTrafficPolicy is Local", b.node.Name, u.local[0])
	}
	return Reason{}
}

// reporter elects, with the hash that elects owners, the node that tells of a VIP that nobody seems to announce.
func (b *builder) reporter(d *Decision) bool {
	for _, w := range d.Ways {
		if w.Announced || w.Reason.Code == NotOwner {
			return false
		}
	}
	return d.Reason.Code != Reserved && elect.Owner(d.VIP, b.announcerNames) == b.facts.Node
}
