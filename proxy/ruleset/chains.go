package ruleset

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// localSlots is the first slot of the endpoints for a Local traffic policy; the slots of the others start at 0.
const localSlots = 1_000_000

// The chains that are always there. What still is for a service address after translation goes through chainUnserved;
// chainRefuse tells the client that there is nothing.
const (
	chainUnserved    = "unserved"
	chainUnservedVIP = "unserved-vip"
	chainRefuse      = "refuse"
	// chainUnallocated is there when the ranges of cluster IPs are known.
	chainUnallocated = "unallocated"
)

// Kind is where a frontend's traffic comes from and which policy it is under.
type Kind uint8

// The kinds of frontends.
const (
	// Internal is a cluster IP. Traffic from elsewhere than this node's pods is masqueraded.
	Internal Kind = iota
	// External is a VIP or a node port under externalTrafficPolicy Cluster. All its traffic is masqueraded.
	External
	// ExternalLocal is a VIP or a node port under externalTrafficPolicy Local. Pods of this node and the node itself
	// may use all endpoints; the others reach endpoints of this node with their own address.
	ExternalLocal
)

// class is all that the chain of a frontend depends on.
type class struct {
	kind Kind
	// cluster and local are the numbers of endpoints.
	cluster, local int
	// affinity is the timeout of session affinity, 0 for none.
	affinity time.Duration
	// guarded frontends have source ranges.
	guarded bool
}

// name returns the chain that serves frontends of the class.
func (c class) name() string {
	var s string
	switch c.kind {
	case Internal:
		s = fmt.Sprintf("cluster-%d", c.cluster)
	case External:
		s = fmt.Sprintf("external-%d", c.cluster)
	default:
		s = fmt.Sprintf("local-%d-%d", c.local, c.cluster)
	}
	s += c.affinitySuffix()
	if c.guarded {
		s = "guarded-" + s
	}
	return s
}

func (c class) affinitySuffix() string {
	if c.affinity == 0 {
		return ""
	}
	return "-affinity-" + nftDuration(c.affinity)
}

// chains returns the chain of the class and all chains that it goes to.
func (c class) chains(pods []netip.Prefix) []Chain {
	if c.guarded {
		inner := c
		inner.guarded = false
		return append(inner.chains(pods), Chain{Name: c.name(), Rules: []Rule{
			{In{Key: frontendKey(Field{Type: Saddr}), Not: true, Set: Sources}, Drop},
			{Goto(inner.name())},
		}})
	}

	pick := c.pickChain()
	own := Chain{Name: c.name()}
	out := []Chain{pick}
	switch c.kind {
	case Internal:
		// Without knowing this node's pods nothing can be masqueraded: the pods' own addresses must be kept.
		for _, p := range pods {
			own.Rules = append(own.Rules, Rule{Source{p}, Goto(pick.Name)})
		}
		if len(pods) > 0 {
			own.Rules = append(own.Rules, Rule{Mark{}})
		}
		own.Rules = append(own.Rules, Rule{Goto(pick.Name)})
	case External:
		own.Rules = []Rule{{Mark{}, Goto(pick.Name)}}
	case ExternalLocal:
		for _, p := range pods {
			own.Rules = append(own.Rules, Rule{Source{p}, Goto(pick.Name)})
		}
		own.Rules = append(own.Rules, Rule{SourceIsLocal{}, Mark{}, Goto(pick.Name)})
		if c.local > 0 {
			local := c.pickLocalChain()
			own.Rules = append(own.Rules, Rule{Goto(local.Name)})
			out = append(out, local)
		}
	}
	return append(out, own)
}

func (c class) pickChain() Chain {
	return pick(fmt.Sprintf("pick-%d", c.cluster), c, Field{RandomSlot, uint32(c.cluster), 0}, AffinityClients)
}

func (c class) pickLocalChain() Chain {
	return pick(fmt.Sprintf("pick-local-%d", c.local), c, Field{RandomSlot, uint32(c.local), localSlots}, AffinityLocalClients)
}

// pick returns the chain that translates the destination to the endpoint of a random slot, or of the client's last
// choice under session affinity.
func pick(name string, c class, slot Field, clients SetID) Chain {
	if c.affinity == 0 {
		return Chain{Name: name, Rules: []Rule{{DNAT{frontendKey(slot), Endpoints}}}}
	}
	client := append(Key{{Type: Saddr}}, frontendKey()...)
	toEndpoint := DNAT{frontendKey(Field{Type: Priority}), AffinityEndpoints}
	choose := SetPriority{frontendKey(slot), AffinitySlots}
	return Chain{Name: name + c.affinitySuffix(), Rules: []Rule{
		// The client's last endpoint, unless there is none or it is gone. Each new connection prolongs the memory.
		{SetPriority{client, clients}, Remember{client, clients, c.affinity}, toEndpoint},
		{Forget{client, clients}},
		{choose, Remember{client, clients, c.affinity}, toEndpoint},
		// No room left to remember the client.
		{choose, toEndpoint},
	}}
}

// staticChains returns the chains that do not depend on Services.
func staticChains(f cluster.Family, cfg resolved) []Chain {
	serve := Rule{Vmap{frontendKey(), Services}}
	sift := Rule{State{Invalid | New | Untracked}, Jump(chainUnserved)}
	forward := append(cfg.invalidReplies(),
		// Whoever answers pings has taken them out before. The others would be routed on, and may come back.
		Rule{State{Invalid | New | Untracked}, EchoRequest{}, In{Key: Key{{Type: Daddr}}, Set: VIPs}, Drop}, sift)
	output := []Rule{sift}
	if f == cluster.IPv6 {
		// This node asks by unicast whether a neighbour still has a VIP.
		output = []Rule{{NeighborDiscovery{}, Accept}, sift}
	}
	unallocated := Chain{Name: chainUnallocated}
	for _, p := range cfg.serviceCIDRs {
		// Local are the address of the cluster DNS and whatever others have put on the node.
		unallocated.Rules = append(unallocated.Rules, Rule{Destination{p}, DestinationIsElsewhere{}, Drop})
	}
	if len(unallocated.Rules) > 0 {
		stray := Rule{State{Invalid | New | Untracked}, Jump(chainUnallocated)}
		forward, output = append(forward, stray), append(output, stray)
	}
	chains := []Chain{
		{Name: "nat-prerouting", Hook: &Hook{"nat", Prerouting, -100}, Rules: []Rule{serve}},
		{Name: "nat-output", Hook: &Hook{"nat", Output, -100}, Rules: []Rule{serve}},
		{Name: "nat-postrouting", Hook: &Hook{"nat", Postrouting, 100}, Rules: []Rule{
			// The mark must not stay: an encapsulated packet comes by here once more (kubernetes/kubernetes#92035).
			{Marked{}, Unmark{}, Masquerade{}},
			{Translated{}, In{Key: Key{{Type: Saddr}, {Type: Daddr}}, Set: Hairpin}, Masquerade{}},
		}},
		{Name: "filter-input", Hook: &Hook{"filter", Input, 0}, Rules: []Rule{sift}},
		{Name: "filter-forward", Hook: &Hook{"filter", Forward, 0}, Rules: forward},
		{Name: "filter-output", Hook: &Hook{"filter", Output, 0}, Rules: output},
		{Name: chainRefuse, Rules: []Rule{
			// A packet that conntrack cannot place may belong to a live connection: an answer would end it
			// (kubernetes/kubernetes#74839).
			{State{Invalid}, Drop},
			{Reset{}},
			{Reject{}},
		}},
		{Name: chainUnserved, Rules: []Rule{
			{Vmap{frontendKey(), Closed}},
			{In{Key: Key{{Type: Daddr}}, Set: VIPs}, Goto(chainUnservedVIP)},
			{In{Key: Key{{Type: Daddr}}, Set: ClusterIPs}, Goto(chainRefuse)},
		}},
	}
	vip := Chain{Name: chainUnservedVIP, Rules: []Rule{{EchoRequest{}, Accept}}}
	if f == cluster.IPv6 {
		vip.Rules = append(vip.Rules, Rule{NeighborDiscovery{}, Drop})
	}
	vip.Rules = append(vip.Rules, Rule{Goto(chainRefuse)})
	chains = append(chains, vip)
	if len(unallocated.Rules) > 0 {
		chains = append(chains, unallocated)
	}
	return chains
}
