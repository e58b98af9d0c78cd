// Package plan decides what a node announces: by ARP and NDP on which interface, by BGP to which routers and with which
// attributes, and why not where it does not.
//
// It is the pure middle of the speaker: a cluster.Snapshot and the node's Facts go in, a Plan comes out. The drivers
// (speaker/l2, speaker/ping, speaker/bgp) take their part of it as the whole wanted state; the reasons become events,
// status and the text of the command line tool. The same input gives the same Plan, in the same order.
package plan
