package liveness

import "time"

// LockedUntil says until when this node alone has a lock that all members of the segment go by, such as a Lease object. The
// instant must be the end of the lock by this node's clock, less the error of the clocks. It is as good as a vote, and
// counts where the number of acceptors is even.
func (m *Member) LockedUntil(now, until Time) {
	m.step(now)
	m.locked = until
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
	if half == 0 || 2*half != len(e.Acceptors) {
		half = maskBits
	}
	if n >= half && m.locked > m.now {
		until = max(until, min(m.locked, votes[half-1].Add(m.cfg.term())))
	}
	return until
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

// longest is the longest detection time of any node that is known.
func (m *Member) longest() time.Duration {
	d := m.cfg.detect()
	for _, p := range m.order {
		d = max(d, p.detect)
	}
	return d
}
