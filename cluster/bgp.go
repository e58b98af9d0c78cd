package cluster

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// BGPAnnounce limits announcement by BGP and says how it is done.
type BGPAnnounce struct {
	Nodes Selector
	// Advertisements in the order in which they are written. Of two that give one peer the same prefix, the first counts.
	// None: to all peers, without attributes.
	Advertisements []*Advertisement
}

// Advertisement says which peers learn of a pool's addresses, and with which path attributes.
type Advertisement struct {
	// Peers by name; empty: all.
	Peers []string
	// Length4 and Length6 are the lengths of the prefixes that are announced in place of addresses; 0: full length.
	Length4, Length6 uint8
	Attributes       Attributes
}

// Length returns the length of the prefixes that addresses of a family are announced by.
func (a *Advertisement) Length(f Family) int {
	switch {
	case f == IPv4 && a.Length4 > 0:
		return int(a.Length4)
	case f == IPv4:
		return 32
	case a.Length6 > 0:
		return int(a.Length6)
	default:
		return 128
	}
}

// Attributes are the path attributes of routes, but for those that follow from the session.
type Attributes struct {
	Communities      []Community
	LargeCommunities []LargeCommunity
	ExtCommunities   []ExtCommunity
	// LocalPref for iBGP peers; nil: the default of 100.
	LocalPref *uint32
	// MED; nil: none.
	MED *uint32
	// Prepend is how many times more than once the local AS number stands in the AS_PATH of eBGP peers.
	Prepend uint8
}

// Community of RFC 1997 in its encoding: the AS number in the upper 16 bits.
type Community uint32

// GracefulShutdown (RFC 8326) asks a router to prefer every other path.
const GracefulShutdown Community = 65535 << 16

var communityNames = map[string]Community{ //nolint:gochecknoglobals // a constant: IANA's registry of well-known communities
	"graceful-shutdown":   GracefulShutdown,
	"blackhole":           65535<<16 | 666,    // RFC 7999
	"no-export":           65535<<16 | 0xff01, // RFC 1997
	"no-advertise":        65535<<16 | 0xff02,
	"no-export-subconfed": 65535<<16 | 0xff03,
	"no-peer":             65535<<16 | 0xff04, // RFC 3765
}

// ParseCommunity reads a community such as 64512:100, or the name of a well-known one.
func ParseCommunity(s string) (Community, error) {
	if c, ok := communityNames[s]; ok {
		return c, nil
	}
	high, low, _ := strings.Cut(s, ":")
	h, errH := strconv.ParseUint(high, 10, 16)
	l, errL := strconv.ParseUint(low, 10, 16)
	if errH != nil || errL != nil {
		return 0, fmt.Errorf("community %q: write two numbers of 0 to 65535 with ':' between them, such as 64512:100", s)
	}
	return Community(h<<16 | l), nil
}

// String returns the community as 64512:100.
func (c Community) String() string { return fmt.Sprintf("%d:%d", uint32(c)>>16, uint32(c)&0xffff) }

// LargeCommunity of RFC 8092.
type LargeCommunity struct{ Admin, Local1, Local2 uint32 }

// ReservedASN is 2^32-1, which nobody's large community has as administrator (RFC 7300).
const ReservedASN = 1<<32 - 1

// ParseLargeCommunity reads a large community such as 4200000000:1:2.
func ParseLargeCommunity(s string) (LargeCommunity, error) {
	f := strings.Split(s, ":")
	var n [3]uint32
	if len(f) != len(n) {
		return LargeCommunity{}, fmt.Errorf("large community %q: write three numbers with ':' between them, such as 4200000000:1:2", s)
	}
	for i := range f {
		x, err := strconv.ParseUint(f[i], 10, 32)
		if err != nil || i == 0 && x == ReservedASN {
			return LargeCommunity{}, fmt.Errorf("large community %q: %s is not a number of 0 to 4294967294 (behind the first ':', 4294967295)", s, f[i])
		}
		n[i] = uint32(x)
	}
	return LargeCommunity{n[0], n[1], n[2]}, nil
}

// String returns the large community as 4200000000:1:2.
func (c LargeCommunity) String() string { return fmt.Sprintf("%d:%d:%d", c.Admin, c.Local1, c.Local2) }

// ExtCommunity is an extended community (RFC 4360): a route target, a site of origin, or a link bandwidth.
type ExtCommunity struct {
	// Kind is rt, soo or lb.
	Kind string
	// Addr is the administrator where that is an IPv4 address; otherwise it is ASN.
	Addr netip.Addr
	ASN  uint32
	// Number is at most 65535 behind an address or an AS number of four octets. Of lb it is the bandwidth in bytes per
	// second.
	Number uint32
}

// ParseExtCommunity reads an extended community such as rt:64512:100 or soo:192.0.2.1:7.
func ParseExtCommunity(s string) (ExtCommunity, error) {
	f := strings.Split(s, ":")
	if len(f) != 3 || f[0] != "rt" && f[0] != "soo" && f[0] != "lb" {
		return ExtCommunity{}, fmt.Errorf("extended community %q: write rt, soo or lb, an AS number or an IPv4 address, and a number, such as rt:64512:100", s)
	}
	c := ExtCommunity{Kind: f[0]}
	bits := 32
	if a, err := netip.ParseAddr(f[1]); err == nil && a.Is4() && c.Kind != "lb" {
		c.Addr, bits = a, 16
	} else {
		asn, err := strconv.ParseUint(f[1], 10, 32)
		if err != nil || c.Kind == "lb" && asn > 65535 {
			return ExtCommunity{}, fmt.Errorf("extended community %q: %s is neither an AS number nor an IPv4 address (of lb, an AS number of at most 65535)", s, f[1])
		}
		if c.ASN = uint32(asn); asn > 65535 {
			bits = 16
		}
	}
	n, err := strconv.ParseUint(f[2], 10, bits)
	if err != nil {
		return ExtCommunity{}, fmt.Errorf("extended community %q: behind %s there is room for %d bits only (RFC 4360, RFC 5668)", s, f[1], bits)
	}
	c.Number = uint32(n)
	return c, nil
}

// String returns the extended community as rt:64512:100.
func (c ExtCommunity) String() string {
	if c.Addr.IsValid() {
		return fmt.Sprintf("%s:%s:%d", c.Kind, c.Addr, c.Number)
	}
	return fmt.Sprintf("%s:%d:%d", c.Kind, c.ASN, c.Number)
}

// Peer is a valid BGPPeer.
type Peer struct {
	Name string
	// UID of the object, as for a Pool.
	UID string
	// Address is without an IP where the router on Interface has to be found; a link-local one has no zone.
	Address netip.AddrPort
	// Interface leads to the router; empty, unless the session is between link-local addresses.
	Interface string
	PeerASN   uint32
	// LocalASN is 0 where each node has its own, in the label LocalASNLabel.
	LocalASN      uint32
	LocalASNLabel string
	// Source is the zero Addr where the kernel, or SourceInterface, chooses.
	Source          netip.Addr
	SourceInterface string
	// HoldTime, KeepaliveTime, ConnectRetryTime and RestartTime (0: no graceful restart) in whole seconds.
	HoldTime         uint16
	KeepaliveTime    uint16
	ConnectRetryTime uint16
	RestartTime      uint16
	// MultihopTTL is 0 for a router on the link.
	MultihopTTL uint8
	// MinTTL of packets from the router; 0: any.
	MinTTL uint8
	// ExtendedNextHop is true where IPv4 routes have an IPv6 next hop (RFC 8950).
	ExtendedNextHop bool
	// MaxPrefixes of each family that the router may send; 0: any number.
	MaxPrefixes uint32
	// PasswordSecret names the Secret of the TCP MD5 password; empty: none.
	PasswordSecret string
	// Password is the secret's content, empty as long as it has not been found.
	Password string
	BFD      BFD
	Nodes    Selector
}

// BFD are the parameters of a BFD session.
type BFD struct {
	Enabled bool
	// MinTx and MinRx in whole microseconds, as RFC 5880 has them.
	MinTx, MinRx time.Duration
	Multiplier   uint8
	// Strict: no BGP before BFD is up.
	Strict bool
}
