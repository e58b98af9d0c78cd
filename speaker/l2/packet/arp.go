package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Ethernet and ARP numbers.
const (
	etherARP  = 0x0806
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd

	etherLen = 14
	arpLen   = 28
)

// Operations of ARP.
const (
	Request uint16 = 1
	Reply   uint16 = 2
)

// Broadcast is the Ethernet address of all stations.
var Broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} //nolint:gochecknoglobals // a constant

// What is wrong with a frame that cannot be read.
var (
	ErrShort    = errors.New("frame is cut short")
	ErrNotARP   = errors.New("not ARP for IPv4 over Ethernet")
	ErrNotND    = errors.New("not the neighbor discovery message that is expected")
	ErrHopLimit = errors.New("hop limit is not 255: the packet was routed (RFC 4861 sections 7.1.1 and 7.1.2)")
	ErrChecksum = errors.New("wrong ICMPv6 checksum")
	ErrInvalid  = errors.New("not valid by RFC 4861 sections 7.1.1 and 7.1.2")
)

// ARP is an ARP packet for IPv4 and the destination of the frame that carries it.
type ARP struct {
	Dst [6]byte
	Op  uint16

	SenderMAC [6]byte
	Sender    netip.Addr
	TargetMAC [6]byte
	Target    netip.Addr
}

// ParseARP reads an Ethernet frame. Bytes behind the packet are padding.
func ParseARP(frame []byte) (ARP, error) {
	if len(frame) < etherLen+arpLen {
		return ARP{}, ErrShort
	}
	p := frame[etherLen:]
	if binary.BigEndian.Uint16(frame[12:]) != etherARP ||
		binary.BigEndian.Uint16(p[0:]) != 1 || // Ethernet
		binary.BigEndian.Uint16(p[2:]) != etherIPv4 || p[4] != 6 || p[5] != 4 {
		return ARP{}, ErrNotARP
	}
	return ARP{
		Dst:       [6]byte(frame[0:6]),
		Op:        binary.BigEndian.Uint16(p[6:]),
		SenderMAC: [6]byte(p[8:14]),
		Sender:    netip.AddrFrom4([4]byte(p[14:18])),
		TargetMAC: [6]byte(p[18:24]),
		Target:    netip.AddrFrom4([4]byte(p[24:28])),
	}, nil
}

// AppendARP appends the frame of an ARP packet, sent by its SenderMAC. Sender and Target must be IPv4.
func AppendARP(b []byte, a *ARP) []byte {
	b = append(b, a.Dst[:]...)
	b = append(b, a.SenderMAC[:]...)
	b = append(b, etherARP>>8, etherARP&0xff, 0, 1, etherIPv4>>8, etherIPv4&0xff, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	b = append(b, a.SenderMAC[:]...)
	b = appendAddr4(b, a.Sender)
	b = append(b, a.TargetMAC[:]...)
	return appendAddr4(b, a.Target)
}

// AppendGratuitousRequest appends an ARP announcement (RFC 5227 section 2.3): a broadcast request for the sender's own
// address.
func AppendGratuitousRequest(b []byte, mac [6]byte, addr netip.Addr) []byte {
	return AppendARP(b, &ARP{Dst: Broadcast, Op: Request, SenderMAC: mac, Sender: addr, Target: addr})
}

// AppendGratuitousRequestTo is AppendGratuitousRequest to one neighbour.
func AppendGratuitousRequestTo(b []byte, mac [6]byte, addr netip.Addr, to [6]byte) []byte {
	return AppendARP(b, &ARP{Dst: to, Op: Request, SenderMAC: mac, Sender: addr, Target: addr})
}

// AppendProbe appends an ARP probe (RFC 5227 section 2.1.1): has anybody this address?
func AppendProbe(b []byte, mac [6]byte, addr netip.Addr) []byte {
	return AppendARP(b, &ARP{Dst: Broadcast, Op: Request, SenderMAC: mac, Sender: netip.IPv4Unspecified(), Target: addr})
}

// AppendGratuitousReply appends a gratuitous reply whose target hardware address is the sender's: Linux takes no other for
// gratuitous (arp_is_garp in net/ipv4/arp.c), and ignores the rest for a second after it learned the entry (locktime).
func AppendGratuitousReply(b []byte, mac [6]byte, addr netip.Addr) []byte {
	return AppendARP(b, &ARP{Dst: Broadcast, Op: Reply, SenderMAC: mac, Sender: addr, TargetMAC: mac, Target: addr})
}

func appendAddr4(b []byte, a netip.Addr) []byte {
	x := a.As4()
	return append(b, x[:]...)
}
