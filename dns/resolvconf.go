package dns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// readResolvConf returns the name servers of a resolv.conf file, and those that cannot be asked: what is no address, and
// what has a zone, as the address of a router that advertises itself has (fe80::1%eth0), because CoreDNS' forward plugin
// takes a zone for the name of a TLS server. It is an error if only such are left.
func readResolvConf(path string) (servers []netip.AddrPort, skipped []string, err error) {
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading upstream DNS servers: %w", err)
	}
	for _, s := range conf.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			skipped = append(skipped, s)
			continue
		}
		if server := netip.AddrPortFrom(addr.Unmap(), Port); !slices.Contains(servers, server) {
			servers = append(servers, server)
		}
	}
	if len(servers) == 0 && len(skipped) > 0 {
		return nil, nil, fmt.Errorf("reading upstream DNS servers: %s: none of its nameserver lines has an address without a zone: %q", path, skipped)
	}
	return servers, skipped, nil
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
