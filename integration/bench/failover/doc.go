// Package failover measures for how long an address does not answer when what answers for it fails, in a lab: by ARP and NDP
// when the owner's link is cut, its agent killed or frozen, by BGP with BFD when the link to the router is cut; and how
// long a new Service takes to its first answer. keepalived is measured beside it, in the same hosts.
//
// A client sends a datagram each millisecond to an echo server behind the address; a blackout is the time between the last
// datagram before and the first after it that were answered. The servers are on a node that nothing happens to.
package failover
