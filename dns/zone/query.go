package zone

import "encoding/binary"

// MaxUDPSize is the longest reply over UDP, as agreed on DNS flag day 2020: it fits every path without fragments.
const MaxUDPSize = 1232

const minUDPSize = 512

// Query is a query message. It refers to the message it was parsed from.
type Query struct {
	id    uint16
	flags uint16
	// question as in the message: name, type, class. Empty if it could not be read.
	question []byte
	// rcode that the query deserves by its form alone.
	rcode uint16

	// Type and Class of the question.
	Type, Class uint16

	edns   bool
	dnssec bool
	size   uint16
}

// Header bits, RFC 1035, 4.1.1 and RFC 4035, 3.1.6.
const (
	flagQR     = 1 << 15
	maskOpcode = 0xf << 11
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagCD     = 1 << 4
)

// ParseQuery parses a query message. It is not ok if the message must not be answered: it is no query, or too short to
// have an id. Other faults are answered by Zone.Answer with the fitting response code.
func ParseQuery(msg []byte) (q Query, ok bool) {
	if len(msg) < headerLen {
		return Query{}, false
	}
	q.id = binary.BigEndian.Uint16(msg)
	q.flags = binary.BigEndian.Uint16(msg[2:])
	if q.flags&flagQR != 0 {
		return Query{}, false
	}
	if q.flags&maskOpcode != 0 {
		q.rcode = rcodeNotImp
		return q, true
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 || !q.parseQuestion(msg) || !q.parseRecords(msg) {
		q.rcode = rcodeFormErr
	}
	return q, true
}

func (q *Query) parseQuestion(msg []byte) bool {
	end, ok := skipName(msg, headerLen, false)
	if !ok || end-headerLen > maxName || len(msg) < end+4 {
		return false
	}
	q.question = msg[headerLen : end+4]
	q.Type = binary.BigEndian.Uint16(msg[end:])
	q.Class = binary.BigEndian.Uint16(msg[end+2:])
	return true
}

// parseRecords looks for an OPT record (RFC 6891), which must be the only one and stand in the additional section.
func (q *Query) parseRecords(msg []byte) bool {
	at := headerLen + len(q.question)
	before := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	additional := int(binary.BigEndian.Uint16(msg[10:]))
	for i := range before + additional {
		end, ok := skipName(msg, at, true)
		if !ok || len(msg) < end+rrHeader || len(msg) < end+rrLen(msg[end:]) {
			return false
		}
		if binary.BigEndian.Uint16(msg[end:]) == typeOPT {
			if q.edns || i < before || end != at+1 {
				return false
			}
			q.edns = true
			q.size = binary.BigEndian.Uint16(msg[end+2:])
			if version := msg[end+5]; version != 0 {
				q.rcode = rcodeBadVers
			}
			q.dnssec = msg[end+6]&0x80 != 0
		}
		at = end + rrLen(msg[end:])
	}
	return true
}

// skipName returns the offset behind a name of the message.
func skipName(msg []byte, at int, compressed bool) (end int, ok bool) {
	for at < len(msg) {
		switch c := msg[at]; {
		case c == 0:
			return at + 1, true
		case c <= maxLabel:
			at += 1 + int(c)
		case compressed && c >= 0xc0:
			return at + 2, true
		default:
			return 0, false
		}
	}
	return 0, false
}

// name returns the question's name in wire form.
func (q *Query) name() []byte { return q.question[:len(q.question)-4] }

// UDPSize returns how long a reply over UDP may be: what the client can take, within MaxUDPSize.
func (q *Query) UDPSize() int {
	if !q.edns {
		return minUDPSize
	}
	return min(max(int(q.size), minUDPSize), MaxUDPSize)
}
