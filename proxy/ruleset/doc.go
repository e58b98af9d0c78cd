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
// # Where it differs from kube-proxy
//
// On purpose, for who comes from there (kube-proxy 1.36, nftables mode):
//
//   - A VIP counts only if a VIP object gives it to the Service, with the ports that it gives; spec.externalIPs do not
//     count at all (CVE-2020-8554). Several Services can share a VIP.
//   - A port that no Service has is refused at VIPs too, where kube-proxy refuses it at cluster IPs only; but VIPs answer ping.
//   - Session affinity is remembered for each client, address and port, where kube-proxy remembers it for each client and
//     Service port: a client that uses two addresses of a Service, say its cluster IP and its VIP, may be at two endpoints.
//     One lookup has to find the endpoint, and rules that look up twice cannot be printed by the nft of Debian 12. The
//     kernel remembers 262144 clients for each policy and family; those beyond are served without memory.
//   - A TCP connection to what is not served is refused by a reset, where kube-proxy sends an ICMP error.
//   - What is not served is refused in the states invalid (by silence) and untracked as well, where kube-proxy looks at new
//     connections only.
//   - A client outside of loadBalancerSourceRanges is refused while the Service has no endpoints, and dropped otherwise;
//     kube-proxy drops it always.
//   - Node ports are served at the node's primary internal address, or where --nodeport-addresses says so. There, a family
//     without a prefix keeps the primary address, where kube-proxy takes all, and VIPs, cluster IPs and addresses that no
//     other host can reach are never meant.
//   - Traffic of this node's pods is told by the Node's pod CIDRs, or by --cluster-cidr; there are no modes by bridge or
//     interface, and no --masquerade-all.
//   - The cluster IP of the cluster DNS is an address of the node where the agent answers DNS.
//   - Flows of UDP end also when their Service has no endpoints any more or is gone, and those to node ports only where
//     they go to an address of this node (kubernetes/kubernetes#139628). Those of SCTP are not looked at, as in kube-proxy.
//   - Packets that conntrack cannot place are translated (nf_conntrack_tcp_be_liberal), or dropped where that cannot be set;
//     kube-proxy sets it if told to, and else lets them out as they are (kubernetes/kubernetes#74839). Other settings of
//     conntrack are left alone.
//
// # What others may rely on
//
// Packets to be masqueraded carry mark bit 14 (0x4000) between the dstnat and srcnat hooks and lose it there. Packets
// that open a connection to a Service with session affinity have their priority (meta priority) used as scratch space.
// Nothing else in the tables is an interface.
package ruleset
