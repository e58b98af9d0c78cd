// Package l2 answers for VIPs by ARP (RFC 826, RFC 5227) and Neighbor Discovery (RFC 4861), tells neighbours when it takes
// one, and watches for strangers that use one. It is a driver around github.com/mdlayher/packet (AF_PACKET sockets): Set is
// given all addresses to answer for, and makes it so, as far as the Gate lets it.
//
// VIPs are not bound to interfaces, so the kernel never answers for them, and giving one up is a matter of not answering:
// it takes effect at once. Bytes are in packet, the decision on a frame in respond; both are pure. A listener, one for each
// link and protocol, has four goroutines: one reads and answers, one announces, one looks at strangers, one joins groups.
//
// The Gate is asked when the system call is all that is left to do, and Settle waits for what it has let pass, so that who closes
// it, and settles, may tell others that this node is silent.
package l2
