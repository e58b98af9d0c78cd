// Package speaker announces VIPs from one node: it tells the network, by ARP and NDP or by BGP, to send their traffic here.
//
// It is the shell around pure parts. The loop gives the newest cluster.Snapshot and the node's interfaces to speaker/plan,
// and what comes out to the drivers speaker/l2, speaker/ping and speaker/bgp, each of which makes its part true. A second
// goroutine reports: status of VIPs and BGPPeers, Events on Services. The API server is needed for neither an announcement
// nor its end; while it is down, the node goes on with the last snapshot and reports later.
package speaker
