package link

import (
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/plan"
)

// Neighbour returns the Ethernet address that the kernel has for a neighbour on an interface, and false if it has none. It is
// one question to the kernel (some ten microseconds) and waits for nobody on the network.
func Neighbour(ifindex int, a netip.Addr) (plan.MAC, bool) {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.AddData(&netlink.Ndmsg{Family: uint8(family), Index: uint32(ifindex)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, a.AsSlice()))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if err != nil || len(answers) != 1 { // there is no entry
		return plan.MAC{}, false
	}
	n, err := netlink.NeighDeserialize(answers[0])
	if err != nil || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED) != 0 || len(n.HardwareAddr) != len(plan.MAC{}) {
		return plan.MAC{}, false
	}
	return plan.MAC(n.HardwareAddr), true
}
