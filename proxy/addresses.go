package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// localAddresses returns the addresses on the interfaces of this network namespace, sorted.
func localAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, addr.Unmap())
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// addressesChanged reports whether the node has other addresses than the rules were made for. Nobody cares as long as no
// prefix chooses among them.
func (p *Proxy) addressesChanged(n *node) bool {
	if len(p.cfg.Rules.NodePortPrefixes) == 0 {
		return false
	}
	now, err := localAddresses()
	return err == nil && !slices.Equal(now, n.addresses)
}

// readAddresses gives the node's addresses to the builder, where prefixes choose among them.
func (p *Proxy) readAddresses(n *node) error {
	if len(p.cfg.Rules.NodePortPrefixes) == 0 {
		return nil
	}
	now, err := localAddresses()
	if err != nil {
		return err
	}
	n.addresses = now
	n.builder.SetLocalAddresses(now)
	return nil
}
