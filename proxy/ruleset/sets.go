package ruleset

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// SetID names one of the sets and maps that each table has.
type SetID uint8

// The sets and maps. The name that the kernel knows and the types are in Spec.
const (
	// Services maps a frontend to the chain of its class.
	Services SetID = iota
	// Endpoints maps a frontend and a slot to an endpoint.
	Endpoints
	// Closed maps what is left of the traffic to a frontend after translation to a verdict.
	Closed
	// ClusterIPs and VIPs are the addresses that answer on served ports only.
	ClusterIPs
	VIPs
	// Sources are the addresses that may use a frontend with loadBalancerSourceRanges.
	Sources
	// Hairpin has the pairs (a, a) for every endpoint address of this node.
	Hairpin
	// AffinitySlots maps a frontend with session affinity and a slot to an endpoint's number, AffinityEndpoints
	// maps the number to the endpoint. A number stays with its endpoint when others come and go.
	AffinitySlots
	AffinityEndpoints
	// AffinityClients and AffinityLocalClients are filled by the kernel: the number of the endpoint that a client
	// used last, under a Cluster and a Local policy.
	AffinityClients
	AffinityLocalClients

	setCount
)

// Type of a field in the key or the value of a set.
type Type uint8

// The types. In the kernel's registers each takes a multiple of four bytes.
const (
	AddrType     Type = iota // network order; 4 or 16 bytes
	ProtoType                // 1 byte
	PortType                 // 2 bytes, network order
	SlotType                 // 4 bytes, host order: the result of numgen
	PriorityType             // 4 bytes, host order: meta priority
	VerdictType
)

// Spec describes a set.
type Spec struct {
	Name string
	Key  []Type
	// Value is nil for a set.
	Value []Type
	// Interval sets hold ranges of the last field of their key.
	Interval bool
	// Dynamic maps are filled by rules; their entries expire.
	Dynamic bool
	// Size is the most entries that a dynamic map can hold.
	Size uint32
}

// affinityClients limits what clients can make the kernel remember: about 25 MB for each map.
const affinityClients = 1 << 18

// Spec returns the set's description.
func (id SetID) Spec() Spec {
	front := func(more ...Type) []Type { return append([]Type{AddrType, ProtoType, PortType}, more...) }
	switch id {
	case Services:
		return Spec{Name: "services", Key: front(), Value: []Type{VerdictType}}
	case Endpoints:
		return Spec{Name: "endpoints", Key: front(SlotType), Value: []Type{AddrType, PortType}}
	case Closed:
		return Spec{Name: "closed", Key: front(), Value: []Type{VerdictType}}
	case ClusterIPs:
		return Spec{Name: "cluster-ips", Key: []Type{AddrType}}
	case VIPs:
		return Spec{Name: "vips", Key: []Type{AddrType}}
	case Sources:
		return Spec{Name: "sources", Key: front(AddrType), Interval: true}
	case Hairpin:
		return Spec{Name: "hairpin", Key: []Type{AddrType, AddrType}}
	case AffinitySlots:
		return Spec{Name: "affinity-slots", Key: front(SlotType), Value: []Type{PriorityType}}
	case AffinityEndpoints:
		return Spec{Name: "affinity-endpoints", Key: front(PriorityType), Value: []Type{AddrType, PortType}}
	case AffinityClients, AffinityLocalClients:
		name := "affinity-clients"
		if id == AffinityLocalClients {
			name = "affinity-local-clients"
		}
		return Spec{
			Name: name, Key: append([]Type{AddrType}, front()...), Value: []Type{PriorityType},
			Dynamic: true, Size: affinityClients,
		}
	default:
		panic(fmt.Sprintf("ruleset: no set %d", id))
	}
}

// String returns the set's name.
func (id SetID) String() string { return id.Spec().Name }

// AllSets returns every set, in the order in which they must be made.
func AllSets() []SetID {
	ids := make([]SetID, setCount)
	for i := range ids {
		ids[i] = SetID(i)
	}
	return ids
}

// Element is an element of a set, with keys and values as the kernel keeps them in its registers: fields one after the
// other, each padded to a multiple of four bytes.
type Element struct {
	Set SetID
	Key string
	// End is the end of the range that starts at Key; "" except in an Interval set.
	End string
	// Value is the text of a Verdict where the map is of verdicts, else register content.
	Value string
}

// id tells elements of a set apart.
func (e Element) id() Element { return Element{Set: e.Set, Key: e.Key, End: e.End} }

// width returns the number of bytes of a type in the registers.
func (t Type) width(f cluster.Family) int {
	if t == AddrType {
		return f.Bits() / 8
	}
	return 4
}

// Width returns the number of bytes of a concatenation in the registers.
func Width(types []Type, f cluster.Family) int {
	n := 0
	for _, t := range types {
		n += t.width(f)
	}
	return n
}

func appendAddr(b []byte, a netip.Addr) []byte { return append(b, a.AsSlice()...) }

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

func appendFrontend(b []byte, a netip.Addr, p cluster.Protocol, port uint16) []byte {
	b = append(appendAddr(b, a), byte(p), 0, 0, 0)
	return appendPort(b, port)
}

// text writes the element as nft does.
func (e Element) text(f cluster.Family) string {
	spec := e.Set.Spec()
	s := keyText(spec.Key, e.Key, e.End, f)
	switch {
	case spec.Value == nil:
		return s
	case spec.Value[0] == VerdictType:
		return s + " : " + e.Value
	default:
		return s + " : " + keyText(spec.Value, e.Value, "", f)
	}
}

func keyText(types []Type, key, end string, f cluster.Family) string {
	words := make([]string, len(types))
	for i, t := range types {
		w := t.width(f)
		words[i] = fieldText(t, key[:w])
		key = key[w:]
		if end != "" {
			if to := fieldText(t, end[:w]); to != words[i] {
				words[i] = rangeText(words[i], to)
			}
			end = end[w:]
		}
	}
	return strings.Join(words, " . ")
}

func fieldText(t Type, b string) string {
	switch t {
	case AddrType:
		a, _ := netip.AddrFromSlice([]byte(b))
		return a.String()
	case ProtoType:
		return protocolWord(cluster.Protocol(b[0]))
	case PortType:
		return fmt.Sprint(binary.BigEndian.Uint16([]byte(b)))
	case PriorityType:
		n := binary.NativeEndian.Uint32([]byte(b))
		return fmt.Sprintf("%x:%x", n>>16, n&0xffff)
	default:
		return fmt.Sprint(binary.NativeEndian.Uint32([]byte(b)))
	}
}

// rangeText writes a range as a prefix if it is one, as nft does.
func rangeText(from, to string) string {
	r, err := netipx.ParseIPRange(from + "-" + to)
	if err != nil {
		return from + "-" + to
	}
	if p, ok := r.Prefix(); ok {
		return p.String()
	}
	return r.String()
}
