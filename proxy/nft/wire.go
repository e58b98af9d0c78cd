package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// writer appends netlink messages of the nf_tables subsystem to a buffer.
type writer struct {
	buf []byte
	seq uint32
	// start is where the current message begins.
	start int
}

// message begins a message; finish ends it.
func (w *writer) message(msgType, flags uint16, family byte) {
	w.header(unix.NFNL_SUBSYS_NFTABLES<<8|msgType, flags, family, 0)
}

// control begins NFNL_MSG_BATCH_BEGIN or NFNL_MSG_BATCH_END.
func (w *writer) control(msgType uint16) {
	w.header(msgType, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	w.finish()
}

func (w *writer) header(msgType, flags uint16, family byte, resID uint16) {
	w.start = len(w.buf)
	w.seq++
	w.buf = binary.NativeEndian.AppendUint32(w.buf, 0) // the length, by finish
	w.buf = binary.NativeEndian.AppendUint16(w.buf, msgType)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, flags)
	w.buf = binary.NativeEndian.AppendUint32(w.buf, w.seq)
	w.buf = binary.NativeEndian.AppendUint32(w.buf, 0)
	// struct nfgenmsg
	w.buf = append(w.buf, family, unix.NFNETLINK_V0)
	w.buf = binary.BigEndian.AppendUint16(w.buf, resID)
}

func (w *writer) finish() {
	binary.NativeEndian.PutUint32(w.buf[w.start:], uint32(len(w.buf)-w.start))
}

// acknowledge asks for an answer to the message that was finished last.
func (w *writer) acknowledge() {
	flags := binary.NativeEndian.Uint16(w.buf[w.start+6:])
	binary.NativeEndian.PutUint16(w.buf[w.start+6:], flags|unix.NLM_F_ACK)
}

// nest begins a nested attribute; close ends it.
func (w *writer) nest(attrType uint16) (pos int) {
	pos = len(w.buf)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, 0)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType|unix.NLA_F_NESTED)
	return pos
}

func (w *writer) close(pos int) {
	binary.NativeEndian.PutUint16(w.buf[pos:], uint16(len(w.buf)-pos))
}

func (w *writer) bytes(attrType uint16, value []byte) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(value)))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = append(w.buf, value...)
	w.pad()
}

// string writes a string with its final zero.
func (w *writer) string(attrType uint16, s string) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(s)+1))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = append(append(w.buf, s...), 0)
	w.pad()
}

func (w *writer) uint32(attrType uint16, n uint32) {
	w.buf = binary.NativeEndian.AppendUint16(w.buf, 8)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, attrType)
	w.buf = binary.BigEndian.AppendUint32(w.buf, n)
}

// data writes register content as a nested NFTA_DATA_VALUE.
func (w *writer) data(attrType uint16, value string) {
	nest := w.nest(attrType)
	w.buf = binary.NativeEndian.AppendUint16(w.buf, uint16(4+len(value)))
	w.buf = binary.NativeEndian.AppendUint16(w.buf, unix.NFTA_DATA_VALUE)
	w.buf = append(w.buf, value...)
	w.pad()
	w.close(nest)
}

func (w *writer) pad() {
	for len(w.buf)%4 != 0 {
		w.buf = append(w.buf, 0)
	}
}

// attributes calls f with type (without flags) and value of each attribute in b.
func attributes(b []byte, f func(attrType uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// attribute returns the value of the first attribute of a type, nil if there is none.
func attribute(b []byte, attrType uint16) (value []byte) {
	attributes(b, func(t uint16, v []byte) {
		if t == attrType && value == nil {
			value = v
		}
	})
	return value
}

func cString(b []byte) string {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	return string(b)
}

func bigUint32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
