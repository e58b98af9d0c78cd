// Package packet reads and writes the few frames that a layer 2 speaker needs: ARP (RFC 826) and, of Neighbor Discovery
// (RFC 4861), solicitations and advertisements, over Ethernet.
//
// Parsing and building allocate nothing: a LAN full of requests must not make garbage. What is not exactly what the RFCs
// allow is an error and never a guess. The codecs of mdlayher/arp and mdlayher/ndp check this one in the fuzz tests.
package packet
