package liveness

import (
	"slices"
	"time"
)

// maxFrames is how many heartbeats one Tick returns at most; the rest waits for the next.
const maxFrames = 128

// beat says what there is to say: whom this node hears, and changes that others have not acknowledged. In between, after
// something has happened, it repeats no changes, for their acknowledgement is probably on its way.
func (m *Member) beat(now Time, regular bool) []Outgoing {
	if regular {
		m.nextBeat = m.cfg.beatAfter(now)
	}
	prompt := m.urgent
	m.urgent = false
	claims, verdicts := m.sentClaims, m.sentVerdicts
	if claims < m.claims.version || verdicts < m.verdicts.version {
		for _, p := range m.order {
			p.resendAt, p.resendGap = Never, 0
		}
	}
	if regular {
		c, v := m.unacknowledged(now)
		claims, verdicts = min(claims, c), min(verdicts, v)
	}
	w := &frames{m: m, to: m.audience()}
	w.heard(now)
	w.claims(claims)
	w.verdicts(verdicts)
	prompt = prompt || claims < m.claims.version || verdicts < m.verdicts.version
	for i := range w.out {
		m.seq++
		w.out[i].Seq, w.out[i].Prompt = m.seq, prompt
		m.sent[m.seq%sentSize] = now
	}
	return w.out
}

// unacknowledged returns the versions of claims and verdicts from which on they must be sent, for some peer lacks them. One
// that does not move on is waited for longer each time, and longer still if it is not heard: it may hear this node all the
// same. Without a majority this node may be the deaf one, whom the others hear and wait for: then it repeats what it let go of
// as often as to those it hears.
func (m *Member) unacknowledged(now Time) (claims, verdicts uint32) {
	claims, verdicts = m.claims.version, m.verdicts.version
	for _, p := range m.order {
		lacksClaims := p.slot >= 0 && p.hasClaims < m.claims.version
		if p.incarnation == 0 || !lacksClaims && p.hasVerdicts >= m.verdicts.version {
			p.resendAt, p.resendGap = Never, 0
			continue
		}
		if now < p.resendAt {
			continue
		}
		longest := time.Second
		if p.silent && m.base.held {
			longest = 8 * time.Second
		}
		if p.resendGap = min(max(2*p.resendGap, m.cfg.Interval/2), longest); p.resendGap > m.cfg.Interval {
			p.resendAt = now.Add(p.resendGap)
		}
		if lacksClaims {
			claims = min(claims, p.hasClaims)
		}
		verdicts = min(verdicts, p.hasVerdicts)
	}
	return claims, verdicts
}

// audience is everybody, unless this node is no acceptor of any electorate: then only acceptors need to hear it.
func (m *Member) audience() Audience {
	if m.selfSlot >= 0 || len(m.elect.others) > 0 || m.elect.current.Hash == 0 {
		return ToAll
	}
	return ToAcceptors
}

// frames are the heartbeats of one beat, filled one after the other.
type frames struct {
	m    *Member
	to   Audience
	out  []Outgoing
	room int
}

// next begins another heartbeat; false if there are enough.
func (w *frames) next() bool {
	if len(w.out) >= maxFrames {
		return false
	}
	m := w.m
	h := Heartbeat{
		From: m.self, Incarnation: m.cfg.Incarnation, Detect: m.cfg.detect(), Quiet: m.quiet, Draining: m.draining, Bye: m.bye,
		VerdictsVersion: m.verdicts.version,
		Heard:           Heard{From: 1},
	}
	w.room = m.cfg.Budget - sizeFixed
	spell := len(w.out) == 0 && m.spellOut()
	h.Electorates = make([]Electorate, 0, 1+len(m.elect.others))
	add := func(e Electorate) {
		if cost := sizeElectorate + sizeNode*len(e.Acceptors); !spell || cost > w.room/2 {
			e.Acceptors = nil
		}
		w.room -= sizeElectorate + sizeNode*len(e.Acceptors)
		h.Electorates = append(h.Electorates, e)
	}
	add(m.elect.current)
	for _, o := range m.elect.others {
		add(o.Electorate)
	}
	w.out = append(w.out, Outgoing{Heartbeat: h, To: w.to})
	return true
}

func (w *frames) last() *Heartbeat { return &w.out[len(w.out)-1].Heartbeat }

// spellOut says whether somebody might not know the acceptors of the electorates that this node goes by.
func (m *Member) spellOut() bool {
	if m.ago(m.elect.since) < m.cfg.detect() {
		return true
	}
	lacks := func(p *peer, hash uint64) bool { return !slices.Contains(p.goesBy, hash) }
	return slices.ContainsFunc(m.order, func(p *peer) bool {
		return p.alive() && (lacks(p, m.elect.current.Hash) ||
			slices.ContainsFunc(m.elect.others, func(o other) bool { return lacks(p, o.Hash) }))
	})
}

// heard lists whom this node hears. Each heartbeat of the list covers a range of ids, all of them together every id.
func (w *frames) heard(now Time) {
	w.next()
	from := NodeID(1)
	w.last().Heard = Heard{From: from, To: ^NodeID(0)}
	for _, p := range w.m.order {
		ack := Ack{
			Node: p.id, Incarnation: uint32(p.incarnation), Seq: p.newest, Claims: p.claimed.prefix, Verdicts: p.judged.prefix,
			Mutual: p.hearsMe,
		}
		if !p.alive() {
			if !p.isPending(now, w.m.cfg.detect()) {
				continue
			}
			ack = Ack{Node: p.id, Incarnation: uint32(p.pending.incarnation), Seq: p.pending.seq, Pending: true}
		}
		h := w.last()
		if w.room < sizeAck {
			h.Heard.To = p.id - 1
			if !w.next() {
				return
			}
			h = w.last()
			h.Heard = Heard{From: p.id, To: ^NodeID(0)}
		}
		if h.Heard.Acks == nil {
			h.Heard.Acks = make([]Ack, 0, min(len(w.m.order), w.room/sizeAck))
		}
		h.Heard.Acks = append(h.Heard.Acks, ack)
		w.room -= sizeAck
	}
}

// claims adds this node's claims after a version.
func (w *frames) claims(after uint32) {
	j := &w.m.claims
	w.last().Claims = Claims{From: after, To: after}
	for i := j.after(after); i < len(j.log); i++ {
		if !j.current(i) {
			continue
		}
		e := &j.log[i]
		if w.room < sizeClaim {
			if !w.next() {
				w.m.sentClaims = after
				w.m.urgent = true
				return
			}
			w.last().Claims = Claims{From: after, To: after}
		}
		c := &w.last().Claims
		c.Records = append(c.Records, Claim{e.version, e.key, e.value})
		c.To, after = e.version, e.version
		w.room -= sizeClaim
	}
	w.last().Claims.To = j.version
	w.m.sentClaims = j.version
}

// verdicts adds this node's verdicts after a version.
func (w *frames) verdicts(after uint32) {
	j := &w.m.verdicts
	w.last().Verdicts = Verdicts{From: after, To: after}
	for i := j.after(after); i < len(j.log); i++ {
		if !j.current(i) {
			continue
		}
		e := &j.log[i]
		if w.room < sizeVerdict {
			if !w.next() {
				w.m.sentVerdicts = after
				w.m.urgent = true
				return
			}
			w.last().Verdicts = Verdicts{From: after, To: after}
		}
		v := &w.last().Verdicts
		v.Records = append(v.Records, Verdict{e.version, e.key.claimant, e.key.address, e.value.Judgement, e.value.other})
		v.To, after = e.version, e.version
		w.room -= sizeVerdict
	}
	w.last().Verdicts.To = j.version
	w.m.sentVerdicts = j.version
}
