package bind

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	device = "lo"
	// label marks our IPv4 addresses. It must begin with the device's name and have less than 16 characters.
	label = device + ":seamark"
	// flags6 mark our IPv6 addresses. With an infinite valid and no preferred lifetime the kernel adds DEPRECATED.
	flags6   = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	mark6    = flags6 | unix.IFA_F_DEPRECATED
	infinite = 1<<32 - 1
)

// Driver adds and removes addresses in the network namespace that it was made in. It needs CAP_NET_ADMIN.
type Driver struct{ handle *netlink.Handle }

// New makes a Driver for the network namespace of the calling thread. Close it when done.
func New() (*Driver, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return &Driver{h}, nil
}

// Close releases the Driver. The addresses stay.
func (d *Driver) Close() { d.handle.Close() }

// Get returns our addresses, sorted.
func (d *Driver) Get(context.Context) ([]netip.Addr, error) {
	link, err := d.handle.LinkByName(device)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", device, err)
	}
	ours, err := d.list(link)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for addr := range ours {
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// Set makes exactly the wanted addresses ours. An address that exists without our mark is used as it is, and stays.
func (d *Driver) Set(_ context.Context, want []netip.Addr) error {
	link, err := d.handle.LinkByName(device)
	if err != nil {
		return fmt.Errorf("finding %s: %w", device, err)
	}
	have, err := d.list(link)
	if err != nil {
		return err
	}
	var errs []error
	for addr, a := range have {
		if slices.Contains(want, addr) {
			continue
		}
		if err := d.handle.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("removing %s from %s: %w", addr, device, err))
		}
	}
	for _, addr := range want {
		if _, ok := have[addr]; ok {
			continue
		}
		if err := d.handle.AddrAdd(link, ours(addr)); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("adding %s to %s: %w", addr, device, err))
		}
	}
	return errors.Join(errs...)
}

func (d *Driver) list(link netlink.Link) (map[netip.Addr]netlink.Addr, error) {
	all, err := d.handle.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of %s: %w", device, err)
	}
	out := map[netip.Addr]netlink.Addr{}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		if ip = ip.Unmap(); ip.Is4() && a.Label == label || ip.Is6() && a.Flags&mark6 == mark6 {
			out[ip] = a
		}
	}
	return out, nil
}

func ours(addr netip.Addr) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
	if addr.Is4() {
		a.Label, a.Scope = label, unix.RT_SCOPE_HOST
	} else {
		a.Flags, a.ValidLft = flags6, infinite
	}
	return a
}
