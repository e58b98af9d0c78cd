// Package provider measures the allocation of addresses: alone, and by the controller in a lab of three nodes.
//
// [Run] makes the lab, or takes one that is up, and measures in this order:
//
//   - an allocation by itself: the benchmarks of Seamark's package provider/ipam, run with go test;
//   - idle: Services made one at a time, from the call that creates one to the address in its status;
//   - bursts: many Services made at once, first where nothing of Seamark runs, then with a controller that has just started.
//
// Addresses come from 198.18.0.0/16, which is set aside for benchmarks (RFC 2544 appendix C.2.2), so nothing of a lab can
// be in it, and no node announces it.
package provider
