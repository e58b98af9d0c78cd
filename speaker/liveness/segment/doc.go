// Package segment runs liveness.Member on one network interface: it reads the clock, sends and receives heartbeats, and
// tells the reply path what it may answer for.
//
// Heartbeats go straight onto the link, in Ethernet frames of their own type to a group address of their own, so neither
// addresses nor a host's firewall have any part in them: what they tell of is the segment on which clients ask. One Loop
// serves all segments of a node, on a thread that comes before all others. MayAnswer takes no lock and allocates nothing.
//
// In its place in the flow it is given the members and the wanted addresses whole, as drivers are, and gives back a View.
package segment
