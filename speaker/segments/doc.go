// Package segments runs this node's part on all segments that hold VIPs: one liveness/segment.Segment for each.
//
// In its place in the flow it is a driver like others: Set takes the segments, the addresses and the keys that are wanted. What
// the nodes know of each other comes back as Facts, for the next plan; whether an address may be answered for at this
// moment, as MayAnswer, which the reply path asks; and which addresses are to be announced anew, by Gained.
package segments
