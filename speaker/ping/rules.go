package ping

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table, as nft prints it:
//
//	table inet seamark-ping {
//		set vips4 { type ipv4_addr }
//		set vips6 { type ipv6_addr }
//		chain prerouting {
//			type nat hook prerouting priority -110
//			ip daddr @vips4 icmp type echo-request dnat ip to HOST4
//			ip6 daddr @vips6 icmpv6 type echo-request dnat ip6 to HOST6
//		}
//		chain output {                                             # requests of this host
//			type nat hook output priority -110
//			… the same …
//		}
//		chain solicitations {
//			type filter hook prerouting priority -300
//			ip6 daddr @vips6 icmpv6 type nd-neighbor-solicit drop
//		}
//	}
//
// The priority is before dstnat (-100): a service proxy that rejects what a VIP does not serve never sees the requests.
// The target is an address of the host and not "redirect", which takes one of the interface that the request came in on:
// those of pods often have none, and the packet would be dropped.
//
// The last chain is for speaker/l2, which sees solicitations before nftables does (packet(7)): a neighbour's unicast
// reachability probe to a VIP has an address that is not this host's, so a kernel that forwards would route it back to the
// link it came from, and send the neighbour a redirect.
func sets(t *nftables.Table) [2]*nftables.Set {
	return [2]*nftables.Set{
		{Table: t, Name: "vips4", KeyType: nftables.TypeIPAddr},
		{Table: t, Name: "vips6", KeyType: nftables.TypeIP6Addr},
	}
}

func chains(t *nftables.Table) [3]*nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return [3]*nftables.Chain{
		{Table: t, Name: "prerouting", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-110), Policy: &accept},
		{Table: t, Name: "output", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-110), Policy: &accept},
		{Table: t, Name: "solicitations", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, Policy: &accept},
	}
}

const (
	echoRequest4 = 8
	echoRequest6 = 128
	solicitation = 135
)

// rulesOf returns the rules of a chain.
func rulesOf(chain string, vips4, vips6 *nftables.Set, to redirect) [][]expr.Any {
	if chain == "solicitations" {
		return [][]expr.Any{append(icmpTo(vips6, unix.NFPROTO_IPV6, solicitation), &expr.Verdict{Kind: expr.VerdictDrop})}
	}
	var rules [][]expr.Any
	if to.ipv4.IsValid() {
		rules = append(rules, append(icmpTo(vips4, unix.NFPROTO_IPV4, echoRequest4), dnat(to.ipv4, unix.NFPROTO_IPV4)...))
	}
	if to.ipv6.IsValid() {
		rules = append(rules, append(icmpTo(vips6, unix.NFPROTO_IPV6, echoRequest6), dnat(to.ipv6, unix.NFPROTO_IPV6)...))
	}
	return rules
}

// icmpTo matches messages of one type to an address of the set.
func icmpTo(set *nftables.Set, family byte, icmpType byte) []expr.Any {
	proto, offset, length := byte(unix.IPPROTO_ICMP), uint32(16), uint32(4)
	if family == unix.NFPROTO_IPV6 {
		proto, offset, length = unix.IPPROTO_ICMPV6, 24, 16
	}
	lookup := &expr.Lookup{SourceRegister: 1}
	if set != nil {
		lookup.SetName, lookup.SetID = set.Name, set.ID
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		lookup,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{icmpType}},
	}
}

func dnat(to netip.Addr, family uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1},
	}
}
