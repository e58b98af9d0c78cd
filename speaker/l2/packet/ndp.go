package packet

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipv6Len = 40
	// nsLen and naLen without options; llaLen is a link-layer address option for Ethernet.
	nsLen  = 24
	naLen  = 24
	llaLen = 8

	protoICMPv6     = 58
	typeSolicit     = 135
	typeAdvertise   = 136
	optionSourceLLA = 1
	optionTargetLLA = 2

	flagSolicited = 0x40
	flagOverride  = 0x20
)

// AllNodes is the link-local multicast address of all nodes.
var AllNodes = netip.MustParseAddr("ff02::1") //nolint:gochecknoglobals // a constant

// Solicitation is a neighbor solicitation that is valid by RFC 4861 section 7.1.1.
type Solicitation struct {
	// EtherSrc sent the frame.
	EtherSrc [6]byte
	// Src is unspecified in duplicate address detection.
	Src, Dst netip.Addr
	Target   netip.Addr
	// SourceMAC is the source link-layer address option, which a unicast solicitation may leave out (RFC 4861 section 4.3).
	SourceMAC    [6]byte
	HasSourceMAC bool
}

// ParseSolicitation reads an Ethernet frame and checks all that RFC 4861 section 7.1.1 asks for. Packets with extension
// headers are not taken: no sender needs them, and fragments are forbidden (RFC 6980).
func ParseSolicitation(frame []byte) (Solicitation, error) {
	ip, icmp, err := parseICMP(frame, typeSolicit)
	if err != nil {
		return Solicitation{}, err
	}
	s := Solicitation{
		EtherSrc: [6]byte(frame[6:12]),
		Src:      netip.AddrFrom16([16]byte(ip[8:24])),
		Dst:      netip.AddrFrom16([16]byte(ip[24:40])),
		Target:   netip.AddrFrom16([16]byte(icmp[8:24])),
	}
	if s.Target.IsMulticast() || s.Src.IsMulticast() {
		return Solicitation{}, ErrInvalid
	}
	if s.SourceMAC, s.HasSourceMAC, err = linkLayerAddress(icmp[nsLen:], optionSourceLLA); err != nil {
		return Solicitation{}, err
	}
	if s.Src.IsUnspecified() && (s.HasSourceMAC || s.Dst != SolicitedNode(s.Target)) {
		return Solicitation{}, ErrInvalid
	}
	return s, nil
}

// IsAdvertisement reports whether a frame that is long enough is a neighbor advertisement rather than anything else.
func IsAdvertisement(frame []byte) bool {
	return len(frame) > etherLen+ipv6Len && frame[etherLen+ipv6Len] == typeAdvertise
}

// ParseAdvertisement reads an Ethernet frame and checks all that RFC 4861 section 7.1.2 asks for. MAC is that of the target,
// which an advertisement may leave out; then it is the sender's.
func ParseAdvertisement(frame []byte) (Advertisement, error) {
	ip, icmp, err := parseICMP(frame, typeAdvertise)
	if err != nil {
		return Advertisement{}, err
	}
	a := Advertisement{
		EtherDst:  [6]byte(frame[0:6]),
		Dst:       netip.AddrFrom16([16]byte(ip[24:40])),
		Target:    netip.AddrFrom16([16]byte(icmp[8:24])),
		Solicited: icmp[4]&flagSolicited != 0,
		Override:  icmp[4]&flagOverride != 0,
	}
	if a.Target.IsMulticast() || a.Dst.IsMulticast() && a.Solicited {
		return Advertisement{}, ErrInvalid
	}
	mac, ok, err := linkLayerAddress(icmp[naLen:], optionTargetLLA)
	if err != nil {
		return Advertisement{}, err
	}
	if a.MAC = mac; !ok {
		a.MAC = [6]byte(frame[6:12])
	}
	return a, nil
}

// parseICMP reads the headers of a neighbor discovery message of one type and checks what all types have in common. It
// returns the IPv6 packet and the message.
func parseICMP(frame []byte, icmpType byte) (ip, icmp []byte, err error) {
	if len(frame) < etherLen+ipv6Len+nsLen {
		return nil, nil, ErrShort
	}
	ip = frame[etherLen:]
	payload := int(binary.BigEndian.Uint16(ip[4:]))
	if binary.BigEndian.Uint16(frame[12:]) != etherIPv6 || ip[0]>>4 != 6 || ip[6] != protoICMPv6 {
		return nil, nil, ErrNotND
	}
	if len(ip) < ipv6Len+payload || payload < nsLen {
		return nil, nil, ErrShort
	}
	icmp = ip[ipv6Len : ipv6Len+payload]
	switch {
	case icmp[0] != icmpType:
		return nil, nil, ErrNotND
	case ip[7] != 255:
		return nil, nil, ErrHopLimit
	case checksum(ip[8:40], icmp) != 0:
		return nil, nil, ErrChecksum
	case icmp[1] != 0:
		return nil, nil, ErrInvalid
	}
	return ip, icmp, nil
}

// linkLayerAddress finds the first option of the given type for Ethernet, and checks that all options have a length.
func linkLayerAddress(options []byte, option byte) (mac [6]byte, ok bool, err error) {
	for len(options) > 0 {
		if len(options) < 2 || options[1] == 0 || len(options) < int(options[1])*8 {
			return mac, false, ErrInvalid
		}
		if options[0] == option && options[1] == 1 && !ok {
			mac, ok = [6]byte(options[2:8]), true
		}
		options = options[int(options[1])*8:]
	}
	return mac, ok, nil
}

// SolicitedNode returns the solicited-node multicast address of an address (RFC 4291 section 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	x := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: x[13], 14: x[14], 15: x[15]})
}

// Advertisement is a neighbor advertisement of Target, with the target link-layer address option.
type Advertisement struct {
	EtherDst [6]byte
	// MAC of the target, which sends the frame. The IPv6 source is the target.
	MAC       [6]byte
	Dst       netip.Addr
	Target    netip.Addr
	Solicited bool
	Override  bool
}

// AppendAdvertisement appends the frame of an advertisement. Dst and Target must be IPv6.
func AppendAdvertisement(b []byte, a *Advertisement) []byte {
	start := len(b)
	b = append(b, a.EtherDst[:]...)
	b = append(b, a.MAC[:]...)
	b = append(b, etherIPv6>>8, etherIPv6&0xff)
	b = append(b, 6<<4, 0, 0, 0, 0, naLen+llaLen, protoICMPv6, 255)
	target, dst := a.Target.As16(), a.Dst.As16()
	b = append(b, target[:]...)
	b = append(b, dst[:]...)
	var flags byte
	if a.Solicited {
		flags |= flagSolicited
	}
	if a.Override {
		flags |= flagOverride
	}
	b = append(b, typeAdvertise, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	b = append(b, optionTargetLLA, 1)
	b = append(b, a.MAC[:]...)

	ip := b[start+etherLen:]
	icmp := ip[ipv6Len:]
	binary.BigEndian.PutUint16(icmp[2:], checksum(ip[8:40], icmp))
	return b
}

// AppendUnsolicited appends the unsolicited advertisement of RFC 4861 section 7.2.6, to all nodes and with Override, so
// that neighbours that know the address take the new link-layer address at once.
func AppendUnsolicited(b []byte, mac [6]byte, addr netip.Addr) []byte {
	return AppendAdvertisement(b, &Advertisement{EtherDst: MulticastMAC(AllNodes), MAC: mac, Dst: AllNodes, Target: addr, Override: true})
}

// AppendDetection appends the solicitation of duplicate address detection (RFC 4862 section 5.4.2): has anybody this address?
func AppendDetection(b []byte, mac [6]byte, addr netip.Addr) []byte {
	start := len(b)
	group := SolicitedNode(addr)
	dst := MulticastMAC(group)
	b = append(b, dst[:]...)
	b = append(b, mac[:]...)
	b = append(b, etherIPv6>>8, etherIPv6&0xff)
	b = append(b, 6<<4, 0, 0, 0, 0, nsLen, protoICMPv6, 255)
	b = append(b, make([]byte, 16)...) // the unspecified address
	to, target := group.As16(), addr.As16()
	b = append(b, to[:]...)
	b = append(b, typeSolicit, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, target[:]...)

	ip := b[start+etherLen:]
	icmp := ip[ipv6Len:]
	binary.BigEndian.PutUint16(icmp[2:], checksum(ip[8:40], icmp))
	return b
}

// AppendUnsolicitedTo is AppendUnsolicited to one neighbour.
func AppendUnsolicitedTo(b []byte, mac [6]byte, addr netip.Addr, to [6]byte, dst netip.Addr) []byte {
	return AppendAdvertisement(b, &Advertisement{EtherDst: to, MAC: mac, Dst: dst, Target: addr, Override: true})
}

// MulticastMAC returns the Ethernet address of an IPv6 multicast address (RFC 2464 section 7).
func MulticastMAC(a netip.Addr) [6]byte {
	x := a.As16()
	return [6]byte{0x33, 0x33, x[12], x[13], x[14], x[15]}
}

// checksum is that of ICMPv6 (RFC 4443 section 2.3) over a message and the pseudo header with the given source and
// destination; over a message that holds its checksum it is zero.
func checksum(addrs, msg []byte) uint16 {
	sum := uint32(len(msg)) + protoICMPv6
	for _, part := range [2][]byte{addrs, msg} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
