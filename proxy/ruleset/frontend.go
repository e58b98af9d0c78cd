package ruleset

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Service is what the tables have because of one Service. It is immutable.
type Service struct {
	// Frontends in the order of their ports.
	Frontends []Frontend
	// ClusterIP of the Service, the zero Addr if another Service has it or this node itself, and its VIPs.
	ClusterIP netip.Addr
	VIPs      []netip.Addr
	// Pods are the addresses of endpoints on this node, which may be their own clients.
	Pods []netip.Addr
}

// Frontend is an address, protocol and port at which a Service is served.
type Frontend struct {
	Addr     netip.Addr
	Protocol cluster.Protocol
	Port     uint16
	Kind     Kind
	// NodePort is true where Addr is the node's own.
	NodePort bool

	// Endpoints for a Cluster policy; Local for ExternalLocal traffic that comes from outside.
	Endpoints []netip.AddrPort
	Local     []netip.AddrPort
	// Affinity is the timeout of session affinity; 0: none.
	Affinity time.Duration
	// Sources may use the frontend; nil: everybody may. The ranges do not overlap.
	Sources []netipx.IPRange
	// Closed is what happens to packets that are not translated, if that is not decided by their address.
	Closed Verdict
	// Serving are the endpoints whose established UDP flows must not be broken: more than those that get new ones.
	// It is nil for the other protocols.
	Serving []netip.AddrPort
}

func (fr *Frontend) class() class {
	return class{
		kind: fr.Kind, cluster: len(fr.Endpoints), local: len(fr.Local),
		affinity: fr.Affinity, guarded: fr.Sources != nil,
	}
}

// served reports whether the frontend translates anything.
func (fr *Frontend) served() bool { return len(fr.Endpoints) > 0 }

// equal reports whether both Services are the same; nil is a Service without anything.
func (s *Service) equal(o *Service) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.ClusterIP == o.ClusterIP && slices.Equal(s.VIPs, o.VIPs) && slices.Equal(s.Pods, o.Pods) &&
		slices.EqualFunc(s.Frontends, o.Frontends, func(a, b Frontend) bool { return a.equal(&b) })
}

func (fr *Frontend) equal(o *Frontend) bool {
	return fr.Addr == o.Addr && fr.Protocol == o.Protocol && fr.Port == o.Port && fr.Kind == o.Kind &&
		fr.NodePort == o.NodePort && fr.Affinity == o.Affinity && fr.Closed == o.Closed &&
		slices.Equal(fr.Endpoints, o.Endpoints) && slices.Equal(fr.Local, o.Local) &&
		slices.Equal(fr.Serving, o.Serving) && slices.Equal(fr.Sources, o.Sources) &&
		(fr.Sources == nil) == (o.Sources == nil)
}

// appendElements appends all elements of the frontend.
func (fr *Frontend) appendElements(out []Element) []Element {
	key := appendFrontend(make([]byte, 0, 40), fr.Addr, fr.Protocol, fr.Port)
	if fr.Closed != "" {
		out = append(out, Element{Set: Closed, Key: string(key), Value: string(fr.Closed)})
	}
	if !fr.served() {
		return out
	}
	out = append(out, Element{Set: Services, Key: string(key), Value: string(Goto(fr.class().name()))})
	for _, r := range fr.Sources {
		out = append(out, Element{
			Set: Sources, Key: string(appendAddr(slices.Clip(key), r.From())), End: string(appendAddr(slices.Clip(key), r.To())),
		})
	}
	if fr.Affinity == 0 {
		out = appendSlots(out, Endpoints, key, 0, fr.Endpoints)
		return appendSlots(out, Endpoints, key, localSlots, fr.Local)
	}
	out = appendAffinity(out, key, 0, fr.Endpoints, 0)
	return appendAffinity(out, key, localSlots, fr.Local, 1<<31)
}

func appendSlots(out []Element, set SetID, key []byte, slot uint32, eps []netip.AddrPort) []Element {
	n := len(key)
	for _, ep := range eps {
		key = binary.NativeEndian.AppendUint32(key[:n], slot)
		out = append(out, Element{Set: set, Key: string(key), Value: endpointValue(ep)})
		slot++
	}
	return out
}

func endpointValue(ep netip.AddrPort) string {
	var b [20]byte
	return string(appendPort(appendAddr(b[:0], ep.Addr()), ep.Port()))
}

// appendAffinity gives each endpoint a number that does not depend on the other endpoints, so that clients keep theirs
// when others come and go. The numbers of the two policies differ in the uppermost bit.
func appendAffinity(out []Element, key []byte, slot uint32, eps []netip.AddrPort, policy uint32) []Element {
	n := len(key)
	taken := make(map[uint32]bool, len(eps))
	for _, ep := range eps {
		number := endpointNumber(ep)&^(1<<31) | policy
		for taken[number] {
			number = (number+1)&^(1<<31) | policy
		}
		taken[number] = true

		value := binary.NativeEndian.AppendUint32(nil, number)
		key = binary.NativeEndian.AppendUint32(key[:n], slot)
		out = append(out, Element{Set: AffinitySlots, Key: string(key), Value: string(value)})
		key = append(key[:n], value...)
		out = append(out, Element{Set: AffinityEndpoints, Key: string(key), Value: endpointValue(ep)})
		slot++
	}
	return out
}

func endpointNumber(ep netip.AddrPort) uint32 {
	h := fnv.New32a()
	h.Write([]byte(endpointValue(ep))) //nolint:errcheck // a hash never fails
	return h.Sum32()
}
