package nfnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Writer appends netlink messages of one netfilter subsystem to a buffer. The zero value writes for nf_tables.
type Writer struct {
	// Conntrack makes it write for conntrack instead.
	Conntrack bool

	buf []byte
	seq uint32
	// start is where the current message begins.
	start int
}

// Reset forgets what was written. The buffer stays.
func (w *Writer) Reset() { w.buf = w.buf[:0] }

// Len returns the number of bytes written.
func (w *Writer) Len() int { return len(w.buf) }

// Payload returns what the only message has behind struct nfgenmsg.
func (w *Writer) Payload() []byte { return w.buf[unix.NLMSG_HDRLEN+4:] }

// Message begins a message; Finish ends it.
func (w *Writer) Message(msgType, flags uint16, family byte) {
	subsystem := uint16(unix.NFNL_SUBSYS_NFTABLES)
	if w.Conntrack {
		subsystem = unix.NFNL_SUBSYS_CTNETLINK
	}
	w.header(subsystem<<8|msgType, flags, family, 0)
}

// BeginBatch begins a transaction of nf_tables.
func (w *Writer) BeginBatch() {
	w.Reset()
	w.control(unix.NFNL_MSG_BATCH_BEGIN)
}

// EndBatch completes the transaction and asks for an answer. The answer to the last message comes behind all errors; a
// batch as such is not answered.
func (w *Writer) EndBatch() {
	w.Acknowledge()
	w.control(unix.NFNL_MSG_BATCH_END)
}

// LeaveBatchOpen asks for an answer without completing the transaction: the kernel judges it and does nothing.
func (w *Writer) LeaveBatchOpen() { w.Acknowledge() }

func (w *Writer) control(msgType uint16) {
	w.header(msgType, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	w.Finish()
}

func (w *Writer) header(msgType, flags uint16, family byte, resID uint16) {
	w.start = len(w.buf)
	w.seq++
	w.buf = binary.NativeEndian.AppendUint32(w.buf, 0) // the length, by Finish
	w.buf = binary.NativeEndian.AppendUint16(w.buf, msgType)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, flags)
	w.buf = binary.NativeEndian.AppendUint32(w.buf, w.seq)
	w.buf = binary.NativeEndian.AppendUint32(w.buf, 0)
	// struct nfgenmsg
	w.buf = append(w.buf, family, unix.NFNETLINK_V0)
	w.buf = binary.BigEndian.AppendUint16(w.buf, resID)
}

// Finish ends a message.
func (w *Writer) Finish() {
	binary.NativeEndian.PutUint32(w.buf[w.start:], uint32(len(w.buf)-w.start))
}

// Acknowledge asks for an answer to the message that was finished last.
func (w *Writer) Acknowledge() {
	flags := binary.NativeEndian.Uint16(w.buf[w.start+6:])
	binary.NativeEndian.PutUint16(w.buf[w.start+6:], flags|unix.NLM_F_ACK)
}

// Nest begins a nested attribute; Close ends it.
func (w *Writer) Nest(attrType uint16) (pos int) {
	pos = len(w.buf)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, 0)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType|unix.NLA_F_NESTED)
	return pos
}

// Close ends the attribute that Nest has begun at pos.
func (w *Writer) Close(pos int) {
	binary.NativeEndian.PutUint16(w.buf[pos:], uint16(len(w.buf)-pos))
}

// Bytes writes an attribute.
func (w *Writer) Bytes(attrType uint16, value []byte) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(value)))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = append(w.buf, value...)
	w.pad()
}

// Text writes a string with its final zero.
func (w *Writer) Text(attrType uint16, s string) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(s)+1))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = append(append(w.buf, s...), 0)
	w.pad()
}

// Uint32 writes an integer in network order.
func (w *Writer) Uint32(attrType uint16, n uint32) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, 8)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = binary.BigEndian.AppendUint32(w.buf, n)
}

// Data writes register content as a nested NFTA_DATA_VALUE.
func (w *Writer) Data(attrType uint16, value string) {
	nest := w.Nest(attrType)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(value)))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, unix.NFTA_DATA_VALUE)
	w.buf = append(w.buf, value...)
	w.pad()
	w.Close(nest)
}

func (w *Writer) pad() {
	for len(w.buf)%4 != 0 {
		w.buf = append(w.buf, 0)
	}
}

// Attributes calls f with type (without flags) and value of each attribute in b.
func Attributes(b []byte, f func(attrType uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// Attribute returns the value of the first attribute of a type, nil if there is none.
func Attribute(b []byte, attrType uint16) (value []byte) {
	Attributes(b, func(t uint16, v []byte) {
		if t == attrType && value == nil {
			value = v
		}
	})
	return value
}

// Text returns a string without its final zero.
func Text(b []byte) string {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	return string(b)
}

// Uint32 returns an integer in network order; 0 if it has not four bytes.
func Uint32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
