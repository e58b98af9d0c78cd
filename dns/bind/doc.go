// Package bind makes addresses local to the node: a driver of the loopback interface's addresses by netlink.
//
// It uses lo because not every kernel has dummy devices. The addresses are marked, so that Set removes no others:
// an IPv4 address by its label, an IPv6 address, which has no label, by a combination of flags that nobody else sets on
// lo. None of them is ever chosen as the source of packets that leave the node: IPv4 has scope host, IPv6 is deprecated.
package bind
