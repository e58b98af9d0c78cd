package packet

// Verdict on a received packet: Accepted, or why it was discarded.
type Verdict uint8

// The verdicts, in the order in which they are looked for. Those of Parse are the checks of RFC 5880 section 6.8.6, in its
// order; the check of the A bit comes after the session is found there, but no packet is accepted by the difference.
const (
	Accepted Verdict = iota
	// Routed: the TTL or hop limit is not 255, so the packet was not sent on this link (RFC 5881 section 5).
	Routed
	// Truncated: there is less than a header, or less than the Length field says.
	Truncated
	// BadVersion: not version 1.
	BadVersion
	// BadLength: the Length field is below the least of a control packet: 24, or 26 with the A bit.
	BadLength
	// ZeroMultiplier: Detect Mult is zero.
	ZeroMultiplier
	// Multipoint: the M bit is set.
	Multipoint
	// ZeroDiscriminator: My Discriminator is zero.
	ZeroDiscriminator
	// NoDiscriminator: Your Discriminator is zero in a state other than Down and AdminDown.
	NoDiscriminator
	// Authenticated: the A bit is set, and no session uses authentication.
	Authenticated

	// UnknownSession: Your Discriminator is that of no session.
	UnknownSession
	// UnknownPeer: Your Discriminator is zero, and there is no session with the sender.
	UnknownPeer
	// WrongSource: the packet names a session and comes from another address than that session's peer.
	WrongSource
	// WrongInterface: the packet came in by another interface than the session's.
	WrongInterface
	// WrongDestination: the packet was sent to another address than the session's.
	WrongDestination

	// Verdicts is the number of verdicts.
	Verdicts = int(WrongDestination) + 1
)

// String returns the verdict as the value of a metric's label.
func (v Verdict) String() string {
	return [Verdicts]string{
		"accepted", "routed", "truncated", "version", "length", "multiplier", "multipoint", "my_discriminator",
		"your_discriminator", "authenticated", "unknown_session", "unknown_peer", "source", "interface", "destination",
	}[v]
}
