package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/elect"
)

// freshness is how long a VIP counts as new. It spans the way from the controller to the node, and the difference of their
// clocks.
const freshness = time.Minute

// layer2 decides whether this node should have the VIP on one of its links, after electOwners.
func (b *builder) layer2(u *use) (Way, L2) {
	way := Way{Via: ARP}
	if u.addr.Is6() {
		way.Via = NDP
	}
	if way.Reason = u.unfit; way.Reason.Code != "" {
		return way, L2{}
	}
	way.Interface = u.net.iface.Name
	l2 := L2{
		Addr: u.addr, Link: u.net.iface.Link, Subnet: u.net.prefix, Serve: u.pool.ARP.Serve,
		Fresh: b.young(u) || b.untaken(u),
	}
	switch {
	case u.owner == b.facts.Node:
		way.Announced = true
	case b.keeps(u):
		way.Announced, l2.Kind = true, Keep
		if u.owner == "" {
			l2.Kind = Alone
		}
	case slices.ContainsFunc(u.candidates, func(c elect.Candidate) bool { return c.Name == b.facts.Node }):
		way.Reason = b.notOwner(u)
	default:
		way.Reason = b.notCandidate(u)
	}
	return way, l2
}

func (b *builder) young(u *use) bool {
	return b.facts.Now.Sub(u.created) < freshness && !u.created.IsZero() && !b.facts.Now.IsZero()
}

// untaken reports whether nobody has had a VIP in one of this node's subnets since it was young. Where it is not known who holds
// what, its age alone must do.
func (b *builder) untaken(u *use) bool {
	if u.pool == nil || u.pool.ARP == nil || !b.facts.Untaken[u.addr] && !b.young(u) {
		return false
	}
	in := false
	for i := range b.subnets {
		if subnet := b.subnets[i].prefix; subnet.Contains(u.addr) {
			s := b.facts.Segments[subnet]
			if s.Blind || s.Holders[u.addr] != "" {
				return false
			}
			in = true
		}
	}
	return in
}

// keeps reports whether this node goes on with an address that is to move: make before break. It ends when the owner asks for
// the address, or when traffic would find nothing here.
func (b *builder) keeps(u *use) bool {
	segment := b.facts.Segments[u.net.prefix]
	if b.node == nil || segment.Holders[u.addr] != b.node.Name || !b.serves(u, b.node.Name) {
		return false
	}
	if u.owner == "" {
		// Nobody could take it. A node that was told not to have it obeys; one that only drains serves to the end.
		return b.facts.Draining && b.fit(u, u.pool.ARP.Nodes).Code == ""
	}
	if segment.Contenders[u.addr] != u.owner {
		return true
	}
	if b.facts.Draining {
		return false // there is little time
	}
	b.letGo[u.net.prefix]++
	return b.letGo[u.net.prefix] > letGoAtOnce
}

// letGoAtOnce is how many addresses of a segment a plan lets go of when they move although their holder is well. Each is
// answered for by nobody from then until the other nodes have granted it to its new owner, and that takes the longer the more
// there are. The rest follows in the next plans.
const letGoAtOnce = 32

func (b *builder) notOwner(u *use) Reason {
	r, ok := b.notOwners[u.owner]
	if !ok {
		r = because(NotOwner, "node %s owns it", u.owner)
		b.notOwners[u.owner] = r
	}
	return r
}

// notCandidate says why this node cannot own the VIP, and why no other can if that is so.
func (b *builder) notCandidate(u *use) Reason {
	r := b.fit(u, u.pool.ARP.Nodes)
	if r.Code == "" {
		r = because(NotCandidate, "node %s %s", b.facts.Node, b.absence(b.facts.Node, u))
		if len(b.facts.Segments[u.net.prefix].Members) > 0 || b.facts.Draining {
			r.Code = NotAlive
		}
	}
	if u.owner != "" {
		return r
	}
	if others := b.whyNotOthers(u); others != "" {
		r.Text += "; nor can another node own it: " + others
	}
	return r
}

// maxOthers is how many other nodes nobody speaks of.
const maxOthers = 4

func (b *builder) whyNotOthers(u *use) string {
	key := segment{u.pool.Name, u.net.prefix}
	if text, ok := b.silences[key]; ok && u.all {
		return text
	}
	var texts []string
	more := 0
	for _, n := range b.nodes {
		switch {
		case n == b.node:
		case len(texts) == maxOthers:
			more++
		default:
			texts = append(texts, n.Name+" "+b.whyNot(u, n))
		}
	}
	text := strings.Join(texts, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if u.all {
		b.silences[key] = text
	}
	return text
}

func (b *builder) whyNot(u *use, n *cluster.Node) string {
	_, why := n.CanAnnounce()
	switch {
	case !u.pool.ARP.Nodes.Matches(n.Labels):
		return "is not selected"
	case n.Excluded:
		return "is " + why
	case !b.onSegment(n, u.net.prefix, u.pool.ARP):
		return b.absence(n.Name, u)
	case !b.serves(u, n.Name):
		return "has no ready endpoint"
	default:
		return "is " + why
	}
}

// absence says why a node is not on the segment of the VIP.
func (b *builder) absence(node string, u *use) string {
	members := b.facts.Segments[u.net.prefix].Members
	m, ok := members[node]
	switch {
	case node == b.facts.Node && b.facts.Draining:
		return "drains"
	case len(members) == 0 || !ok && !slices.ContainsFunc(b.snap.Nodes[node].InternalIPs, u.net.prefix.Contains):
		return fmt.Sprintf("has no InternalIP in %s", u.net.prefix)
	case ok && m.Alive:
		return fmt.Sprintf("is there by interface %s, which the pool does not name", m.Interface)
	default:
		return fmt.Sprintf("is not heard in %s", u.net.prefix)
	}
}
