package plan

import (
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

// contest is what becomes of a VIP on its segment.
type contest struct {
	net *subnet
	// unfit says why this node cannot have it, whoever owns it; a code of NoSubnet or SubnetAddress: there is no contest.
	unfit      Reason
	candidates []elect.Candidate
	// owner is empty where there are no candidates.
	owner string
}

// segment is a subnet in the eyes of a pool.
type segment struct {
	pool   string
	subnet netip.Prefix
}

// electorate is what the elections of several VIPs have in common.
type electorate struct {
	// present are the nodes that a pool lets own addresses in a subnet; voters are those of them that count, for Services that
	// any node can serve.
	present map[segment][]*cluster.Node
	voters  map[segment][]elect.Candidate
	// endpoints are the nodes with a ready endpoint of a Service.
	endpoints map[cluster.Name]map[string]bool
	// notOwners and silences are reasons by owner and by segment.
	notOwners map[string]Reason
	silences  map[segment]string
	// letGo counts the addresses of a subnet that are let go of.
	letGo map[netip.Prefix]int
}

func newElectorate() electorate {
	return electorate{
		present: map[segment][]*cluster.Node{}, voters: map[segment][]elect.Candidate{}, endpoints: map[cluster.Name]map[string]bool{},
		notOwners: map[string]Reason{}, silences: map[segment]string{}, letGo: map[netip.Prefix]int{},
	}
}

// electOwners holds the contest of each VIP that is announced by ARP or NDP, all those of a subnet together, since they share
// its nodes. All nodes of a subnet find the same owners as soon as they know the same. It returns the subnets.
func (b *builder) electOwners(uses []use) []LAN {
	type election struct {
		items []elect.Item
		uses  []*use
	}
	elections := map[netip.Prefix]*election{}
	lans := map[netip.Prefix]LAN{}
	for i := range uses {
		u := &uses[i]
		if u.reason.Code != "" || u.pool.ARP == nil {
			continue
		}
		u.net, u.unfit = b.subnetFor(u)
		if u.unfit.Code == NoSubnet || u.unfit.Code == SubnetAddress {
			continue
		}
		u.candidates = b.candidatesOf(u)
		subnet := u.net.prefix
		e := elections[subnet]
		if e == nil {
			e = &election{items: make([]elect.Item, 0, len(uses)-i), uses: make([]*use, 0, len(uses)-i)}
			elections[subnet] = e
			lans[subnet] = b.lan(*u.net)
		}
		e.items = append(e.items, elect.Item{Addr: u.addr, Candidates: u.candidates, Holder: b.facts.Segments[subnet].Holders[u.addr]})
		e.uses = append(e.uses, u)
	}
	for subnet, e := range elections {
		for i, owner := range b.assign(subnet, e.items) {
			e.uses[i].owner = owner
		}
	}
	b.addPoolLANs(lans)
	return sortedLANs(lans)
}

// assign returns the owners of the items of a subnet. As long as nobody knows who holds what there, each is elected by itself:
// balanced together, one that comes or goes could move any of the others.
func (b *builder) assign(subnet netip.Prefix, items []elect.Item) []string {
	if s := b.facts.Segments[subnet]; len(s.Members) > 0 && !s.Blind {
		return elect.Assign(items)
	}
	var owners []string
	for i := range items {
		owners = append(owners, elect.Assign(items[i:i+1])...)
	}
	return owners
}

// candidatesOf returns the nodes that may own the VIP: those that are present and, for externalTrafficPolicy Local, have an
// endpoint. Of these the ready ones, as far as that counts.
func (b *builder) candidatesOf(u *use) []elect.Candidate {
	key := segment{u.pool.Name, u.net.prefix}
	present, ok := b.present[key]
	if !ok {
		present = b.presentIn(u.pool.ARP, u.net.prefix)
		b.present[key] = present
		b.voters[key] = b.asCandidates(u.pool.ARP, present)
	}
	// Where nodes know each other, the others do not reckon with this one when its interface is down or not allowed. Where
	// the API alone decides they do, so it wins what it cannot have, and tells.
	barred := u.unfit.Code != "" && len(b.facts.Segments[u.net.prefix].Members) > 0 && slices.Contains(present, b.node)
	if u.all && !barred {
		return b.voters[key]
	}
	var some []*cluster.Node
	for _, n := range present {
		if (!barred || n != b.node) && (u.all || b.hasEndpoint(u, n.Name)) {
			some = append(some, n)
		}
	}
	return b.asCandidates(u.pool.ARP, some)
}

func (b *builder) asCandidates(a *cluster.ARPAnnounce, nodes []*cluster.Node) []elect.Candidate {
	var out []elect.Candidate
	for _, n := range b.readyOnes(nodes) {
		out = append(out, elect.Candidate{Name: n.Name, Preference: a.Preference(n.Labels)})
	}
	return out
}

func (b *builder) presentIn(a *cluster.ARPAnnounce, subnet netip.Prefix) []*cluster.Node {
	var out []*cluster.Node
	for _, n := range b.nodes {
		if !n.Excluded && a.Nodes.Matches(n.Labels) && b.onSegment(n, subnet, a) {
			out = append(out, n)
		}
	}
	return out
}

// onSegment reports whether a node takes part on a segment, by an interface that is allowed. As long as the nodes do not know
// each other there, that is seen from its InternalIPs: it is all that the API tells of another node's interfaces.
func (b *builder) onSegment(n *cluster.Node, subnet netip.Prefix, a *cluster.ARPAnnounce) bool {
	if n == b.node && b.facts.Draining {
		return false
	}
	members := b.facts.Segments[subnet].Members
	if len(members) == 0 {
		return slices.ContainsFunc(n.InternalIPs, subnet.Contains)
	}
	m := members[n.Name]
	return m.Alive && (m.Interface == "" || allows(a, m.Interface))
}

func allows(a *cluster.ARPAnnounce, iface string) bool {
	return len(a.Interfaces) == 0 || slices.Contains(a.Interfaces, iface)
}

// hasEndpoint is serves for Services with externalTrafficPolicy Local, of which many may ask for many nodes.
func (b *builder) hasEndpoint(u *use, node string) bool {
	for _, svc := range u.local {
		nodes, ok := b.endpoints[svc]
		if !ok {
			nodes = map[string]bool{}
			for _, slice := range b.snap.Slices[svc] {
				for i := range slice.Endpoints {
					n := slice.Endpoints[i].Node
					if _, known := nodes[n]; !known {
						nodes[n] = b.snap.HasLocalEndpoint(svc, n)
					}
				}
			}
			b.endpoints[svc] = nodes
		}
		if nodes[node] {
			return true
		}
	}
	return false
}

// neighbours returns the stations that matter to a speaker on this node's links.
func (b *builder) neighbours() Neighbours {
	out := Neighbours{Gateways: b.facts.Gateways}
	for ip := range b.nodeIPs {
		if slices.ContainsFunc(b.subnets, func(s subnet) bool { return s.prefix.Contains(ip) }) {
			out.Nodes = append(out.Nodes, ip)
		}
	}
	for _, i := range b.facts.Interfaces {
		out.MACs = append(out.MACs, i.MAC)
	}
	for _, s := range b.facts.Segments {
		for _, m := range s.Members {
			out.MACs = append(out.MACs, m.MAC)
		}
	}
	slices.SortFunc(out.Nodes, netip.Addr.Compare)
	slices.SortFunc(out.MACs, func(x, y MAC) int { return slices.Compare(x[:], y[:]) })
	out.MACs = slices.DeleteFunc(slices.Compact(out.MACs), func(m MAC) bool { return m == MAC{} })
	return out
}
