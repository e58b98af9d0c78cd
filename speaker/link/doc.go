// Package link watches the network interfaces of this host through netlink (rtnetlink(7)) and gives them to the planner as
// plan.Facts. It is a driver around github.com/vishvananda/netlink.
//
// Events tell that something changed; what it changed to is always read anew. Nothing is polled.
package link
