package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// The kernel keeps for each set what nft needs to print it: a type number made of six bits for each field, and user
// data that describes the key as an expression. A slot, a bare integer, has no printable type, so a set with slots
// needs the description ("typeof ip daddr . meta l4proto . th dport . numgen random mod 2"). The numbers below are
// those of nftables' enum datatypes, enum expr_types and enum nftnl_udata_set_types; user data is a list of
// (type, length, value) with one byte each for type and length, and integers in host order.

// Type numbers (enum datatypes).
const (
	typeInteger  = 4
	typeIPAddr   = 7
	typeIP6Addr  = 8
	typeProtocol = 12
	typeService  = 13
	typeClassID  = 21
	typeVerdict  = 0xffffff00 // NFT_DATA_VERDICT

	bitsPerType = 6
)

// User data types (enum nftnl_udata_set_types), and those inside of a description.
const (
	udataKeyByteOrder  = 0
	udataDataByteOrder = 1
	udataKeyTypeof     = 3
	udataDataTypeof    = 4

	udataTypeofExpr = 0
	udataTypeofData = 1
)

// Expressions (enum expr_types) and their own numbers.
const (
	exprPayload = 7
	exprMeta    = 9
	exprConcat  = 13
	exprNumgen  = 23

	descIP, descIP6, descTransport    = 12, 13, 11
	ipSaddr, ipDaddr                  = 11, 12
	ip6Saddr, ip6Daddr                = 8, 9
	transportDport                    = 2
	metaPriority                      = unix.NFT_META_PRIORITY
	metaL4Proto                       = unix.NFT_META_L4PROTO
	numgenType, numgenMod, numgenOffs = 0, 1, 2
)

// shape is what the kernel knows of a set; two sets of the same shape hold the same kind of elements.
type shape struct {
	flags, keyType, keyLen, dataType, dataLen uint32
}

func shapeOf(spec ruleset.Spec, f cluster.Family) shape {
	s := shape{keyType: typeNumber(spec.Key, f), keyLen: uint32(ruleset.Width(spec.Key, f))}
	switch {
	case spec.Value == nil:
	case spec.Value[0] == ruleset.VerdictType:
		s.flags |= unix.NFT_SET_MAP
		s.dataType = typeVerdict
	default:
		s.flags |= unix.NFT_SET_MAP
		s.dataType, s.dataLen = typeNumber(spec.Value, f), uint32(ruleset.Width(spec.Value, f))
	}
	if spec.Interval {
		s.flags |= unix.NFT_SET_INTERVAL | nftSetConcat
	}
	if spec.Dynamic {
		s.flags |= unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
	}
	return s
}

func typeNumber(types []ruleset.Type, f cluster.Family) uint32 {
	n := uint32(0)
	for _, t := range types {
		n <<= bitsPerType
		switch t {
		case ruleset.AddrType:
			if f == cluster.IPv6 {
				n |= typeIP6Addr
			} else {
				n |= typeIPAddr
			}
		case ruleset.ProtoType:
			n |= typeProtocol
		case ruleset.PortType:
			n |= typeService
		case ruleset.PriorityType:
			n |= typeClassID
		default:
			n |= typeInteger
		}
	}
	return n
}

// fieldLength returns the length of a field without padding.
func fieldLength(t ruleset.Type, f cluster.Family) uint32 {
	switch t {
	case ruleset.AddrType:
		return uint32(f.Bits() / 8)
	case ruleset.ProtoType:
		return 1
	case ruleset.PortType:
		return 2
	default:
		return 4
	}
}

// setUserdata returns the description of a set.
func setUserdata(spec ruleset.Spec, f cluster.Family) []byte {
	b := udataUint32(nil, udataKeyByteOrder, 0)
	if spec.Value == nil {
		return b
	}
	b = udataUint32(b, udataDataByteOrder, 0)
	if spec.Value[0] == ruleset.VerdictType {
		return b
	}
	// A dynamic map's first address is the client's.
	b = udataConcat(b, udataKeyTypeof, spec.Key, f, spec.Dynamic)
	return udataConcat(b, udataDataTypeof, spec.Value, f, false)
}

// udataConcat describes a concatenation of fields, or the only field.
func udataConcat(b []byte, udataType byte, types []ruleset.Type, f cluster.Family, fromClient bool) []byte {
	if len(types) == 1 {
		return udata(b, udataType, udataField(nil, types[0], f, false))
	}
	var fields []byte
	for i, t := range types {
		fields = udata(fields, byte(i), udataField(nil, t, f, fromClient && i == 0))
	}
	desc := udataUint32(nil, udataTypeofExpr, exprConcat)
	return udata(b, udataType, udata(desc, udataTypeofData, fields))
}

// udataField describes the expression that has the type of a field.
func udataField(b []byte, t ruleset.Type, f cluster.Family, source bool) []byte {
	number, data := uint32(exprPayload), []byte(nil)
	switch t {
	case ruleset.AddrType:
		desc, field := uint32(descIP), uint32(ipDaddr)
		if source {
			field = ipSaddr
		}
		if f == cluster.IPv6 {
			desc, field = descIP6, ip6Daddr
			if source {
				field = ip6Saddr
			}
		}
		data = udataUint32(udataUint32(nil, 0, desc), 1, field)
	case ruleset.PortType:
		data = udataUint32(udataUint32(nil, 0, descTransport), 1, transportDport)
	case ruleset.ProtoType:
		number, data = exprMeta, udataUint32(nil, 0, metaL4Proto)
	case ruleset.PriorityType:
		number, data = exprMeta, udataUint32(nil, 0, metaPriority)
	default:
		// "numgen random mod 2": the modulus means nothing.
		number = exprNumgen
		data = udataUint32(udataUint32(udataUint32(nil, numgenType, unix.NFT_NG_RANDOM), numgenMod, 2), numgenOffs, 0)
	}
	return udata(udataUint32(b, udataTypeofExpr, number), udataTypeofData, data)
}

func udata(b []byte, udataType byte, value []byte) []byte {
	return append(append(b, udataType, byte(len(value))), value...)
}

func udataUint32(b []byte, udataType byte, n uint32) []byte {
	return udata(b, udataType, binary.NativeEndian.AppendUint32(nil, n))
}
