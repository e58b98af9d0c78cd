package dns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// readResolvConf returns the name servers of a resolv.conf file.
func readResolvConf(path string) ([]netip.AddrPort, error) {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading upstream DNS servers: %w", err)
	}
	var servers []netip.AddrPort
	for _, s := range conf.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("reading upstream DNS servers: %s: nameserver %s is not an address without a zone", path, s)
		}
		if server := netip.AddrPortFrom(addr.Unmap(), Port); !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	return servers, nil
}

// ownAmong returns those upstream servers that are addresses we listen at.
func ownAmong(upstreams, own []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, u := range upstreams {
		if slices.Contains(own, u) {
			out = append(out, u)
		}
	}
	return out
}
