package cluster

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
)

// Pool is an IPPool.
type Pool struct {
	Name string
	// UID of the object: one that is deleted and made again has nothing of what was written to its status.
	UID string
	// Ranges in the order in which they are written; none, if something is wrong with them. They do not overlap each other.
	Ranges        []netipx.IPRange
	Priority      int32
	AutoAssign    bool
	AvoidBuggyIPs bool
	// Draining is true for a pool that gives out nothing new.
	Draining bool
	// Retain is true where an address waits for its Service after the Service has gone.
	Retain bool
	// Silent is true where addresses do not answer a ping.
	Silent bool
	// NamespaceSelector and ServiceSelector limit who may use the pool.
	NamespaceSelector Selector
	ServiceSelector   Selector
	// ARP and BGP are nil where the pool is not announced that way.
	ARP *ARPAnnounce
	BGP *BGPAnnounce
}

// ARPAnnounce limits announcement by ARP and NDP.
type ARPAnnounce struct {
	// Interfaces by name; empty: any.
	Interfaces []string
	Nodes      Selector
	// Preferences add up to a node's Preference.
	Preferences []Preference
	// Serve is true where the nodes of a minority go on answering when the segment falls apart.
	Serve bool
}

// Preference adds Weight to the nodes that match.
type Preference struct {
	Weight int32
	Nodes  Selector
}

// Preference of a node with the given labels: the sum of the weights that match, 0 for none.
func (a *ARPAnnounce) Preference(labels map[string]string) int32 {
	var sum int32
	for _, p := range a.Preferences {
		if p.Nodes.Matches(labels) {
			sum += p.Weight
		}
	}
	return sum
}

// Contains reports whether one of the pool's ranges holds the address. AvoidBuggyIPs does not matter here.
func (p *Pool) Contains(a netip.Addr) bool {
	for _, r := range p.Ranges {
		if r.Contains(a) {
			return true
		}
	}
	return false
}

// VIP is a VIP object: an address that the controller gave to Services.
type VIP struct {
	Address netip.Addr
	// UID of the object, as for a Pool.
	UID      string
	Pool     string
	Services []Name
	// Created is when the object was made, by the API server's clock.
	Created time.Time
	// Ports that each Service has at the address, where several share it; nil: one has it for itself, with all its ports.
	Ports map[Name][]Port
}

// Serves reports whether a port of a Service that uses the address is served there.
func (v *VIP) Serves(svc Name, p Port) bool {
	return v.Ports == nil || slices.Contains(v.Ports[svc], p)
}

// SameGrants reports whether two VIPs give the same ports of an address to each Service.
func (v *VIP) SameGrants(o *VIP) bool {
	return v.Address == o.Address && maps.EqualFunc(v.Ports, o.Ports, slices.Equal[[]Port])
}

// VIPName returns the name of the VIP object of an address: the address itself for IPv4; for IPv6 all 32 digits with
// '-' for ':', because an object's name has no colons and must not begin or end with '-'.
func VIPName(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return strings.ReplaceAll(a.StringExpanded(), ":", "-")
}
