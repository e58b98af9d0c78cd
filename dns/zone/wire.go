package zone

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Sizes of RFC 1035, 2.3.4 and 4.1, and of RFC 6891, 6.1.2.
const (
	maxLabel  = 63
	maxName   = 255
	headerLen = 12
	optLen    = 11
	// maxMessage is the most that a message over TCP can have.
	maxMessage = 65535
	// pointerLimit is the first offset that a compression pointer cannot reach.
	pointerLimit = 1 << 14
)

// Resource record types, by their IANA numbers.
const (
	typeA     = 1
	typeNS    = 2
	typeCNAME = 5
	typeSOA   = 6
	typePTR   = 12
	typeTXT   = 16
	typeAAAA  = 28
	typeSRV   = 33
	typeOPT   = 41
	typeIXFR  = 251
	typeAXFR  = 252
	typeANY   = 255
)

const classIN = 1

// Response codes, by their IANA numbers.
const (
	rcodeSuccess  = 0
	rcodeFormErr  = 1
	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeNotImp   = 4
	rcodeRefused  = 5
	rcodeBadVers  = 16
)

// A name in wire form is a sequence of labels, each a length octet and that many octets, and a zero octet at the end.
// As a length is at most 63 and no letter is below 65, a name can be put to lower case octet by octet.

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// appendLabel appends a label in lower case. The caller has checked its length.
func appendLabel(b []byte, label string) []byte {
	b = append(b, byte(len(label)))
	for i := range len(label) {
		b = append(b, lower(label[i]))
	}
	return b
}

// name is a name of a message, split in labels. It has arrays instead of slices to stay on the stack.
type name struct {
	// wire[:length] is the name in lower case.
	wire   [maxName]byte
	length int
	// off[:labels] are the offsets of the labels in wire, without the root.
	off    [maxName / 2]uint8
	labels int
}

// set takes a name in wire form without compression, as ParseQuery or Build made sure it is.
func (n *name) set(wire []byte) {
	n.length, n.labels = len(wire), 0
	next := 0
	for i, c := range wire {
		if i == next && c != 0 {
			n.off[n.labels] = uint8(i)
			n.labels++
			next += 1 + int(c)
		}
		n.wire[i] = lower(c)
	}
}

// at returns the offset of the i-th label from the right.
func (n *name) at(i int) int { return int(n.off[n.labels-1-i]) }

// label returns the i-th label of the name from the right, without its length octet; ok is false if there is none.
func (n *name) label(i int) (label []byte, ok bool) {
	if i >= n.labels {
		return nil, false
	}
	begin := n.at(i) + 1
	return n.wire[begin : begin+int(n.wire[begin-1])], true
}

// relative returns how long the part of the name is that stands left of the given suffix; ok is false if the name does
// not end in it.
func (n *name) relative(suffix []byte, labels int) (length int, ok bool) {
	if labels > n.labels {
		return 0, false
	}
	length = n.length - len(suffix)
	return length, n.at(labels-1) == length && string(n.wire[length:n.length]) == string(suffix)
}

// appendRR appends a record without its owner name: the reply puts a pointer in front.
func appendRR(b []byte, typ uint16, ttl uint32, data ...byte) []byte {
	b = slices.Grow(b, rrHeader+len(data))
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, classIN)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

// rrHeader is the length of a record up to its data, without its owner name.
const rrHeader = 10

// rrLen returns the length of the first record of rrs.
func rrLen(rrs []byte) int {
	return rrHeader + int(binary.BigEndian.Uint16(rrs[rrHeader-2:]))
}

// appendAddr appends an A or AAAA record.
func appendAddr(b []byte, ttl uint32, addr netip.Addr) []byte {
	if addr.Is4() {
		data := addr.As4()
		return appendRR(b, typeA, ttl, data[:]...)
	}
	data := addr.As16()
	return appendRR(b, typeAAAA, ttl, data[:]...)
}
