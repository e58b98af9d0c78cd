// Package elect decides which node owns a VIP, by rendezvous hashing (highest random weight: Thaler and Ravishankar, "A
// Name-Based Mapping Scheme for Rendezvous", 1996).
//
// Every node computes the owner alone, from the same snapshot, and all arrive at the same one: no message is needed when
// an owner is lost. A candidate that goes moves only the VIPs that it owned; one that comes takes only its share.
// The unit is the address, never the Service, so Services that share a VIP cannot split it.
//
// The hash is part of the protocol between nodes of different versions and must not change. The package is pure.
package elect
