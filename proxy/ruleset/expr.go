package ruleset

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// MasqueradeMark is the bit of the packet mark that asks for masquerading in the postrouting hook. It is the bit that
// kube-proxy uses by default.
const MasqueradeMark = 0x4000

// Chain is a chain and its rules. Hook is nil unless it is a base chain, whose policy always is accept.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook says where a base chain is attached.
type Hook struct {
	// Type is "nat" or "filter".
	Type     string
	Hook     HookName
	Priority int32
}

// HookName is a netfilter hook.
type HookName string

// The hooks of the ip and ip6 families that the tables use.
const (
	Prerouting  HookName = "prerouting"
	Input       HookName = "input"
	Forward     HookName = "forward"
	Output      HookName = "output"
	Postrouting HookName = "postrouting"
)

// Rule is a list of expressions, evaluated from left to right until one does not match or gives a verdict.
type Rule []Expr

// Expr is one of the expression types below. Its text is what "nft list" prints for it.
type Expr interface {
	text(f cluster.Family) string
}

// Field is a value that is taken from a packet, or made for it.
type Field struct {
	Type FieldType
	// Mod and Offset are for RandomSlot: a random number from Offset to Offset+Mod-1.
	Mod, Offset uint32
}

// FieldType is the kind of a Field.
type FieldType uint8

// The fields that rules use.
const (
	Saddr FieldType = iota
	Daddr
	L4Proto
	Dport
	RandomSlot
	Priority
)

func (e Field) text(f cluster.Family) string {
	switch e.Type {
	case Saddr:
		return ipWord(f) + " saddr"
	case Daddr:
		return ipWord(f) + " daddr"
	case L4Proto:
		return "meta l4proto"
	case Dport:
		return "th dport"
	case RandomSlot:
		if e.Offset != 0 {
			return fmt.Sprintf("numgen random mod %d offset %d", e.Mod, e.Offset)
		}
		return fmt.Sprintf("numgen random mod %d", e.Mod)
	default:
		return "meta priority"
	}
}

// Key is a concatenation of fields that is looked up in a set or map.
type Key []Field

func (k Key) text(f cluster.Family) string {
	words := make([]string, len(k))
	for i, field := range k {
		words[i] = field.text(f)
	}
	return strings.Join(words, " . ")
}

// frontendKey followed by more fields is what most sets are keyed by.
func frontendKey(more ...Field) Key {
	return append(Key{{Type: Daddr}, {Type: L4Proto}, {Type: Dport}}, more...)
}

// The matches.
type (
	// Source matches packets from a prefix.
	Source struct{ Prefix netip.Prefix }
	// SourceIsLocal matches packets from an address of this node.
	SourceIsLocal struct{}
	// Destination matches packets to a prefix.
	Destination struct{ Prefix netip.Prefix }
	// DestinationIsElsewhere matches packets to an address that is none of this node's.
	DestinationIsElsewhere struct{}
	// EchoRequest matches an ICMP or ICMPv6 echo request.
	EchoRequest struct{}
	// NeighborDiscovery matches the five message types of RFC 4861.
	NeighborDiscovery struct{}
	// State matches packets that are in one of the conntrack states.
	State struct{ States States }
	// Translated matches packets of connections whose destination was translated.
	Translated struct{}
	// Marked matches packets that carry MasqueradeMark.
	Marked struct{}
	// In matches packets whose key is in a set, or is not.
	In struct {
		Key Key
		Not bool
		Set SetID
	}
)

// States is a set of conntrack states, with the bits of the kernel's NFT_CT_STATE.
type States uint32

// The states that rules use.
const (
	Invalid   States = 1
	New       States = 8
	Untracked States = 64
)

type (
	// Mark sets MasqueradeMark.
	Mark struct{}
	// Unmark clears MasqueradeMark.
	Unmark struct{}
	// SetPriority sets the packet's priority to the value of a map; it does not match if the map lacks the key.
	SetPriority struct {
		Key Key
		Map SetID
	}
	// Remember puts key -> priority into a dynamic map, or prolongs the entry that is there. It does not match if
	// the map is full.
	Remember struct {
		Key     Key
		Map     SetID
		Timeout time.Duration
	}
	// Forget removes an entry of a dynamic map.
	Forget struct {
		Key Key
		Map SetID
	}
	// DNAT translates the destination to the value of a map; it does not match if the map lacks the key.
	DNAT struct {
		Key Key
		Map SetID
	}
	// Masquerade translates the source to an address of the outgoing interface.
	Masquerade struct{}
	// Reject drops the packet and answers with an ICMP port unreachable.
	Reject struct{}
	// Reset drops the packet and answers with a TCP reset. It does not match other packets than those of TCP.
	Reset struct{}
	// Vmap does what a verdict map says; it does not match if the map lacks the key.
	Vmap struct {
		Key Key
		Map SetID
	}
	// Verdict ends the rule: "accept", "drop", "jump CHAIN" or "goto CHAIN".
	Verdict string
)

// The verdicts without a chain.
const (
	Accept Verdict = "accept"
	Drop   Verdict = "drop"
)

// Goto returns the verdict that goes to a chain for good.
func Goto(chain string) Verdict { return Verdict("goto " + chain) }

// Jump returns the verdict that goes to a chain and comes back.
func Jump(chain string) Verdict { return Verdict("jump " + chain) }

// Chain returns the chain that the verdict goes to, and whether it is a goto; "" for other verdicts.
func (v Verdict) Chain() (name string, isGoto bool) {
	if name, ok := strings.CutPrefix(string(v), "goto "); ok {
		return name, true
	}
	name, _ = strings.CutPrefix(string(v), "jump ")
	if name == string(v) {
		return "", false
	}
	return name, false
}

func ipWord(f cluster.Family) string {
	if f == cluster.IPv6 {
		return "ip6"
	}
	return "ip"
}

func icmpWord(f cluster.Family) string {
	if f == cluster.IPv6 {
		return "icmpv6"
	}
	return "icmp"
}

// The texts are those of nft 1.0.6.

func (e Source) text(f cluster.Family) string { return ipWord(f) + " saddr " + prefixWord(e.Prefix) }
func (e Destination) text(f cluster.Family) string {
	return ipWord(f) + " daddr " + prefixWord(e.Prefix)
}

func prefixWord(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func (SourceIsLocal) text(cluster.Family) string { return "fib saddr type local" }
func (DestinationIsElsewhere) text(cluster.Family) string {
	return "fib daddr type != local"
}
func (EchoRequest) text(f cluster.Family) string { return icmpWord(f) + " type echo-request" }
func (NeighborDiscovery) text(cluster.Family) string {
	return "icmpv6 type 133-137"
}
func (e State) text(cluster.Family) string    { return "ct state " + e.States.String() }
func (Translated) text(cluster.Family) string { return "ct status dnat" }
func (Marked) text(cluster.Family) string {
	return fmt.Sprintf("meta mark & 0x%08x != 0x00000000", MasqueradeMark)
}
func (Mark) text(cluster.Family) string {
	return fmt.Sprintf("meta mark set meta mark | 0x%08x", MasqueradeMark)
}
func (Masquerade) text(cluster.Family) string { return "masquerade fully-random" }
func (Reject) text(cluster.Family) string     { return "reject" }
func (Reset) text(cluster.Family) string      { return "reject with tcp reset" }
func (v Verdict) text(cluster.Family) string  { return string(v) }
func (e Vmap) text(f cluster.Family) string   { return e.Key.text(f) + " vmap @" + e.Map.String() }
func (e SetPriority) text(f cluster.Family) string {
	return fmt.Sprintf("meta priority set %s map @%s", e.Key.text(f), e.Map)
}
func (e DNAT) text(f cluster.Family) string {
	return fmt.Sprintf("dnat %s to %s map @%s", ipWord(f), e.Key.text(f), e.Map)
}

func (Unmark) text(cluster.Family) string {
	return fmt.Sprintf("meta mark set meta mark & 0x%08x", ^uint32(MasqueradeMark))
}

func (e In) text(f cluster.Family) string {
	if e.Not {
		return e.Key.text(f) + " != @" + e.Set.String()
	}
	return e.Key.text(f) + " @" + e.Set.String()
}

func (e Remember) text(f cluster.Family) string {
	return fmt.Sprintf("update @%s { %s timeout %s : meta priority }", e.Map, e.Key.text(f), nftDuration(e.Timeout))
}

func (e Forget) text(f cluster.Family) string {
	return fmt.Sprintf("delete @%s { %s : meta priority }", e.Map, e.Key.text(f))
}

// String returns the states in the order in which nft prints them.
func (s States) String() string {
	var words []string
	for _, w := range []struct {
		state States
		word  string
	}{{Invalid, "invalid"}, {New, "new"}, {Untracked, "untracked"}} {
		if s&w.state != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

func protocolWord(p cluster.Protocol) string { return strings.ToLower(p.String()) }

// nftDuration writes whole seconds as nft does: "3h", "2m5s", "1d".
func nftDuration(d time.Duration) string {
	s := int64(d / time.Second)
	if s == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		seconds int64
		unit    string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := s / u.seconds; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.unit)
			s %= u.seconds
		}
	}
	return b.String()
}
