package packet

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Port is the UDP destination port of control packets (RFC 5881 section 4).
const Port = 3784

// Len is the length of a control packet without authentication.
const Len = 24

// MaxInterval is the longest interval that a packet can carry.
const MaxInterval = math.MaxUint32 * time.Microsecond

const (
	version    = 1
	minAuthLen = 26
	diagMask   = 0x1f

	flagPoll        = 1 << 5
	flagFinal       = 1 << 4
	flagIndependent = 1 << 3
	flagAuth        = 1 << 2
	flagDemand      = 1 << 1
	flagMultipoint  = 1 << 0
)

// State of a session (RFC 5880 section 4.1).
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String returns the RFC's name of the state.
func (s State) String() string { return [...]string{"AdminDown", "Down", "Init", "Up"}[s&3] }

// Diag says why a session last changed its state.
type Diag uint8

// The diagnostics that this implementation gives; a peer may give others.
const (
	NoDiag        Diag = 0
	Expired       Diag = 1
	NeighborDown  Diag = 3
	AdminDownDiag Diag = 7
)

// String returns the diagnostic in words.
func (d Diag) String() string {
	words := [...]string{
		"no diagnostic", "control detection time expired", "echo function failed", "neighbor signaled session down",
		"forwarding plane reset", "path down", "concatenated path down", "administratively down",
		"reverse concatenated path down", "mis-connectivity defect",
	}
	if int(d) < len(words) {
		return words[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// Control is a control packet without authentication.
type Control struct {
	Diag  Diag
	State State
	// Poll asks for a packet with Final set.
	Poll, Final bool
	// Independent of the control plane (the C bit): the sender's BFD goes on when its control plane does not.
	Independent bool
	// Demand is set by a sender that wants no periodic packets.
	Demand     bool
	Multiplier uint8

	MyDiscriminator, YourDiscriminator uint32
	// The intervals are whole microseconds from 0 to MaxInterval.
	DesiredMinTx, RequiredMinRx, RequiredMinEchoRx time.Duration
}

// Parse reads the payload of a UDP datagram. The packet is valid only if the verdict is Accepted. Bytes behind the packet's
// own length are ignored.
func Parse(b []byte) (Control, Verdict) {
	if len(b) < 4 {
		return Control{}, Truncated
	}
	length, auth := int(b[3]), b[1]&flagAuth != 0
	switch {
	case b[0]>>5 != version:
		return Control{}, BadVersion
	case length < Len, auth && length < minAuthLen:
		return Control{}, BadLength
	case length > len(b):
		return Control{}, Truncated
	}
	c := Control{
		Diag:        Diag(b[0] & diagMask),
		State:       State(b[1] >> 6),
		Poll:        b[1]&flagPoll != 0,
		Final:       b[1]&flagFinal != 0,
		Independent: b[1]&flagIndependent != 0,
		Demand:      b[1]&flagDemand != 0,
		Multiplier:  b[2],

		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      interval(b[12:]),
		RequiredMinRx:     interval(b[16:]),
		RequiredMinEchoRx: interval(b[20:]),
	}
	switch {
	case c.Multiplier == 0:
		return c, ZeroMultiplier
	case b[1]&flagMultipoint != 0:
		return c, Multipoint
	case c.MyDiscriminator == 0:
		return c, ZeroDiscriminator
	case c.YourDiscriminator == 0 && c.State != Down && c.State != AdminDown:
		return c, NoDiscriminator
	case auth:
		return c, Authenticated
	}
	return c, Accepted
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// Append appends the packet. What an interval has beyond whole microseconds is cut off.
func Append(b []byte, c *Control) []byte {
	flags := byte(c.State) << 6
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{c.Poll, flagPoll}, {c.Final, flagFinal}, {c.Independent, flagIndependent}, {c.Demand, flagDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(c.Diag)&diagMask, flags, c.Multiplier, Len)
	b = binary.BigEndian.AppendUint32(b, c.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, c.YourDiscriminator)
	for _, d := range [...]time.Duration{c.DesiredMinTx, c.RequiredMinRx, c.RequiredMinEchoRx} {
		b = binary.BigEndian.AppendUint32(b, uint32(d/time.Microsecond))
	}
	return b
}
