// Package cluster is Seamark's vocabulary: what the Kubernetes API says about Services, endpoints, nodes, pools, peers
// and VIPs, as plain values on net/netip.
//
// It is the first step of every flow: informers (package cluster/watch) turn API objects into one immutable Snapshot;
// pure functions turn a Snapshot into wanted state; drivers make that state true. What all parts must agree on is
// decided here and only here: which endpoints are eligible for which traffic (endpoints.go), which addresses of a
// Service are its VIPs (Snapshot.VIPsOf), how an address range is written (ranges.go).
//
// All values are immutable once they are part of a Snapshot and may be read from any goroutine. The package imports no
// Kubernetes client, reads no clock and writes no log.
package cluster
