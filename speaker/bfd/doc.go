// Package bfd detects within milliseconds that a router, or the way to it, is gone: Bidirectional Forwarding Detection
// (RFC 5880) over one hop of IPv4 or IPv6 (RFC 5881), in asynchronous mode and without authentication. It is a driver
// around the kernel's UDP sockets: Set is given all sessions and makes them so, Status reads back what became of them.
//
// The packets' bytes are in packet and each session's state machine and timers in fsm; both are pure. This package brings
// them together with sockets and a clock: one goroutine waits for the next deadline of all sessions, one for each family
// waits for packets, and each session sends from a socket of its own.
//
// What the router's routes and the BGP session are to make of it is in Status.Failed (RFC 5882).
package bfd
