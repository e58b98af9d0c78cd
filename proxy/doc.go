// Package proxy is the node's service proxy: the loop that keeps the kernel's rules for Services as the cluster wants
// them.
//
//	Source.Snapshot -> ruleset.Build -> nft.Driver, then healthcheck.Services, and conntrack.Driver at a pace of its own
//
// It runs when the Source has changed, after an error with growing delay, and looks every second whether somebody else
// has changed the tables. An error of one part does not stop the others, and flows that cannot be deleted are tried again by
// themselves: the rules are as wanted without that. Nothing is touched before the Source has a Snapshot, and what an earlier
// run left in the kernel is taken over.
//
// The rules stay when the proxy ends: connections and new connections go on, without changes. Cleanup removes them.
package proxy
