package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// firstRegister is NFT_REG32_00: registers of four bytes, as the fields of a concatenation are padded to.
const firstRegister = unix.NFT_REG32_00

// Offsets in the headers.
const (
	saddr4, daddr4 = 12, 16
	saddr6, daddr6 = 8, 24
	dport          = 2
)

// ICMP numbers.
const (
	protoICMP, protoICMPv6            = 1, 58
	icmpEchoRequest, icmp6EchoRequest = 8, 128
	icmp6FirstND, icmp6LastND         = 133, 137
	icmpPortUnreachable               = 3
	icmp6PortUnreachable              = 4
	ctStatusDNAT                      = 0x20
)

// encoder turns the rules of one family into nf_tables expressions.
type encoder struct {
	family cluster.Family
}

// nf returns the family as netfilter counts it.
func (e encoder) nf() byte {
	if e.family == cluster.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// rule returns the expressions of a rule.
func (e encoder) rule(r ruleset.Rule) []expr.Any {
	var out []expr.Any
	for _, x := range r {
		out = append(out, e.expr(x)...)
	}
	return out
}

func (e encoder) expr(x ruleset.Expr) []expr.Any {
	switch x := x.(type) {
	case ruleset.Source:
		return e.prefix(ruleset.Saddr, x.Prefix)
	case ruleset.Destination:
		return e.prefix(ruleset.Daddr, x.Prefix)
	case ruleset.SourceIsLocal:
		return []expr.Any{
			&expr.Fib{Register: firstRegister, ResultADDRTYPE: true, FlagSADDR: true},
			equal(binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)),
		}
	case ruleset.DestinationIsElsewhere:
		return []expr.Any{
			&expr.Fib{Register: firstRegister, ResultADDRTYPE: true, FlagDADDR: true},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
		}
	case ruleset.EchoRequest:
		if e.family == cluster.IPv6 {
			return append(protocol(protoICMPv6), transport(0, 1), equal([]byte{icmp6EchoRequest}))
		}
		return append(protocol(protoICMP), transport(0, 1), equal([]byte{icmpEchoRequest}))
	case ruleset.NeighborDiscovery:
		return append(protocol(protoICMPv6), transport(0, 1), &expr.Range{
			Op: expr.CmpOpEq, Register: firstRegister, FromData: []byte{icmp6FirstND}, ToData: []byte{icmp6LastND},
		})
	case ruleset.State:
		return anyBit(&expr.Ct{Key: expr.CtKeySTATE, Register: firstRegister}, uint32(x.States))
	case ruleset.Translated:
		return anyBit(&expr.Ct{Key: expr.CtKeySTATUS, Register: firstRegister}, ctStatusDNAT)
	case ruleset.Marked:
		return anyBit(&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister}, ruleset.MasqueradeMark)
	case ruleset.In:
		return append(e.key(x.Key), &expr.Lookup{SourceRegister: firstRegister, SetName: x.Set.String(), Invert: x.Not})
	default:
		return e.statement(x)
	}
}

// prefix matches an address.
func (e encoder) prefix(t ruleset.FieldType, p netip.Prefix) []expr.Any {
	mask := make([]byte, e.family.Bits()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{e.payload(t, firstRegister), bitwise(mask, make([]byte, len(mask))), equal(p.Masked().Addr().AsSlice())}
}

func (e encoder) statement(x ruleset.Expr) []expr.Any {
	switch x := x.(type) {
	case ruleset.Mark:
		return setMark(^uint32(ruleset.MasqueradeMark), ruleset.MasqueradeMark)
	case ruleset.Unmark:
		return setMark(^uint32(ruleset.MasqueradeMark), 0)
	case ruleset.SetPriority:
		return append(e.lookup(x.Key, x.Map), &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: firstRegister})
	case ruleset.Remember:
		return e.dynset(x.Key, expr.Dynset{SetName: x.Map.String(), Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: x.Timeout})
	case ruleset.Forget:
		// NFT_DYNSET_OP_DELETE, which package unix lacks.
		return e.dynset(x.Key, expr.Dynset{SetName: x.Map.String(), Operation: 2})
	case ruleset.DNAT:
		port := uint32(firstRegister + e.family.Bits()/32)
		return append(e.lookup(x.Key, x.Map), &expr.NAT{
			Type: expr.NATTypeDestNAT, Family: uint32(e.nf()), Specified: true,
			RegAddrMin: firstRegister, RegAddrMax: firstRegister, RegProtoMin: port, RegProtoMax: port,
		})
	case ruleset.Masquerade:
		return []expr.Any{&expr.Masq{FullyRandom: true}}
	case ruleset.Reset:
		return append(protocol(byte(cluster.TCP)), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	case ruleset.Reject:
		code := uint8(icmpPortUnreachable)
		if e.family == cluster.IPv6 {
			code = icmp6PortUnreachable
		}
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}
	case ruleset.Vmap:
		return append(e.key(x.Key), &expr.Lookup{
			SourceRegister: firstRegister, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT, SetName: x.Map.String(),
		})
	case ruleset.Verdict:
		return []expr.Any{verdict(x)}
	default:
		panic(fmt.Sprintf("nft: no encoding for %T", x))
	}
}

// key loads a concatenation into the registers from the first on.
func (e encoder) key(k ruleset.Key) []expr.Any {
	var out []expr.Any
	reg := uint32(firstRegister)
	for _, field := range k {
		switch field.Type {
		case ruleset.Saddr, ruleset.Daddr:
			out = append(out, e.payload(field.Type, reg))
			reg += uint32(e.family.Bits() / 32)
			continue
		case ruleset.L4Proto:
			out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
		case ruleset.Dport:
			out = append(out, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: dport, Len: 2})
		case ruleset.RandomSlot:
			out = append(out, &expr.Numgen{Register: reg, Modulus: field.Mod, Type: unix.NFT_NG_RANDOM, Offset: field.Offset})
		case ruleset.Priority:
			out = append(out, &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: reg})
		}
		reg++
	}
	return out
}

// lookup loads the value of a map into the registers from the first on.
func (e encoder) lookup(k ruleset.Key, m ruleset.SetID) []expr.Any {
	return append(e.key(k), &expr.Lookup{
		SourceRegister: firstRegister, IsDestRegSet: true, DestRegister: firstRegister, SetName: m.String(),
	})
}

// dynset completes a change of a dynamic map of key -> priority.
func (e encoder) dynset(k ruleset.Key, d expr.Dynset) []expr.Any {
	exprs := e.key(append(k[:len(k):len(k)], ruleset.Field{Type: ruleset.Priority}))
	d.SrcRegKey = firstRegister
	d.SrcRegData = exprs[len(exprs)-1].(*expr.Meta).Register
	return append(exprs, &d)
}

func (e encoder) payload(t ruleset.FieldType, reg uint32) *expr.Payload {
	p := &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Len: uint32(e.family.Bits() / 8)}
	switch {
	case e.family == cluster.IPv4 && t == ruleset.Saddr:
		p.Offset = saddr4
	case e.family == cluster.IPv4:
		p.Offset = daddr4
	case t == ruleset.Saddr:
		p.Offset = saddr6
	default:
		p.Offset = daddr6
	}
	return p
}

func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, equal([]byte{p})}
}

func transport(offset, length uint32) *expr.Payload {
	return &expr.Payload{DestRegister: firstRegister, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: length}
}

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

func bitwise(mask, xor []byte) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(len(mask)), Mask: mask, Xor: xor}
}

func bitwise32(mask, xor uint32) *expr.Bitwise {
	return bitwise(binary.NativeEndian.AppendUint32(nil, mask), binary.NativeEndian.AppendUint32(nil, xor))
}

// anyBit matches if the loaded value has one of the bits.
func anyBit(load expr.Any, bits uint32) []expr.Any {
	return []expr.Any{load, bitwise32(bits, 0), &expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)}}
}

func setMark(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister}, bitwise32(mask, xor),
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: firstRegister},
	}
}

func verdict(v ruleset.Verdict) *expr.Verdict {
	chain, isGoto := v.Chain()
	switch {
	case isGoto:
		return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}
	case chain != "":
		return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}
	case v == ruleset.Accept:
		return &expr.Verdict{Kind: expr.VerdictAccept}
	default:
		return &expr.Verdict{Kind: expr.VerdictDrop}
	}
}
