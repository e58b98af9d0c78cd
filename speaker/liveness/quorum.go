package liveness

import "time"

// GatewayAnswered says that the default gateway answered a probe that was sent at an instant: what this node sent then
// could be heard on the segment. Where half of the acceptors are missing and none of them can be heard to object, that
// stands in for one of them, for as long as a node that heard the last heartbeat before the probe would wait. To take an
// address from a node that has fallen silent, a probe must have been sent after that, so probe then, and the gateway must
// have answered all through the node's silence: otherwise it is this node that was cut off.
//
// Others may have the same answer. It tells a node that is cut off from one that is not, but not a dead node from one to
// which nothing gets through although both reach the gateway.
func (m *Member) GatewayAnswered(now, probed Time) {
	m.step(now)
	heard := m.lastBeat
	if heard > probed {
		heard = probed.Add(-m.cfg.Interval)
	}
	if m.gateway <= now {
		m.reached = probed
	}
	m.probed, m.gateway = max(m.probed, probed), max(m.gateway, heard.Add(m.cfg.term()))
	m.settle(now)
}

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
	witness, probed := m.gateway, m.probed
	if probed < m.reached.Add(m.longest()) {
		probed = Never
	}
	if m.cfg.Minority {
		half = min(half, max(n, 1))
		if m.locked > witness { // a majority would not ask for the lock
			witness, probed = m.locked, m.now
		}
	}
	if n >= half && witness > m.now && m.othersAreGone(e, missing, probed) {
		until = max(until, min(witness, votes[half-1].Add(m.cfg.term())))
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

// othersAreGone says whether no acceptor that is missing can be heard to object: each has been silent for its detection
// time when the gateway was probed, or the last that it said was yes, or that it has nothing to grant yet.
func (m *Member) othersAreGone(e Electorate, missing mask, probed Time) bool {
	for _, a := range e.Acceptors {
		slot := m.slots[a]
		if slot == m.selfSlot {
			if missing.has(slot) {
				return false
			}
			continue
		}
		if m.wasSilent(m.voters[slot], probed) {
			continue
		}
		if p := m.voters[slot]; p == nil || !p.fresh || missing.has(slot) && !p.quiet {
			return false
		}
	}
	return true
}

// wasSilent says whether a node, which may never have been heard, has been silent since an instant. One that has to prove
// itself is not silent, for as long as a living one takes for that.
func (m *Member) wasSilent(p *peer, at Time) bool {
	if at < m.listening.Add(m.cfg.detect()) {
		return false
	}
	if p == nil {
		return true
	}
	wait := max(p.detect, m.cfg.detect())
	proving := p.isPending(m.now, wait) && m.ago(p.pending.since) < 4*wait
	return p.silent && at >= p.silentSince && !proving
}

// longest is the longest detection time of any node that is known.
func (m *Member) longest() time.Duration {
	d := m.cfg.detect()
	for _, p := range m.order {
		d = max(d, p.detect)
	}
	return d
}
