// Package ruleset decides what the kernel does with traffic to Services: it turns a cluster.Snapshot into the wanted
// content of our two nftables tables, "ip seamark" and "ip6 seamark", as values. It touches no kernel: package nft
// makes the tables true.
//
// # The design: rules are few, data is many
//
// There is no chain per Service. A frontend is an address, a protocol and a port at which a Service is served: its
// cluster IP, a VIP, a node's address with a node port. All frontends live in two maps:
//
//	services:  address . protocol . port          -> goto CHAIN
//	endpoints: address . protocol . port . slot   -> endpoint address . endpoint port
//
// A chain serves every frontend of the same class (see class): "pick-3" rolls a number from 0 to 2 and looks it up as
// the slot. So the chains depend on which endpoint counts occur, not on how many Services there are, and a change of a
// Service is a change of map elements. Adding rules makes the kernel walk all maps of the table, adding elements does
// not; this is what makes tables with a chain per Service slow to change.
//
// Endpoints for a Local traffic policy are in slots from localSlots on.
//
// # Policy
//
// The behaviour follows kube-proxy's nftables mode of Kubernetes 1.36. Packets to a frontend are translated in the nat
// hooks (priority dstnat, and -100 in output). What still has a cluster IP or a VIP as its destination after that is
// not served, and the filter hooks refuse it: no endpoints at all, or a port that the Service does not have. Under a
// Local policy without local endpoints it is dropped instead, because other nodes have some; that decision is made
// after translation, since traffic that starts on this node may use any endpoint (kubernetes/kubernetes#131765).
//
// VIPs answer ping, so echo requests are let in for whoever answers them on this node, but never routed on. Neighbour discovery that somebody
// sends to a VIP by unicast is the business of whoever announces it and must not be answered by an ICMP error.
//
// # What others may rely on
//
// Packets to be masqueraded carry mark bit 14 (0x4000) between the dstnat and srcnat hooks and lose it there. Packets
// that open a connection to a Service with session affinity have their priority (meta priority) used as scratch space.
// Nothing else in the tables is an interface.
package ruleset
