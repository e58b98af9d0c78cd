// Package discover finds the router at the other end of an interface by its router advertisements (RFC 4861), for BGP sessions
// that name an interface and no address ("unnumbered"). It is a driver around github.com/mdlayher/ndp: Set is given the names
// of interfaces, Routers tells what was heard there, and the planner makes sessions of it.
//
// It asks for advertisements, so that a router is found at once, and listens for them itself: a kernel that forwards takes no
// notice of them (accept_ra in Linux' ip-sysctl). It also sends advertisements with a lifetime of 0, which make a default
// router of nobody: that is how FRR, and the switches that run it, find this node.
package discover
