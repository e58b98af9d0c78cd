// Package fsm is one BFD session (RFC 5880) in asynchronous mode: its state machine and its timers.
//
// It is pure: the time and the source of randomness come in as arguments, the packets to send and the change of state go
// out as values. speaker/bfd gives a Machine the packets that are meant for it, calls Advance when Deadline is reached, and
// sends what comes out.
//
// Demand mode is not used, and obeyed when the peer asks for it; the Echo function is not offered (Required Min Echo RX
// Interval is zero) and never used; authentication does not reach this package (speaker/bfd/packet).
package fsm
