// Package ping makes this host answer ICMP and ICMPv6 echo requests to VIPs, as the load balancer of a cloud does: a person's
// first test of a VIP. It is a driver around github.com/google/nftables: Set is given all VIPs and makes it so.
//
// VIPs are bound to no interface. The driver's own table redirects echo requests to an address of this host; the kernel
// answers, and connection tracking gives the reply the VIP as source. It works beside any service proxy, for requests from
// other hosts, from this one and from its pods. No other table is touched, and the table stays when the agent ends.
package ping
