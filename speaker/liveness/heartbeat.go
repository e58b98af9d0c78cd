package liveness

import "time"

// Heartbeat is what one node says to the others in one frame. What does not fit into one goes into several, each with a
// sequence number of its own.
type Heartbeat struct {
	From        NodeID
	Incarnation uint64
	// Seq is never 0 and never used twice in an incarnation.
	Seq uint32
	// Detect is for how long others must not take the sender for gone, and must stand by what they granted it.
	Detect time.Duration
	// Quiet: the sender grants nothing yet, its acknowledgements are not to be counted.
	Quiet bool
	// Draining: the sender gives up what it has, as soon as another asks for it.
	Draining bool
	// Bye: the sender answers for nothing any more and ends.
	Bye bool
	// Electorates are those in which the sender needs a majority, its current one first.
	Electorates []Electorate
	// VerdictsVersion is the newest of the sender's verdicts: its acknowledgement counts with all of them.
	VerdictsVersion uint32
	Heard           Heard
	Claims          Claims
	Verdicts        Verdicts
}

// Audience is who a heartbeat is for.
type Audience uint8

// The audiences.
const (
	ToAll Audience = iota
	ToAcceptors
)

// Heard says whom the sender hears among the nodes with ids from From to To; one of these that is not listed is not heard.
type Heard struct {
	From, To NodeID
	// Acks are sorted by node.
	Acks []Ack
}

// Ack says what the sender has heard of a node.
type Ack struct {
	Node NodeID
	// Incarnation is the low half of the node's incarnation.
	Incarnation uint32
	// Seq is the newest sequence number.
	Seq uint32
	// Claims and Verdicts are the versions up to which the sender has the node's claims and verdicts.
	Claims, Verdicts uint32
	// Pending: the node has yet to prove that it is not a recording. It is neither alive to the sender nor granted anything.
	Pending bool
	// Mutual: the node hears the sender, too.
	Mutual bool
}

// Intent is what a node has in mind with an address.
type Intent uint8

// The intents. Nothing is that of an address that was let go.
const (
	Nothing Intent = iota
	// Waiting: it wants the address when the holder lets it go.
	Waiting
	// Claiming: it takes the address, or has it.
	Claiming
)

// Claims are the changes of the sender's claims in versions after From up to To.
type Claims struct {
	From, To uint32
	Records  []Claim
}

// Claim is what a node has had in mind with an address since a version of its claims.
type Claim struct {
	Version uint32
	Address AddressID
	Intent  Intent
}

// Judgement is what an acceptor thinks of a node's claim. With none of these it is granted.
type Judgement uint8

// The judgements.
const (
	Granted Judgement = iota
	// Refused: another node holds the address.
	Refused
	// Contended: it is granted, and another node waits for it.
	Contended
)

// Verdicts are the changes of the sender's verdicts in versions after From up to To.
type Verdicts struct {
	From, To uint32
	Records  []Verdict
}

// Verdict is an acceptor's judgement on one claim of one node.
type Verdict struct {
	Version  uint32
	Claimant NodeID
	Address  AddressID
	Judgement
	// Other is the holder, or the one who waits.
	Other NodeID
}

// Bytes on the wire, at most; liveness/wire is tested against them.
const (
	sizeFixed      = 1 + 4 + 5 + 1 + 8 + 8 + 2 + 2*(5+5+2)
	sizeElectorate = 8 + 1
	sizeNode       = 8
	sizeAck        = 8 + 4 + 4 + 5 + 5 + 1
	sizeClaim      = 8 + 5 + 1
	sizeVerdict    = 8 + 8 + 5 + 1 + 8
)
