package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// Facts are what a node knows of itself and the API does not say.
type Facts struct {
	// Node is the name of this node's Node object.
	Node       string
	Interfaces []Interface
	// Gateways are the next hops of the node's default routes.
	Gateways []netip.Addr
	// Routers are the link-local addresses of the routers that were heard on interfaces of BGP.Discover, by interface.
	Routers map[string][]netip.Addr
	// Draining is true when this node is to give up what it has, as soon as another has it.
	Draining bool
	// Segments say, by subnet, what the nodes there know of each other. Where one is missing or has no members, the API alone
	// decides who is a candidate.
	Segments map[netip.Prefix]Segment
	// Now is the time, to compare with that of the API server. Zero: no address counts as fresh.
	Now time.Time
	// Untaken is that of the plan before; nil if there was none.
	Untaken map[netip.Addr]bool
}

// Segment is what is known of the nodes of one subnet. It must not be changed.
type Segment struct {
	// Members by the name of their Node.
	Members map[string]Member
	// Holders are the nodes that have an address at present, by address; this node among them. An address may be missing.
	Holders map[netip.Addr]string
	// Blind: there are so many nodes that not every one knows all holders. Then each address is elected by itself.
	Blind bool
	// Contenders are the nodes that wait for this one to let an address go that it holds.
	Contenders map[netip.Addr]string
}

// Member is a node of a segment.
type Member struct {
	// Alive: the node is heard on the segment and takes part. One that drains does not.
	Alive bool
	// Interface that it takes part by; empty where that is not known.
	Interface string
	// MAC of that interface; zero where it is not known.
	MAC MAC
}

// Interface is a network interface of this node that has addresses.
type Interface struct {
	Link
	// Prefixes are the interface's addresses with the lengths of their subnets.
	Prefixes []netip.Prefix
	// Up is true when the interface is up and has a carrier.
	Up bool
}

// Link identifies an interface in one state of its life: a Link that differs in anything is another one, on which what is
// announced must be announced anew.
type Link struct {
	Index int
	Name  string
	// MAC is zero for an interface that is not Ethernet: it cannot carry ARP or NDP.
	MAC MAC
	// Ups counts how often the interface came up. Neighbours and switches may have forgotten everything since.
	Ups uint32
}

// MAC is an Ethernet address.
type MAC [6]byte

// String returns the address as 02:00:5e:10:00:01.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Plan is all that a node's speaker is to do.
type Plan struct {
	// L2 are the addresses that this node should have on its links, sorted.
	L2 []L2
	// LANs are the subnets in which pools or VIPs are announced by ARP or NDP, sorted.
	LANs []LAN
	// Neighbours are the stations on its links that matter beside them.
	Neighbours Neighbours
	// Ping says which addresses answer an ICMP echo.
	Ping Ping
	BGP  BGP
	// Decisions on every VIP, sorted by address.
	Decisions []Decision
	// Own are the addresses of pools that this node uses itself, sorted: a mistake in the pool.
	Own []OwnAddress
	// Untaken are the VIPs in this node's subnets that no node has had yet, as far as this one has heard since they were young: of
	// Services whose pods take long to become ready, for instance. It is for the Facts of the next plan.
	Untaken map[netip.Addr]bool
}

// OwnAddress is an address of a pool that a node uses itself.
type OwnAddress struct {
	Pool string
	Addr netip.Addr
	Use  OwnUse
}

// OwnUse is what a node uses an address for.
type OwnUse uint8

// The uses of an OwnAddress.
const (
	// OwnInterface: it is an address of an interface.
	OwnInterface OwnUse = iota
	// OwnGateway: it is the next hop of a default route.
	OwnGateway
	// OwnSubnet: it is the network or broadcast address of an interface's subnet.
	OwnSubnet
)

// L2 is an address to answer for by ARP (IPv4) or NDP (IPv6) on one link.
type L2 struct {
	Addr netip.Addr
	Link Link
	// Subnet of the link that the address is in: the segment that its nodes compete on.
	Subnet netip.Prefix
	Kind   Kind
	// Serve is true where the pool's partition policy is Serve: this node goes on answering in a minority.
	Serve bool
	// Fresh is true while the VIP is so young, or was, without anybody having had it since, that nobody can know whether it is
	// free on the segment.
	Fresh bool
}

// Kind says why a node should have an address.
type Kind uint8

// The kinds.
const (
	// Own: the node is the elected owner.
	Own Kind = iota
	// Keep: the node has the address, and the elected owner is another one that has not claimed it yet. Until it does, the
	// address stays where it is, so that it is at no time nowhere.
	Keep
	// Alone: the node drains and has the address, and no other could own it: there is nobody to wait for.
	Alone
)

// String returns the kind as a word.
func (k Kind) String() string { return [...]string{"own", "keep", "alone"}[k] }

// LAN is one of this node's subnets.
type LAN struct {
	Subnet netip.Prefix
	Link   Link
	// Members are the nodes whose agents say that they have an interface in the subnet, sorted, alive or not.
	Members []LANMember
}

// LANMember is a node with an interface in a subnet.
type LANMember struct{ Node, Interface string }

// Neighbours are stations on this node's links.
type Neighbours struct {
	// Gateways are the next hops of the default routes: the first to be told when an address moves.
	Gateways []netip.Addr
	// Nodes are the addresses of the cluster's nodes in this node's subnets, sorted, and MACs those of their Ethernet
	// addresses that are known, sorted. Whoever else uses a VIP is a stranger.
	Nodes []netip.Addr
	MACs  []MAC
}

// Ping are the VIPs that this host answers echo requests to, with the VIP as source, whichever way the request came.
type Ping struct {
	// VIPs in use of pools that answer, sorted: all of them and not only those that this node announces, because any node
	// may get their traffic.
	VIPs []netip.Addr
	// IPv4 and IPv6 are addresses of this host that requests are handed to. Invalid: the family is not answered.
	IPv4, IPv6 netip.Addr
}

// Via is a way of announcing, in the words of VIP.status.announcers.
type Via string

// The ways.
const (
	ARP      Via = "ARP"
	NDP      Via = "NDP"
	BGPRoute Via = "BGP"
)

// Decision is what this node does about one VIP.
type Decision struct {
	VIP netip.Addr
	// Services that the VIP is announced for; where it is not, those that the VIP object names.
	Services []cluster.Name
	// Reason has a code when no node announces the VIP, whatever the way.
	Reason Reason
	// Ways that the pool allows, empty when Reason has a code.
	Ways []Way
	// Reporter is true on the one node that tells why a VIP is not announced by any node, as far as it can know.
	Reporter bool
}

// Announced reports whether this node announces the VIP in any way.
func (d *Decision) Announced() bool {
	return slices.ContainsFunc(d.Ways, func(w Way) bool { return w.Announced })
}

// Way is the decision on one way of announcing a VIP.
type Way struct {
	Via       Via
	Announced bool
	// Interface of ARP and NDP.
	Interface string
	// Peers of BGP.
	Peers []string
	// Reason why not; its code is empty when Announced.
	Reason Reason
}
