// Package elect decides which node owns a VIP, by rendezvous hashing (highest random weight: Thaler and Ravishankar, "A
// Name-Based Mapping Scheme for Rendezvous", 1996), bounded so that no node owns much more than its share, and sticky so that
// an address moves only when it must.
//
// Every node computes the owners alone, from what all of them know, and all arrive at the same ones: no message is needed
// when an owner is lost. A candidate that goes moves only the VIPs that it owned; one that comes takes only what balance
// asks for. The unit is the address, never the Service, so Services that share a VIP cannot split it.
//
// Hash and bounds are part of the protocol between nodes of different versions and must not change. The package is pure.
package elect
