// Package zone answers the cluster's DNS names from a Snapshot: Kubernetes DNS specification 1.1.0
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md), with the behaviour of CoreDNS' kubernetes
// plugin where the specification is silent.
//
// It is pure: Build turns a Snapshot into an immutable Zone, an index of resource records in wire form, and
// Zone.Answer turns a query message into a reply message without allocation. Package dns owns the sockets, holds the
// current Zone in an atomic pointer, and asks elsewhere for what Answer says is not the cluster's.
//
// A Zone is authoritative for the cluster domain and for the reverse zones of Config.ReverseCIDRs. Beyond those it
// knows the PTR records of every Service and endpoint, whatever their address.
//
// Where it differs from the kubernetes plugin, it follows the RFCs: a name that has others below it exists (RFC 8020),
// an ExternalName Service has a CNAME for every type (RFC 1034, 3.6.2) which stays in the answer even if its target
// does not exist (RFC 6604), and a loop of CNAMEs is SERVFAIL. And it has no records beyond the specification at
// _port._protocol (addresses) and at the names of endpoints and pods (SRV). dns/internal/coredns compares the two.
package zone
