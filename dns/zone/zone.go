package zone

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Zone is an immutable index of the cluster's names. It may be used from any goroutine.
type Zone struct {
	cfg    Config
	apex   []byte
	labels int
	synced bool
	serial uint32
	// records is the number of resource records.
	records int

	// fixed are the names that no Service has, by their labels left of the apex in wire form.
	fixed map[string]*node
	// namespaces that exist.
	namespaces map[string]struct{}
	// services by "name.namespace" in wire form.
	services map[string]*service
	// reverse are the PTR records of an address, by its 16-octet form, which hashes faster than a netip.Addr.
	reverse map[[16]byte][]byte
	soa     []byte
}

// node is what exists at a name. A node without records is a name that only has others below it.
type node struct{ sets []rrset }

func (n *node) find(typ uint16) (rrset, bool) {
	for _, s := range n.sets {
		if s.typ == typ || typ == typeANY {
			// One of the sets is enough for ANY: RFC 8482, 4.1.
			return s, true
		}
	}
	return rrset{}, false
}

// Records returns the number of resource records in the Zone.
func (z *Zone) Records() int { return z.records }

// Verdict says what became of a query.
type Verdict uint8

const (
	// Answered means that the reply is complete.
	Answered Verdict = iota
	// Elsewhere means that the name is not the cluster's, and there is no reply. Another server may know it.
	Elsewhere
	// Chase means that the reply ends in a CNAME record whose target is elsewhere. What another server says of the
	// target, in the type of the question, belongs behind it.
	Chase
)

// svcLabel is the label between a Service's namespace and the cluster domain, in wire form.
const svcLabel = "\x03svc"

// maxChain is the most CNAME records that are followed.
const maxChain = 8

// Answer makes the reply to a query in dst, whose content it overwrites, of at most limit octets (UDPSize of the query,
// or 65535 over TCP). Each call should bring another turn: it rotates sets of addresses. The reply may not overlap the
// query's message.
//
// Reply code and sections follow RFC 1034, 4.3.2 and RFC 2308: a name that does not exist is NXDOMAIN, one that exists
// without records of the type is an empty answer, both with the SOA record. The case of the query's name is kept.
// Before the first sync (see Build) a name of the cluster is SERVFAIL, never NXDOMAIN.
func (z *Zone) Answer(dst []byte, q *Query, limit int, turn uint32) ([]byte, Verdict) {
	r := newReply(dst, q, limit)
	switch {
	case q.rcode != 0:
		return r.finish(q.rcode), Answered
	case q.Class != classIN, q.Type == typeAXFR, q.Type == typeIXFR:
		return r.finish(rcodeRefused), Answered
	}
	var n name
	n.set(q.name())
	at := headerLen
	for range maxChain {
		var found *node
		rel, ok := n.relative(z.apex, z.labels)
		switch {
		case ok && !z.synced:
			return r.finish(rcodeServFail), Answered
		case ok:
			found = z.find(&n, rel)
		default:
			if found, rel, ok = z.findReverse(&n, q.Type); !ok {
				if at == headerLen {
					return dst[:0], Elsewhere
				}
				return r.finish(rcodeSuccess), Chase
			}
			if !z.synced {
				return r.finish(rcodeServFail), Answered
			}
		}
		r.flags |= flagAA
		if found == nil {
			r.add(authority, at+rel, z.soa)
			return r.finish(rcodeNXDomain), Answered
		}
		if set, ok := found.find(q.Type); ok {
			r.addSet(at, set, turn)
			return r.finish(rcodeSuccess), Answered
		}
		alias, ok := found.find(typeCNAME)
		if !ok {
			r.add(authority, at+rel, z.soa)
			return r.finish(rcodeSuccess), Answered
		}
		if !r.add(answer, at, alias.rrs) {
			r.flags |= flagTC
			return r.finish(rcodeSuccess), Answered
		}
		target := alias.rrs[rrHeader:]
		n.set(target)
		at = len(r.msg) - len(target)
	}
	return r.finish(rcodeServFail), Answered
}

// find returns what is at a name of the cluster domain, of which rel octets stand left of the apex; nil if nothing is.
func (z *Zone) find(n *name, rel int) *node {
	left := n.wire[:rel]
	if f, ok := z.fixed[string(left)]; ok {
		return f
	}
	kind, ok1 := n.label(z.labels)
	namespace, ok2 := n.label(z.labels + 1)
	if !ok1 || !ok2 {
		return nil
	}
	svc, hasService := n.label(z.labels + 2)
	switch {
	case string(kind) != "svc" && string(kind) != "pod":
		return nil
	case !hasService:
		if _, ok := z.namespaces[string(namespace)]; ok {
			return &node{}
		}
		return nil
	case string(kind) == "pod":
		if _, ok := z.namespaces[string(namespace)]; ok && n.labels == z.labels+3 {
			return z.pod(string(svc))
		}
		return nil
	}
	first := n.at(z.labels + 2)
	s := z.services[string(left[first:rel-len(svcLabel)])]
	if s == nil {
		return nil
	}
	return s.nodes[string(left[:first])]
}

// pod returns the address that a pod's name spells: "1-2-3-4" or "fd00--1". That there is such a pod is not checked, as
// with CoreDNS' "pods insecure", which kubeadm sets.
func (z *Zone) pod(label string) *node {
	sep := ":"
	if strings.Count(label, "-") == 3 && !strings.Contains(label, "--") {
		sep = "."
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(label, "-", sep))
	if err != nil || addr.Zone() != "" {
		return nil
	}
	return &node{sets: addrSets(z.ttl(), []netip.Addr{addr})}
}

// findReverse returns what is at a name under in-addr.arpa or ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5), and how many
// octets of the name stand left of its zone. It is not ok if neither the name nor its zone are the cluster's.
func (z *Zone) findReverse(n *name, typ uint16) (found *node, rel int, ok bool) {
	prefix, rest, ok := reversePrefix(n)
	if !ok {
		return nil, 0, false
	}
	if prefix.IsSingleIP() && rest == 0 {
		if ptr, ok := z.reverse[prefix.Addr().As16()]; ok && (typ == typePTR || z.reverseZone(prefix) != 0) {
			return &node{sets: []rrset{{typ: typePTR, rrs: ptr}}}, z.reverseApex(n, prefix), true
		}
	}
	if z.reverseZone(prefix) == 0 {
		return nil, 0, false
	}
	rel = z.reverseApex(n, prefix)
	switch {
	case rest > 0, prefix.IsSingleIP():
		return nil, rel, true
	case rel == 0:
		return &node{sets: []rrset{{typ: typeSOA, rrs: z.soa}}}, rel, true
	default:
		// Which of the shorter names have an address below them is not worth an index: an empty answer is never wrong.
		return &node{}, rel, true
	}
}

// reversePrefix returns the addresses that a reverse name stands for, and how many labels are left of it that are no
// part of an address.
func reversePrefix(n *name) (p netip.Prefix, rest int, ok bool) {
	top, _ := n.label(0)
	if string(top) != "arpa" {
		return p, 0, false
	}
	labels := n.labels - 2
	var addr [16]byte
	switch family, _ := n.label(1); string(family) {
	case "in-addr":
		i := 0
		for ; i < min(labels, 4); i++ {
			label, _ := n.label(2 + i)
			octet, ok := decimal(label)
			if !ok {
				break
			}
			addr[i] = octet
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(addr[:4])), 8*i), labels - i, i > 0
	case "ip6":
		i := 0
		for ; i < min(labels, 32); i++ {
			label, _ := n.label(2 + i)
			nibble := strings.IndexByte("0123456789abcdef", label[0])
			if len(label) != 1 || nibble < 0 {
				break
			}
			addr[i/2] |= byte(nibble) << (4 - 4*(i%2))
		}
		return netip.PrefixFrom(netip.AddrFrom16(addr), 4*i), labels - i, i > 0
	}
	return p, 0, false
}

// decimal parses an octet as it is written in a reverse name.
func decimal(label []byte) (octet byte, ok bool) {
	n := 0
	for _, c := range label {
		if c < '0' || c > '9' || len(label) > 3 {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n < 256 && (label[0] != '0' || len(label) == 1)
}

// labelBits is how many bits of an address a label of its reverse name has.
func labelBits(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 4
}

// reverseZone returns the length in bits of the reverse zone that the addresses are in; 0 if there is none. As a zone
// is cut at a label, the zones of 10.96.0.0/12 are 96.10.in-addr.arpa to 111.10.in-addr.arpa.
func (z *Zone) reverseZone(p netip.Prefix) int {
	for _, c := range z.cfg.ReverseCIDRs {
		step := labelBits(c.Addr())
		bits := max(step, (c.Bits()+step-1)/step*step)
		if p.Bits() >= bits && c.Contains(p.Addr()) {
			return bits
		}
	}
	return 0
}

// reverseApex returns how many octets of the name stand left of its reverse zone; 0 if there is none.
func (z *Zone) reverseApex(n *name, p netip.Prefix) int {
	bits := z.reverseZone(p)
	labels := bits/labelBits(p.Addr()) + 2
	if bits == 0 || labels > n.labels {
		return 0
	}
	return n.at(labels - 1)
}

// ttl returns the TTL of records in seconds.
func (z *Zone) ttl() uint32 { return uint32(z.cfg.TTL.Seconds()) }

// makeSOA makes the SOA record, with the times of CoreDNS. Its TTL is that of negative answers as well (RFC 2308, 5).
func (z *Zone) makeSOA() []byte {
	data := append([]byte("\x02ns\x03dns"), z.apex...)
	data = append(append(data, "\x0ahostmaster"...), z.apex...)
	for _, n := range []uint32{z.serial, 7200, 1800, 86400, z.ttl()} {
		data = binary.BigEndian.AppendUint32(data, n)
	}
	return appendRR(nil, typeSOA, min(z.ttl(), 300), data...)
}
