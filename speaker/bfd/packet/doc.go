// Package packet reads and writes BFD control packets (RFC 5880 section 4.1) without authentication, and names every
// reason for which a received packet is discarded.
//
// It is pure and allocates nothing. Parse checks what can be seen in a packet alone; speaker/bfd checks where it came from
// and whose it is, and speaker/bfd/fsm acts on it.
package packet
