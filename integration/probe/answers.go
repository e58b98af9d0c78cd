package probe

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
)

const (
	ethernetARP, ethernetIPv6 = 0x0806, 0x86dd
	// icmpOffset is where ICMPv6 begins in a frame without IPv6 extension headers.
	icmpOffset = 14 + 40
)

// listen opens a socket for the frames that a program lets through. The others are dropped in the kernel: when a thousand
// addresses move all of them are announced, and who looked at each would take the time that is being measured.
func listen(ifi *net.Interface, ethertype int, program []bpf.Instruction) (*packet.Conn, error) {
	filter, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	return packet.Listen(ifi, packet.Raw, ethertype, &packet.Config{Filter: filter})
}

// equal is a value at an offset of a frame.
type equal struct {
	offset, size int
	value        uint32
}

// all lets frames through that have all values.
func all(want ...equal) (program []bpf.Instruction) {
	for i, w := range want {
		program = append(program,
			bpf.LoadAbsolute{Off: uint32(w.offset), Size: w.size},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: w.value, SkipTrue: uint8(2*(len(want)-1-i) + 1)})
	}
	return append(program, bpf.RetConstant{Val: 1 << 16}, bpf.RetConstant{})
}

// arpAnswers lets ARP replies through for an address (RFC 826).
func arpAnswers(to netip.Addr) []bpf.Instruction {
	a := to.As4()
	return all(equal{20, 2, 2}, equal{28, 4, binary.BigEndian.Uint32(a[:])})
}

// ndpAnswers lets neighbor advertisements through for an address (RFC 4861 section 4.4).
func ndpAnswers(to netip.Addr) []bpf.Instruction {
	a := to.As16()
	want := []equal{{20, 1, 58}, {icmpOffset, 1, 136}}
	for i := 0; i < len(a); i += 4 {
		want = append(want, equal{icmpOffset + 8 + i, 4, binary.BigEndian.Uint32(a[i:])})
	}
	return all(want...)
}
