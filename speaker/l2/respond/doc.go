// Package respond decides on each ARP and NDP frame that comes in: the answer to send, or why none is sent.
//
// It is the pure core of speaker/l2. A decision costs one look-up in a map, however many VIPs there are, and allocates
// nothing.
package respond
