package conntrack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
)

// Messages and attributes of linux/netfilter/nfnetlink_conntrack.h, which package unix lacks.
const (
	msgGet    = 1 // IPCTNL_MSG_CT_GET
	msgDelete = 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18
	ctaFilter     = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src, ctaIPv4Dst        = 1, 2
	ctaIPv6Src, ctaIPv6Dst        = 3, 4
	ctaProtoNum                   = 1
	ctaProtoSrcPort, ctaProtoDst  = 2, 3
	ctaFilterOrig, ctaFilterReply = 1, 2

	// Bits of ctaFilterOrig: what a flow must have in common with the tuple of a request.
	filterIPDst, filterProtoNum, filterDstPort = 1 << 1, 1 << 3, 1 << 5
)

// flow is a UDP flow that no zone has for itself.
type flow struct {
	// destination of its first packet, and where answers come from.
	destination, answers netip.AddrPort
	// tuple and id name the flow to the kernel.
	tuple, id []byte
}

func (f flow) clone() flow {
	f.tuple, f.id = slices.Clone(f.tuple), slices.Clone(f.id)
	return f
}

// writeDump asks for the UDP flows of a family, or for those to one destination. The kernel knows such filters since
// Linux 5.8; an older one tells of all flows.
func writeDump(w *nfnl.Writer, f cluster.Family, to netip.AddrPort) {
	w.Reset()
	w.Conntrack = true
	w.Message(msgGet, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, protocolFamily(f))
	flags := uint32(filterProtoNum)
	tuple := w.Nest(ctaTupleOrig)
	if to.IsValid() {
		flags |= filterIPDst | filterDstPort
		ip := w.Nest(ctaTupleIP)
		if to.Addr().Is4() {
			w.Bytes(ctaIPv4Dst, to.Addr().AsSlice())
		} else {
			w.Bytes(ctaIPv6Dst, to.Addr().AsSlice())
		}
		w.Close(ip)
	}
	proto := w.Nest(ctaTupleProto)
	w.Bytes(ctaProtoNum, []byte{byte(cluster.UDP)})
	if to.IsValid() {
		w.Bytes(ctaProtoDst, binary.BigEndian.AppendUint16(nil, to.Port()))
	}
	w.Close(proto)
	w.Close(tuple)
	filter := w.Nest(ctaFilter)
	w.Bytes(ctaFilterOrig, binary.NativeEndian.AppendUint32(nil, flags))
	w.Bytes(ctaFilterReply, make([]byte, 4))
	w.Close(filter)
	w.Finish()
}

// writeDelete deletes a flow: the very one, not another that has taken its place since.
func writeDelete(w *nfnl.Writer, f cluster.Family, fl flow) {
	w.Reset()
	w.Conntrack = true
	w.Message(msgDelete, unix.NLM_F_REQUEST, protocolFamily(f))
	w.Bytes(ctaTupleOrig|unix.NLA_F_NESTED, fl.tuple)
	w.Bytes(ctaID, fl.id)
	w.Finish()
	w.Acknowledge()
}

func protocolFamily(f cluster.Family) byte {
	if f == cluster.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// parseFlow reads the kernel's word on a flow. It is not ok for one that is not of UDP, that is in a zone (zones are made
// by others, for purposes of their own), or whose destination does not concern us. The flow shares payload's memory.
func parseFlow(payload []byte, concerns func(destination netip.AddrPort) bool) (fl flow, ok bool) {
	var zoned bool
	var reply []byte
	nfnl.Attributes(payload, func(t uint16, b []byte) {
		switch t {
		case ctaTupleOrig:
			fl.tuple = b
		case ctaTupleReply:
			reply = b
		case ctaID:
			fl.id = b
		case ctaZone:
			zoned = zoned || slices.Max(append([]byte{0}, b...)) != 0
		}
	})
	if zoned {
		return flow{}, false
	}
	if _, fl.destination, ok = parseTuple(fl.tuple); !ok || !concerns(fl.destination) {
		return flow{}, false
	}
	fl.answers, _, ok = parseTuple(reply)
	return fl, ok
}

// parseTuple returns both ends of one direction of a flow.
func parseTuple(tuple []byte) (from, to netip.AddrPort, ok bool) {
	ip, proto := nfnl.Attribute(tuple, ctaTupleIP), nfnl.Attribute(tuple, ctaTupleProto)
	if p := nfnl.Attribute(proto, ctaProtoNum); len(p) != 1 || cluster.Protocol(p[0]) != cluster.UDP || nfnl.Attribute(tuple, ctaTupleZone) != nil {
		return from, to, false
	}
	end := func(v4, v6, portType uint16) (netip.AddrPort, bool) {
		b := nfnl.Attribute(ip, v4)
		if b == nil {
			b = nfnl.Attribute(ip, v6)
		}
		a, ok := netip.AddrFromSlice(b)
		port := nfnl.Attribute(proto, portType)
		if !ok || len(port) != 2 {
			return netip.AddrPort{}, false
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)), true
	}
	from, okFrom := end(ctaIPv4Src, ctaIPv6Src, ctaProtoSrcPort)
	to, okTo := end(ctaIPv4Dst, ctaIPv6Dst, ctaProtoDst)
	return from, to, okFrom && okTo
}
