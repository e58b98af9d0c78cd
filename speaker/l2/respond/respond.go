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
	// Conflict: another station announces an address that this node owns.
	Conflict

	// Verdicts is the number of verdicts.
	Verdicts = int(Conflict) + 1
)

// String returns the verdict as the value of a metric's label.
func (v Verdict) String() string {
	return [Verdicts]string{"answer", "malformed", "routed", "not_request", "not_owned", "echo", "conflict"}[v]
}

// ARP decides on a frame on a link whose address is mac. The answer is appended to buf.
//
// A probe (RFC 5227: the sender has no address yet) is answered: whoever probes for a VIP must learn that it is taken. An
// announcement of an owned address by another station is a Conflict: there is nothing that it waits for.
func ARP(frame []byte, owned Owned, mac [6]byte, buf []byte) ([]byte, Verdict) {
	a, err := packet.ParseARP(frame)
	if err != nil {
		return buf, Malformed
	}
	if a.SenderMAC == mac {
		return buf, Echo
	}
	if _, ok := owned[a.Sender]; ok {
		return buf, Conflict
	}
	if a.Op != packet.Request {
		return buf, NotRequest
	}
	if _, ok := owned[a.Target]; !ok {
		return buf, NotOwned
	}
	return packet.AppendARP(buf, &packet.ARP{
		Dst: a.SenderMAC, Op: packet.Reply,
		SenderMAC: mac, Sender: a.Target,
		TargetMAC: a.SenderMAC, Target: a.Sender,
	}), Answer
}

// NDP decides on a neighbor solicitation, multicast or unicast (a neighbour that probes for reachability), on a link whose
// address is mac. The answer is appended to buf; its flags are those of RFC 4861 section 7.2.4: Override, because the VIP
// is neither anycast nor proxied, and Solicited unless the solicitation has no source, in which case it goes to all nodes.
func NDP(frame []byte, owned Owned, mac [6]byte, buf []byte) ([]byte, Verdict) {
	s, err := packet.ParseSolicitation(frame)
	switch {
	case err == packet.ErrHopLimit: //nolint:errorlint // never wrapped
		return buf, Routed
	case err != nil:
		return buf, Malformed
	case s.EtherSrc == mac:
		return buf, Echo
	}
	if _, ok := owned[s.Target]; !ok {
		return buf, NotOwned
	}
	na := packet.Advertisement{EtherDst: s.EtherSrc, MAC: mac, Dst: s.Src, Target: s.Target, Solicited: true, Override: true}
	if s.HasSourceMAC {
		na.EtherDst = s.SourceMAC
	}
	if s.Src.IsUnspecified() {
		na.EtherDst, na.Dst, na.Solicited = packet.MulticastMAC(packet.AllNodes), packet.AllNodes, false
	}
	return packet.AppendAdvertisement(buf, &na), Answer
}
