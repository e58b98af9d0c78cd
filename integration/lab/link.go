package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where ip(8) looks for named network namespaces.
const netnsDir = "/run/netns"

// sysctl is a setting below /proc/sys/net of a network namespace. An optional
// one is for something that this kernel may have been built without.
type sysctl struct {
	name, value string
	optional    bool
}

// sysctls returns the settings of a host. They are written before any link is
// made, so that "default" reaches all of them.
func (l *Lab) sysctls(h HostPlan) []sysctl {
	forward := "0"
	if h.Role == RoleNode || h.Role == RoleRouter {
		forward = "1"
	}
	noIPv6 := "0"
	if h.Role == RoleSwitch || l.opts.Families == IPv4Only {
		noIPv6 = "1"
	}
	settings := []sysctl{
		{name: "ipv4/ip_forward", value: forward},
		{name: "ipv6/conf/all/forwarding", value: forward},
		{name: "ipv6/conf/default/forwarding", value: forward},
		// Links and pods come and go; nobody waits for duplicates here.
		{name: "ipv6/conf/all/accept_dad", value: "0"},
		{name: "ipv6/conf/default/accept_dad", value: "0"},
		{name: "ipv6/conf/all/disable_ipv6", value: noIPv6},
		{name: "ipv6/conf/default/disable_ipv6", value: noIPv6},
		// These follow the machine's own settings unless written.
		{name: "ipv4/conf/all/rp_filter", value: "0"},
		{name: "ipv4/conf/default/rp_filter", value: "0"},
		// A packet out of the interface it came in by is normal on a router
		// with one leg in the LAN; redirects would make paths depend on time.
		{name: "ipv4/conf/all/send_redirects", value: "0"},
		{name: "ipv4/conf/default/send_redirects", value: "0"},
		// ECMP by addresses, Linux's own default, and around a next hop that is
		// gone. By flow a client's connections would spread over nodes that do
		// not know of each other's session affinity.
		{name: "ipv4/fib_multipath_hash_policy", value: "0", optional: true},
		{name: "ipv4/fib_multipath_use_neigh", value: "1", optional: true},
		{name: "ipv6/fib_multipath_hash_policy", value: "0", optional: true},
	}
	if h.Role == RoleSwitch {
		// A switch does not look into packets (br_netfilter, where it is loaded).
		for _, name := range []string{"arptables", "iptables", "ip6tables"} {
			settings = append(settings, sysctl{name: "bridge/bridge-nf-call-" + name, value: "0", optional: true})
		}
	}
	return settings
}

// writeSysctls applies settings to the calling thread's network namespace.
func writeSysctls(settings []sysctl) error {
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0)
		if err != nil && (!s.optional || !errors.Is(err, os.ErrNotExist)) {
			return fmt.Errorf("sysctl net.%s=%s: %w", strings.ReplaceAll(s.name, "/", "."), s.value, err)
		}
	}
	return nil
}

// netlinkIn returns a netlink handle in a named network namespace, and the
// namespace itself. The caller closes both.
func netlinkIn(name string) (*netlink.Handle, netns.NsHandle, error) {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return nil, ns, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		_ = ns.Close()
		return nil, ns, fmt.Errorf("netlink in %s: %w", name, err)
	}
	return handle, ns, nil
}

// connect makes the host's links: bridges for the switch; for the others a
// cable from each interface to its port on the switch, then addresses and
// routes.
func (h *Host) connect() error {
	own, ns, err := netlinkIn(h.NetNS())
	if err != nil {
		return err
	}
	defer ns.Close()
	defer own.Close()
	if err := linkUp(own, "lo"); err != nil {
		return err
	}
	if h.Role == RoleSwitch {
		return h.lab.makeBridges(own)
	}

	lan, lanNS, err := netlinkIn(h.lab.hosts["lan"].NetNS())
	if err != nil {
		return err
	}
	defer lanNS.Close()
	defer lan.Close()
	for _, link := range h.Links {
		if err := plug(lan, link, ns); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
		if err := configure(own, link); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
	}
	for _, r := range h.Routes {
		if err := addRoute(own, r); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) makeBridges(lan *netlink.Handle) error {
	noSnooping := false
	for _, segment := range l.plan.segments() {
		bridge := &netlink.Bridge{
			LinkAttrs:         netlink.LinkAttrs{Name: string(segment)},
			MulticastSnooping: &noSnooping, // there is no querier
		}
		if err := lan.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge %s: %w", segment, err)
		}
		if err := lan.LinkSetUp(bridge); err != nil {
			return fmt.Errorf("bridge %s: %w", segment, err)
		}
	}
	return nil
}

// plug lays the cable of a link: its port on the switch, its interface in ns.
func plug(lan *netlink.Handle, link Link, ns netns.NsHandle) error {
	bridge, err := lan.LinkByName(string(link.Segment))
	if err != nil {
		return fmt.Errorf("bridge %s: %w", link.Segment, err)
	}
	mac, err := net.ParseMAC(link.MAC)
	if err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: link.Port, MasterIndex: bridge.Attrs().Index},
		PeerName:         link.Name,
		PeerHardwareAddr: mac,
		PeerNamespace:    netlink.NsFd(ns),
	}
	if err := lan.LinkAdd(cable); err != nil {
		return fmt.Errorf("add veth %s: %w", link.Port, err)
	}
	return linkUp(lan, link.Port)
}

// unplug removes the host's cables, if it has any.
func (h *Host) unplug() error {
	lan, ns, err := netlinkIn(h.lab.hosts["lan"].NetNS())
	if err != nil {
		return err
	}
	defer ns.Close()
	defer lan.Close()
	for _, link := range h.Links {
		port, err := lan.LinkByName(link.Port)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return fmt.Errorf("port %s of the switch: %w", link.Port, err)
		}
		if err := lan.LinkDel(port); err != nil {
			return fmt.Errorf("remove port %s of the switch: %w", link.Port, err)
		}
	}
	return nil
}

func configure(own *netlink.Handle, link Link) error {
	if err := linkUp(own, link.Name); err != nil {
		return err
	}
	iface, err := own.LinkByName(link.Name)
	if err != nil {
		return err
	}
	for _, p := range link.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := own.AddrAdd(iface, addr); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	return nil
}

func addRoute(own *netlink.Handle, r Route) error {
	route := &netlink.Route{Dst: ipNet(r.Dst)}
	if len(r.Via) == 1 {
		route.Gw = r.Via[0].AsSlice()
	} else {
		for _, via := range r.Via {
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: via.AsSlice()})
		}
	}
	if err := own.RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s via %v: %w", r.Dst, r.Via, err)
	}
	return nil
}

func linkUp(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

// ipNet converts for netlink, which wants a route's destination masked but an
// address whole; netip keeps the difference.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
