package discover

import (
	"net/netip"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// parse says what a station on the link has sent: a router advertisement or solicitation, or 0 for what is neither or not valid (RFC
// 4861 sections 6.1.1 and 6.1.2). What options say does not matter here, and must not: a router may send any. The kernel has checked
// the checksum.
func parse(b []byte, hopLimit int, from netip.Addr) ipv6.ICMPType {
	if hopLimit != ndp.HopLimit || len(b) < 8 || b[1] != 0 {
		return 0
	}
	kind, options := ipv6.ICMPType(b[0]), b[8:]
	switch {
	case kind == ipv6.ICMPTypeRouterSolicitation:
	case kind == ipv6.ICMPTypeRouterAdvertisement && len(b) >= 16 && from.IsLinkLocalUnicast():
		options = b[16:]
	default:
		return 0
	}
	for len(options) > 0 {
		if len(options) < 2 || options[1] == 0 || 8*int(options[1]) > len(options) {
			return 0
		}
		options = options[8*int(options[1]):]
	}
	return kind
}
