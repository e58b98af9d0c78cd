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
// Server.Run is the loop. It takes the addresses over without a gap, first the sockets and then the rules, and on a
// clean end gives them back in the opposite order, so that the Service's other endpoints answer. After a crash the
// addresses stay; the next start finds them and listens there at once, before the API is reachable.
package dns
