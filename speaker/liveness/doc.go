// Package liveness decides which node may answer for an address on one segment, so that at most one does, and which nodes
// are alive there. It is the core of the speaker's layer 2 fail-over: quorum leases on the segment itself, without
// Kubernetes. docs/decisions/quorum-leases.md has the protocol, its assumptions and the argument why it is safe.
//
// The place in the flow: the members (from the Leases that agents write) and the addresses that this node should have (from
// speaker/elect, over the nodes that the View calls alive) come in, heartbeats go in and out, and two things come out:
// Leases, which the reply path asks for each ARP or NDP answer, and the View, which the owner decision, the announcer and
// reports read.
//
// The package is pure: a Member is a deterministic state machine that reads no clock, opens no socket and writes no log.
// The caller gives the time (CLOCK_BOOTTIME) with each call and sends what Tick returns. A Member is for one goroutine; its
// Leases and the Views that it returns are for any. The encoding is in liveness/wire, sockets in liveness/segment.
package liveness
