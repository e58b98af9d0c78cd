// Package dns is the node's DNS server: it answers the cluster's names from the same Snapshot that the service proxy
// uses, and everything else through CoreDNS' cache and forward plugins.
//
//	Source ──Snapshot──▶ zone.Build ──▶ atomic pointer ──▶ handler ──▶ zone ──▶ forward (cache, upstream servers)
//	                 └─▶ the DNS Service's cluster IPs ──▶ sockets, bind.Driver, notrack.Driver
//
// It listens at the cluster IPs of the cluster's DNS Service on every node, so that a query never leaves the node and
// no packet of it is rewritten or tracked: the addresses are local (package bind), and the packets are exempt from
// connection tracking and with it from the service proxy's NAT (package notrack). That removes a known race between
// two queries from one socket, which costs 5 seconds (https://github.com/kubernetes/kubernetes/issues/56903).
//
// Server.Run is the loop. It takes the addresses over without a gap, first the sockets and then the rules, and at its end
// stops in the opposite order: nothing that was asked stays without a reply. The addresses stay on the node, after a
// clean end as after a crash. After a clean end the service proxy sends queries to the Service's other endpoints; if
// there are none they are dropped, so that resolvers ask again, until the next start, which finds the addresses and
// listens there before the API is reachable. Nobody but the package bind removes them, for an address that the Service has no more,
// for an agent that runs without DNS, and for "seamark-node cleanup".
package dns
