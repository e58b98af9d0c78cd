package respond

import (
	"net/netip"

	"github.com/seamark-io/seamark/speaker/l2/packet"
)

// Owned are the addresses that a link answers for. It is shared between goroutines and must not be changed: a change
// makes another.
type Owned map[netip.Addr]struct{}

// Verdict on a frame.
type Verdict uint8

// The verdicts. Answer is the only one with which there is a frame to send.
const (
	Answer Verdict = iota
	// Malformed: the frame cannot be read or is not valid.
	Malformed
	// Routed: a solicitation that did not come from this link (hop limit below 255).
	Routed
	// NotRequest: an ARP reply.
	NotRequest
	// NotOwned: the frame asks for another address.
	NotOwned
	// Echo: the frame is this node's own.
	Echo
	// Conflict: another station announces, or speaks for, an address that this node owns.
	Conflict

	// The caller's verdicts. Fenced: there is an answer, which this node may not give at present. Sibling: a Conflict with
	// another node of the cluster, which is how an address moves.
	Fenced
	Sibling

	// Verdicts is the number of verdicts.
	Verdicts = int(Sibling) + 1
)

// String returns the verdict as the value of a metric's label.
func (v Verdict) String() string {
	return [Verdicts]string{"answer", "malformed", "routed", "not_request", "not_owned", "echo", "conflict", "fenced", "sibling"}[v]
}

// Decision on a frame.
type Decision struct {
	Verdict
	// Addr is the owned address that an Answer or a Conflict is about.
	Addr netip.Addr
	// MAC of the other station in a Conflict.
	MAC [6]byte
}

// ARP decides on a frame on a link whose address is mac. The answer is appended to buf.
//
// A probe (RFC 5227: the sender has no address yet) is answered: whoever probes for a VIP must learn that it is taken. A
// frame that another station sends from an owned address is a Conflict, whatever it asks (RFC 5227 section 2.4).
func ARP(frame []byte, owned Owned, mac [6]byte, buf []byte) ([]byte, Decision) {
	a, err := packet.ParseARP(frame)
	if err != nil {
		return buf, Decision{Verdict: Malformed}
	}
	if a.SenderMAC == mac {
		return buf, Decision{Verdict: Echo}
	}
	if _, ok := owned[a.Sender]; ok {
		return buf, Decision{Conflict, a.Sender, a.SenderMAC}
	}
	if a.Op != packet.Request {
		return buf, Decision{Verdict: NotRequest}
	}
	if _, ok := owned[a.Target]; !ok {
		return buf, Decision{Verdict: NotOwned}
	}
	return packet.AppendARP(buf, &packet.ARP{
		Dst: a.SenderMAC, Op: packet.Reply,
		SenderMAC: mac, Sender: a.Target,
		TargetMAC: a.SenderMAC, Target: a.Sender,
	}), Decision{Verdict: Answer, Addr: a.Target}
}

// NDP decides on a neighbor solicitation, multicast or unicast (a neighbour that probes for reachability), or on an
// advertisement, on a link whose address is mac. The answer is appended to buf; its flags are those of RFC 4861 section 7.2.4:
// Override, because the VIP is neither anycast nor proxied, and Solicited unless the solicitation has no source, in which
// case it goes to all nodes.
func NDP(frame []byte, owned Owned, mac [6]byte, buf []byte) ([]byte, Decision) {
	if packet.IsAdvertisement(frame) {
		return buf, advertisement(frame, owned, mac)
	}
	s, err := packet.ParseSolicitation(frame)
	switch {
	case err != nil:
		return buf, Decision{Verdict: wrong(err)}
	case s.EtherSrc == mac:
		return buf, Decision{Verdict: Echo}
	}
	if _, ok := owned[s.Src]; ok {
		return buf, Decision{Conflict, s.Src, s.EtherSrc}
	}
	if _, ok := owned[s.Target]; !ok {
		return buf, Decision{Verdict: NotOwned}
	}
	na := packet.Advertisement{EtherDst: s.EtherSrc, MAC: mac, Dst: s.Src, Target: s.Target, Solicited: true, Override: true}
	if s.HasSourceMAC {
		na.EtherDst = s.SourceMAC
	}
	if s.Src.IsUnspecified() {
		na.EtherDst, na.Dst, na.Solicited = packet.MulticastMAC(packet.AllNodes), packet.AllNodes, false
	}
	return packet.AppendAdvertisement(buf, &na), Decision{Verdict: Answer, Addr: s.Target}
}

func advertisement(frame []byte, owned Owned, mac [6]byte) Decision {
	a, err := packet.ParseAdvertisement(frame)
	switch {
	case err != nil:
		return Decision{Verdict: wrong(err)}
	case a.MAC == mac:
		return Decision{Verdict: Echo}
	}
	if _, ok := owned[a.Target]; ok {
		return Decision{Conflict, a.Target, a.MAC}
	}
	return Decision{Verdict: NotRequest}
}

func wrong(err error) Verdict {
	if err == packet.ErrHopLimit { //nolint:errorlint // never wrapped
		return Routed
	}
	return Malformed
}
