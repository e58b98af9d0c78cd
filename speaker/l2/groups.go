package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// groups joins the solicited-node multicast groups of addresses on one link. The kernel then reports them by MLD, without
// which a switch that snoops does not pass solicitations on, and programs the interface's filter.
//
// The kernel limits the groups of one socket by the memory for its options (net.core.optmem_max: some 365 groups of the
// old default of 20 KiB, 2340 of 128 KiB), so they are spread over as many sockets as it takes. It is not safe for
// concurrent use.
type groups struct {
	ifindex int
	sockets []groupSocket
	// joined says on which socket each group is.
	joined map[netip.Addr]int
}

type groupSocket struct {
	fd   int
	full bool
}

func newGroups(ifindex int) *groups {
	return &groups{ifindex: ifindex, joined: map[netip.Addr]int{}}
}

// set joins and leaves so that exactly the groups of the addresses are joined. Groups that could not be joined are in the
// error and are tried again with the next set. When ctx ends it gives up.
func (g *groups) set(ctx context.Context, owned respond.Owned) error {
	wanted := map[netip.Addr]netip.Addr{}
	for a := range owned {
		wanted[packet.SolicitedNode(a)] = a
	}
	for group, at := range g.joined {
		if _, ok := wanted[group]; !ok {
			// An error would mean that the membership is gone already, with its interface.
			_ = unix.SetsockoptIPv6Mreq(g.sockets[at].fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.mreq(group))
			g.sockets[at].full = false
			delete(g.joined, group)
		}
	}
	for group, addr := range wanted {
		if _, ok := g.joined[group]; ok {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := g.join(group); err != nil {
			// The rest would fail likewise; one example is enough.
			return fmt.Errorf("join multicast group %s of %s (%d of %d joined): %w", group, addr, len(g.joined), len(wanted), err)
		}
	}
	return nil
}

func (g *groups) join(group netip.Addr) error {
	for i := range g.sockets {
		if g.sockets[i].full {
			continue
		}
		err := g.joinOn(i, group)
		if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		g.sockets[i].full = true
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // never bound: it receives nothing
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	g.sockets = append(g.sockets, groupSocket{fd: fd})
	last := len(g.sockets) - 1
	if err := g.joinOn(last, group); err != nil {
		_ = unix.Close(fd)
		g.sockets = g.sockets[:last]
		return err
	}
	return nil
}

func (g *groups) joinOn(i int, group netip.Addr) error {
	err := unix.SetsockoptIPv6Mreq(g.sockets[i].fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.mreq(group))
	if err == nil {
		g.joined[group] = i
	}
	return err
}

func (g *groups) mreq(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.ifindex)}
}

func (g *groups) close() {
	for _, s := range g.sockets {
		_ = unix.Close(s.fd) // which leaves the groups
	}
	g.sockets, g.joined = nil, map[netip.Addr]int{}
}
