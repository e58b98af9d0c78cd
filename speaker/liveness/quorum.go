package liveness

import "time"

// Witness is what else speaks for a node's being on the segment, where the other acceptors do not.
type Witness uint8

// The witnesses.
const (
	// Gateway: the default gateway answered this node. Others may have the same answer, so it helps only where a node that
	// cannot be heard is dead or cut off from the gateway, too: it cannot tell a crash from a link that is broken between
	// exactly those nodes.
	Gateway Witness = iota
	// Lease: this node alone holds a lock until then, such as a Lease object of the segment. It is as good as a vote.
	Lease
	witnesses
)

// SetWitness says until when a witness speaks for this node. A gateway's answer speaks for no longer than the term of a
// lease; the lock's instant must be the end of the lock by this node's clock, less the error of the clocks.
func (m *Member) SetWitness(now Time, w Witness, until Time) {
	m.step(now)
	if w == Gateway {
		until = min(until, now.Add(m.cfg.term()))
	}
	if w < witnesses {
		m.witness[w] = until
	}
	m.settle(now)
}

// deadline returns until when addresses may be answered for that all acceptors but the missing ones granted to this node:
// the earliest over the electorates in which a majority is needed. It lies a term after the sending of a heartbeat that a
// majority acknowledged.
func (m *Member) deadline(missing mask) Time {
	if m.elect.current.Hash == 0 {
		return Never
	}
	until := m.deadlineIn(m.elect.current, missing)
	for _, o := range m.elect.others {
		until = min(until, m.deadlineIn(o.Electorate, missing))
	}
	return until
}

func (m *Member) deadlineIn(e Electorate, missing mask) Time {
	var votes [MaxAcceptors]Time
	n := 0
	for _, a := range e.Acceptors {
		slot := m.slots[a]
		if missing.has(slot) {
			continue
		}
		acked := m.ackedBy(slot, len(e.Acceptors))
		if acked == Never {
			continue
		}
		i := n
		for ; i > 0 && votes[i-1] < acked; i-- {
			votes[i] = votes[i-1]
		}
		votes[i] = acked
		n++
	}
	until := Never
	if k := e.majority(); n >= k {
		until = votes[k-1].Add(m.cfg.term())
	}
	half := len(e.Acceptors) / 2
	if 2*half != len(e.Acceptors) || half == 0 {
		half = maskBits
	}
	if lease := m.witness[Lease]; n >= half && lease > m.now {
		until = max(until, min(lease, votes[half-1].Add(m.cfg.term())))
	}
	if m.cfg.Minority && n > 0 && n < half {
		half = n
	}
	if n >= half && max(m.witness[Gateway], m.minorityLease()) > m.now && m.othersAreGone(e, missing) {
		until = max(until, min(max(m.witness[Gateway], m.minorityLease()), votes[half-1].Add(m.cfg.term())))
	}
	return until
}

// minorityLease is until when the lock counts like the gateway's answer, because a majority would not ask for it.
func (m *Member) minorityLease() Time {
	if m.cfg.Minority {
		return m.witness[Lease]
	}
	return Never
}

// ackedBy returns when this node sent the newest heartbeat that counts and that the acceptor in the slot acknowledged.
func (m *Member) ackedBy(slot, acceptors int) Time {
	if slot != m.selfSlot {
		if p := m.voters[slot]; p != nil {
			return p.acked
		}
		return Never
	}
	// A node acknowledges its own heartbeats, except that one that is alone listens first, also after a pause: the segment
	// may have got other members meanwhile.
	if m.quiet || acceptors == 1 && m.now.Sub(m.listening) < m.cfg.detect() {
		return Never
	}
	return m.lastBeat
}

// othersAreGone says whether no acceptor that is missing can be heard to object: each has been silent for its detection
// time, or the last that it said was yes, or that it has nothing to grant yet.
func (m *Member) othersAreGone(e Electorate, missing mask) bool {
	for _, a := range e.Acceptors {
		slot := m.slots[a]
		if slot == m.selfSlot {
			if missing.has(slot) {
				return false
			}
			continue
		}
		if m.isSilent(m.voters[slot]) {
			continue
		}
		if p := m.voters[slot]; p == nil || !p.fresh || missing.has(slot) && !p.quiet {
			return false
		}
	}
	return true
}

// isSilent says whether nothing has been heard for as long as it takes, of a node that may never have been heard.
func (m *Member) isSilent(p *peer) bool {
	if p == nil || p.incarnation == 0 {
		return m.now.Sub(m.listening) >= m.cfg.detect()
	}
	return p.silent
}

// longest is the longest detection time of any node that is known.
func (m *Member) longest() time.Duration {
	d := m.cfg.detect()
	for _, p := range m.order {
		d = max(d, p.detect)
	}
	return d
}
