package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// errMalformed is for a heartbeat that was sealed with the key and cannot be read all the same: its sender is of another
// version, or broken.
var errMalformed = errors.New("malformed heartbeat")

const (
	flagQuiet = 1 << iota
	flagBye
	flagDraining
)

const (
	flagPending = 1 << iota
	flagMutual
)

// appendHeartbeat appends the encoding of all but the header's fields. Detection times are in microseconds.
func appendHeartbeat(b []byte, h *liveness.Heartbeat) []byte {
	b = append(b, flag(h.Quiet, flagQuiet)|flag(h.Bye, flagBye)|flag(h.Draining, flagDraining))
	b = binary.BigEndian.AppendUint32(b, uint32(min(h.Detect/time.Microsecond, math.MaxUint32)))
	b = binary.AppendUvarint(b, uint64(h.VerdictsVersion))
	b = append(b, byte(len(h.Electorates)))
	for _, e := range h.Electorates {
		b = binary.BigEndian.AppendUint64(b, e.Hash)
		b = append(b, byte(len(e.Acceptors)))
		for _, a := range e.Acceptors {
			b = binary.BigEndian.AppendUint64(b, uint64(a))
		}
	}
	b = appendHeard(b, &h.Heard)
	b = appendPiece(b, h.Claims.From, h.Claims.To, len(h.Claims.Records))
	version := h.Claims.From
	for i := range h.Claims.Records {
		r := &h.Claims.Records[i]
		b = binary.BigEndian.AppendUint64(b, uint64(r.Address))
		b = binary.AppendUvarint(b, uint64(r.Version-version))
		b = append(b, byte(r.Intent))
		version = r.Version
	}
	b = appendPiece(b, h.Verdicts.From, h.Verdicts.To, len(h.Verdicts.Records))
	version = h.Verdicts.From
	for i := range h.Verdicts.Records {
		r := &h.Verdicts.Records[i]
		b = binary.BigEndian.AppendUint64(b, uint64(r.Claimant))
		b = binary.BigEndian.AppendUint64(b, uint64(r.Address))
		b = binary.AppendUvarint(b, uint64(r.Version-version))
		b = append(b, byte(r.Judgement))
		b = binary.BigEndian.AppendUint64(b, uint64(r.Other))
		version = r.Version
	}
	return b
}

func appendHeard(b []byte, h *liveness.Heard) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(h.From))
	b = binary.BigEndian.AppendUint64(b, uint64(h.To))
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.Acks)))
	for i := range h.Acks {
		a := &h.Acks[i]
		b = binary.BigEndian.AppendUint64(b, uint64(a.Node))
		b = binary.BigEndian.AppendUint32(b, a.Incarnation)
		b = binary.BigEndian.AppendUint32(b, a.Seq)
		b = binary.AppendUvarint(b, uint64(a.Claims))
		b = binary.AppendUvarint(b, uint64(a.Verdicts))
		b = append(b, flag(a.Pending, flagPending)|flag(a.Mutual, flagMutual))
	}
	return b
}

func appendPiece(b []byte, from, to uint32, records int) []byte {
	b = binary.AppendUvarint(b, uint64(from))
	b = binary.AppendUvarint(b, uint64(to))
	return binary.BigEndian.AppendUint16(b, uint16(records))
}

func flag(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

// The fewest bytes that a record takes: a count that promises more than is left is refused before anything is allocated.
const (
	minElectorate = 8 + 1
	minAck        = 8 + 4 + 4 + 1 + 1 + 1
	minClaim      = 8 + 1 + 1
	minVerdict    = 8 + 8 + 1 + 1 + 8
)

// decodeHeartbeat reads what appendHeartbeat wrote, into slices that h has already as far as they suffice. All of b must be
// used. Lists are in order and versions ascend, or it is malformed.
func decodeHeartbeat(b []byte, h *liveness.Heartbeat) error {
	r := reader{b: b}
	flags := r.byte()
	h.Quiet, h.Bye, h.Draining = flags&flagQuiet != 0, flags&flagBye != 0, flags&flagDraining != 0
	h.Detect = time.Duration(r.uint32()) * time.Microsecond
	h.VerdictsVersion = r.uvarint()
	h.Electorates = h.Electorates[:0]
	for range r.count(int(r.byte()), minElectorate) {
		e := liveness.Electorate{Hash: r.uint64()}
		if n := r.count(int(r.byte()), 8); n > 0 {
			r.check(n <= liveness.MaxAcceptors)
			e.Acceptors = make([]liveness.NodeID, 0, n)
			for range n {
				e.Acceptors = append(e.Acceptors, liveness.NodeID(r.uint64()))
			}
		}
		h.Electorates = append(h.Electorates, e)
	}
	r.heard(&h.Heard)
	r.claims(&h.Claims)
	r.verdicts(&h.Verdicts)
	if r.bad || len(r.b) > 0 {
		return errMalformed
	}
	return nil
}

// reader takes values off the front. After the first that is not there, bad is set and all others are 0.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) check(ok bool) { r.bad = r.bad || !ok }

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, 8)[:n]
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > math.MaxUint32 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// count returns n if as many records of the size fit into what is left, and 0 otherwise.
func (r *reader) count(n, size int) int {
	if r.check(n*size <= len(r.b)); r.bad {
		return 0
	}
	return n
}

func (r *reader) heard(h *liveness.Heard) {
	h.From, h.To = liveness.NodeID(r.uint64()), liveness.NodeID(r.uint64())
	n := r.count(int(r.uint16()), minAck)
	h.Acks = slices.Grow(h.Acks[:0], n)
	last := liveness.NodeID(0)
	for range n {
		a := liveness.Ack{Node: liveness.NodeID(r.uint64()), Incarnation: r.uint32(), Seq: r.uint32(), Claims: r.uvarint(), Verdicts: r.uvarint()}
		flags := r.byte()
		a.Pending, a.Mutual = flags&flagPending != 0, flags&flagMutual != 0
		r.check(a.Node > last && h.From <= a.Node && a.Node <= h.To)
		last = a.Node
		h.Acks = append(h.Acks, a)
	}
}

// piece reads what pieces of claims and of verdicts have in common.
func (r *reader) piece(size int) (from, to uint32, records int) {
	from, to = r.uvarint(), r.uvarint()
	r.check(from <= to)
	return from, to, r.count(int(r.uint16()), size)
}

// version reads a version as the difference from the one before, which must not be 0.
func (r *reader) version(last, limit uint32) uint32 {
	d := r.uvarint()
	r.check(d > 0 && d <= limit-last)
	return last + d
}

func (r *reader) claims(c *liveness.Claims) {
	var n int
	c.From, c.To, n = r.piece(minClaim)
	c.Records = slices.Grow(c.Records[:0], n)
	last := c.From
	for range n {
		address := liveness.AddressID(r.uint64())
		last = r.version(last, c.To)
		intent := liveness.Intent(r.byte())
		r.check(intent <= liveness.Claiming)
		c.Records = append(c.Records, liveness.Claim{Version: last, Address: address, Intent: intent})
	}
}

func (r *reader) verdicts(v *liveness.Verdicts) {
	var n int
	v.From, v.To, n = r.piece(minVerdict)
	v.Records = slices.Grow(v.Records[:0], n)
	last := v.From
	for range n {
		claimant, address := liveness.NodeID(r.uint64()), liveness.AddressID(r.uint64())
		last = r.version(last, v.To)
		judgement := liveness.Judgement(r.byte())
		r.check(judgement <= liveness.Contended)
		v.Records = append(v.Records, liveness.Verdict{
			Version: last, Claimant: claimant, Address: address, Judgement: judgement, Other: liveness.NodeID(r.uint64()),
		})
	}
}
