package ruleset_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// packet is the first packet of a flow, as the kernel would see it.
type packet struct {
	src      netip.Addr
	dst      netip.AddrPort
	protocol cluster.Protocol
	// icmpType counts where protocol is neither TCP, UDP nor SCTP.
	icmpType byte
	state    ruleset.States

	// What the rules do with it.
	mark     uint32
	priority uint32
	dnat     bool
	masq     bool
}

// fate is what becomes of a packet.
type fate struct {
	// verdict is "accept", "drop", "reject" or "reset".
	verdict string
	// to is where the packet goes in the end.
	to   netip.AddrPort
	masq bool
}

// host interprets a table for one node, by the rules alone: it knows nothing of Services.
type host struct {
	table    *ruleset.Table
	chains   map[string]ruleset.Chain
	elements map[ruleset.SetID]map[string]ruleset.Element
	// local are the node's own addresses.
	local []netip.Addr
	// roll returns the n-th of mod slots.
	roll func(mod uint32) uint32
}

func newHost(t *ruleset.Table, local ...netip.Addr) *host {
	h := &host{
		table: t, chains: map[string]ruleset.Chain{}, local: local,
		elements: map[ruleset.SetID]map[string]ruleset.Element{},
		roll:     func(uint32) uint32 { return 0 },
	}
	for _, c := range t.Chains {
		h.chains[c.Name] = c
	}
	for _, id := range ruleset.AllSets() {
		h.elements[id] = map[string]ruleset.Element{}
	}
	for _, e := range t.Elements() {
		if _, twice := h.elements[e.Set][e.Key+e.End]; twice {
			panic(fmt.Sprintf("element %q twice in %s", e.Key, e.Set))
		}
		h.elements[e.Set][e.Key+e.End] = e
	}
	return h
}

// fates returns all that can become of the packet, one for each slot that can be rolled. What the host remembers of
// clients stays as it is.
func (h *host) fates(p packet) []fate {
	var out []fate
	cluster, local := h.elements[ruleset.AffinityClients], h.elements[ruleset.AffinityLocalClients]
	defer func() { h.elements[ruleset.AffinityClients], h.elements[ruleset.AffinityLocalClients] = cluster, local }()
	for n, most := uint32(0), uint32(1); n < most; n++ {
		h.elements[ruleset.AffinityClients], h.elements[ruleset.AffinityLocalClients] = maps.Clone(cluster), maps.Clone(local)
		h.roll = func(mod uint32) uint32 {
			most = max(most, mod)
			return n % mod
		}
		if f := h.trace(p); !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b fate) int { return a.to.Compare(b.to) })
	return out
}

// trace walks a packet through the hooks.
func (h *host) trace(p packet) fate {
	local := func(a netip.Addr) bool { return slices.Contains(h.local, a) }
	first, route := ruleset.Prerouting, ruleset.Forward
	if local(p.src) {
		first = ruleset.Output
	}
	if p.state == ruleset.New {
		if v := h.hook(first, "nat", &p); v == "drop" {
			return fate{verdict: v, to: p.dst}
		}
	}
	switch {
	case first == ruleset.Output:
		route = ruleset.Output
	case local(p.dst.Addr()):
		route = ruleset.Input
	}
	if v := h.hook(route, "filter", &p); v != "accept" {
		return fate{verdict: v, to: p.dst}
	}
	if p.state == ruleset.New && route != ruleset.Input {
		h.hook(ruleset.Postrouting, "nat", &p)
		if p.mark != 0 {
			panic("the mark leaves the node")
		}
	}
	return fate{"accept", p.dst, p.masq}
}

func (h *host) hook(name ruleset.HookName, chainType string, p *packet) string {
	for _, c := range h.table.Chains {
		if c.Hook != nil && c.Hook.Hook == name && c.Hook.Type == chainType {
			if v := h.chain(c.Name, p, 0); v != "" && v != "accept" {
				return v
			}
		}
	}
	return "accept"
}

// chain returns the verdict of a chain, "" if it ends without one.
func (h *host) chain(name string, p *packet, depth int) string {
	c, ok := h.chains[name]
	if !ok || depth > 15 {
		panic("no chain " + name)
	}
rules:
	for _, r := range c.Rules {
		for _, x := range r {
			v, ok := h.expr(x, p)
			if !ok {
				continue rules
			}
			if v == "" {
				continue
			}
			chain, isGoto := ruleset.Verdict(v).Chain()
			switch {
			case chain == "":
				return v
			case isGoto:
				return h.chain(chain, p, depth+1)
			}
			if v := h.chain(chain, p, depth+1); v != "" {
				return v
			}
		}
	}
	return ""
}

// expr evaluates one expression: whether it matches, and its verdict if it has one.
func (h *host) expr(x ruleset.Expr, p *packet) (verdict string, match bool) {
	icmp := p.protocol != cluster.TCP && p.protocol != cluster.UDP && p.protocol != cluster.SCTP
	switch x := x.(type) {
	case ruleset.Source:
		return "", x.Prefix.Contains(p.src)
	case ruleset.SourceIsLocal:
		return "", slices.Contains(h.local, p.src)
	case ruleset.Destination:
		return "", x.Prefix.Contains(p.dst.Addr())
	case ruleset.DestinationIsElsewhere:
		return "", !slices.Contains(h.local, p.dst.Addr())
	case ruleset.EchoRequest:
		return "", icmp && (h.table.Family == cluster.IPv4 && p.icmpType == 8 || h.table.Family == cluster.IPv6 && p.icmpType == 128)
	case ruleset.NeighborDiscovery:
		return "", icmp && p.icmpType >= 133 && p.icmpType <= 137
	case ruleset.State:
		return "", p.state&x.States != 0
	case ruleset.Translated:
		return "", p.dnat
	case ruleset.Marked:
		return "", p.mark&ruleset.MasqueradeMark != 0
	case ruleset.In:
		return "", h.in(x.Set, h.key(x.Key, p)) != x.Not
	case ruleset.Mark:
		p.mark |= ruleset.MasqueradeMark
	case ruleset.Unmark:
		p.mark &^= ruleset.MasqueradeMark
	case ruleset.SetPriority:
		e, ok := h.elements[x.Map][h.key(x.Key, p)]
		if ok {
			p.priority = binary.NativeEndian.Uint32([]byte(e.Value))
		}
		return "", ok
	case ruleset.Remember:
		k := h.key(x.Key, p)
		if _, ok := h.elements[x.Map][k]; !ok {
			h.elements[x.Map][k] = ruleset.Element{Value: string(binary.NativeEndian.AppendUint32(nil, p.priority))}
		}
	case ruleset.Forget:
		delete(h.elements[x.Map], h.key(x.Key, p))
	case ruleset.DNAT:
		e, ok := h.elements[x.Map][h.key(x.Key, p)]
		if !ok {
			return "", false
		}
		n := h.table.Family.Bits() / 8
		addr, _ := netip.AddrFromSlice([]byte(e.Value[:n]))
		p.dst = netip.AddrPortFrom(addr, binary.BigEndian.Uint16([]byte(e.Value[n:])))
		p.dnat = true
		return "accept", true
	case ruleset.Masquerade:
		p.masq = true
		return "accept", true
	case ruleset.Reject:
		return "reject", true
	case ruleset.Reset:
		return "reset", p.protocol == cluster.TCP
	case ruleset.Vmap:
		e, ok := h.elements[x.Map][h.key(x.Key, p)]
		return e.Value, ok
	case ruleset.Verdict:
		return string(x), true
	default:
		panic(fmt.Sprintf("%T", x))
	}
	return "", true
}

// in looks a key up in a set; in an interval set, range by range.
func (h *host) in(set ruleset.SetID, key string) bool {
	if _, ok := h.elements[set][key]; ok {
		return true
	}
	n := len(key) - h.table.Family.Bits()/8
	for _, e := range h.elements[set] {
		if e.End != "" && strings.HasPrefix(key, e.Key[:n]) && e.Key <= key && key <= e.End {
			return true
		}
	}
	return false
}

// key concatenates fields as the kernel's registers do.
func (h *host) key(k ruleset.Key, p *packet) string {
	var b []byte
	for _, field := range k {
		switch field.Type {
		case ruleset.Saddr:
			b = append(b, p.src.AsSlice()...)
		case ruleset.Daddr:
			b = append(b, p.dst.Addr().AsSlice()...)
		case ruleset.L4Proto:
			b = append(b, byte(p.protocol), 0, 0, 0)
		case ruleset.Dport:
			b = append(binary.BigEndian.AppendUint16(b, p.dst.Port()), 0, 0)
		case ruleset.RandomSlot:
			b = binary.NativeEndian.AppendUint32(b, h.roll(field.Mod)+field.Offset)
		case ruleset.Priority:
			b = binary.NativeEndian.AppendUint32(b, p.priority)
		}
	}
	return string(b)
}
