package liveness

import "slices"

// Drop says why a heartbeat was not used.
type Drop uint8

// The reasons.
const (
	Used Drop = iota
	// Echo: it is this node's own.
	Echo
	// Twin: another process speaks in this node's name, or did once.
	Twin
	// Replayed: its number was seen, or is too old.
	Replayed
	// Displaced: another incarnation of the sender is alive.
	Displaced
	// Unproven: its sender has not acknowledged anything that was sent lately, so it may be a recording.
	Unproven
	// Invalid: it says what cannot be.
	Invalid
	// Crowded: too many nodes are known.
	Crowded

	// Drops is the number of reasons.
	Drops = int(Crowded) + 1
)

// String returns the reason as the value of a metric's label.
func (d Drop) String() string {
	return [Drops]string{"used", "echo", "twin", "replayed", "displaced", "unproven", "invalid", "crowded"}[d]
}

// Receive takes a heartbeat that has just arrived, authenticated. It keeps nothing of it. Tick is to be called afterwards if
// Next says so.
func (m *Member) Receive(now Time, h *Heartbeat) Drop { return m.ReceiveAt(now, now, h) }

// ReceiveAt is Receive for a heartbeat that arrived a while ago. To be wrong about when is safe as long as it is not too early.
func (m *Member) ReceiveAt(now, arrived Time, h *Heartbeat) Drop {
	m.step(now)
	switch {
	case h.From == m.self && h.Incarnation == m.cfg.Incarnation:
		return Echo
	case h.From == m.self:
		m.changed = m.changed || m.twin == Never
		m.twin = now
		return Twin
	case h.From == 0 || h.Incarnation == 0 || h.Seq == 0 || h.Detect <= 0 || h.Detect > MaxDetect || len(h.Electorates) > maxOthers+1:
		return Invalid
	}
	p := m.peer(h.From)
	if p == nil {
		return Crowded
	}
	if h.Incarnation != p.incarnation {
		if d := m.introduce(now, p, h); d != Used {
			return d
		}
	}
	if p.bye || !p.window.accept(h.Seq) {
		return Replayed
	}
	m.hear(now, arrived, p, h)
	m.settle(now)
	return Used
}

// peer returns the peer with the id; nil if there are too many.
func (m *Member) peer(id NodeID) *peer {
	if p := m.peers[id]; p != nil {
		return p
	}
	if len(m.order) >= maxPeers && !m.forget() {
		return nil
	}
	p := &peer{id: id, slot: -1, silent: true, silentSince: Never, heard: Never, acked: Never}
	if slot, ok := m.slots[id]; ok {
		p.slot = slot
		m.voters[slot] = p
	}
	m.peers[id] = p
	i, _ := slices.BinarySearchFunc(m.order, id, func(p *peer, id NodeID) int {
		if p.id < id {
			return -1
		}
		return 1
	})
	m.order = slices.Insert(m.order, i, p)
	return p
}

// forget drops a node that is silent and neither member nor acceptor.
func (m *Member) forget() bool {
	i := slices.IndexFunc(m.order, func(p *peer) bool {
		_, member := slices.BinarySearch(m.elect.members, p.id)
		return p.silent && p.slot < 0 && !member
	})
	if i < 0 {
		return false
	}
	delete(m.peers, m.order[i].id)
	m.order = slices.Delete(m.order, i, i+1)
	return true
}

// introduce begins another incarnation of a node, once the one before is silent and the new one has acknowledged a heartbeat
// that was sent just now: a recording cannot. Until then the node is told that it was heard, so that it can be proved to.
func (m *Member) introduce(now Time, p *peer, h *Heartbeat) Drop {
	if p.alive() {
		return Displaced
	}
	for _, a := range h.Heard.Acks {
		if a.Node != m.self || a.Incarnation != uint32(m.cfg.Incarnation) {
			continue
		}
		if sent := m.sentAt(a.Seq); sent != Never && now.Sub(sent) < m.cfg.detect() {
			p.begin(h.Incarnation)
			m.judgeAnew(p)
			return Used
		}
	}
	if !p.isPending(now, m.cfg.detect()) {
		p.pending.since = now
		m.urgent = true
	}
	p.pending.incarnation, p.pending.seq, p.pending.at = h.Incarnation, h.Seq, now
	return Unproven
}

// judgeAnew forgets what a peer granted before it began anew: as an acceptor it knows of no claim until it has heard it again.
func (m *Member) judgeAnew(p *peer) {
	if p.slot < 0 {
		return
	}
	for _, o := range m.owned {
		m.review(o)
		m.place(o)
	}
	m.recheck = true
}

// sentAt returns when the heartbeat with the number was sent, Never if that is too long ago to know.
func (m *Member) sentAt(seq uint32) Time {
	if seq == 0 || seq > m.seq || m.seq-seq >= sentSize {
		return Never
	}
	return m.sent[seq%sentSize]
}

func (m *Member) hear(now, arrived Time, p *peer, h *Heartbeat) {
	p.heard = max(p.heard, arrived)
	if p.silent {
		if p.newest != 0 {
			m.heals++
		}
		p.silent = false
		m.changed, m.urgent, m.recheck = true, true, true
		m.speakUp(p)
	}
	if h.Detect != p.detect {
		p.detect = h.Detect
		m.changed = true
	}
	known := m.hearElectorates(now, p, h)
	newer := h.Seq > p.newest
	if newer {
		p.newest = h.Seq
		if p.quiet != h.Quiet || p.draining != h.Draining {
			p.quiet, p.draining = h.Quiet, h.Draining
			m.changed = true
		}
		if p.updateHears(h.Heard) {
			m.changed = true
		}
	}
	if h.Bye {
		p.bye = true
	}
	m.applyClaims(p, &h.Claims)
	m.applyVerdicts(p, &h.Verdicts)
	for i := range h.Heard.Acks {
		if a := &h.Heard.Acks[i]; a.Node == m.self && a.Incarnation == uint32(m.cfg.Incarnation) && !a.Pending {
			m.setHearsMe(p, newer, true)
			m.acknowledged(p, h, a, known)
			return
		}
	}
	if newer && h.Heard.From <= m.self && m.self <= h.Heard.To {
		m.setHearsMe(p, true, false)
	}
}

func (m *Member) setHearsMe(p *peer, newer, hears bool) {
	if newer && p.hearsMe != hears {
		p.hearsMe = hears
		p.resendAt, p.resendGap = Never, 0 // what it lacks it can be told now
		m.changed, m.urgent = true, true
	}
}

// hearElectorates learns what the peer goes by; it returns whether all of it is reckoned with.
func (m *Member) hearElectorates(now Time, p *peer, h *Heartbeat) bool {
	if h.Seq > p.newest && len(h.Electorates) > 0 {
		if was, is := p.electorate, h.Electorates[0].Hash; was != is {
			if was == m.elect.current.Hash {
				// It was here and has gone elsewhere, perhaps back: what was retired for its coming is not any more.
				m.elect.revive(is)
			}
			p.electorate, p.electorateSince = is, now
			m.changed = true
		}
		p.goesBy = p.goesBy[:0]
		for _, e := range h.Electorates {
			p.goesBy = append(p.goesBy, e.Hash)
		}
	}
	learned, known := false, true
	for _, e := range h.Electorates {
		if e.Hash == 0 || e.Hash == m.elect.current.Hash {
			continue
		}
		if i := m.elect.retiredAt(e.Hash); i >= 0 {
			m.elect.reopen(i, m.evidence(now))
		}
		if m.elect.known(e.Hash) {
			continue
		}
		if m.elect.learn(now, e) {
			learned = true
		} else {
			known = false
		}
	}
	if learned {
		m.electoratesChanged(now)
	}
	return known
}

// applyVerdicts takes over a peer's changes of its verdicts on the claims of this node.
func (m *Member) applyVerdicts(p *peer, v *Verdicts) {
	for i := range v.Records {
		r := &v.Records[i]
		if r.Claimant != m.self || r.Version <= v.From || r.Version > v.To || r.Judgement > Contended {
			continue
		}
		if p.judgements[r.Address].version >= r.Version || len(p.judgements) >= maxAddresses {
			continue
		}
		j := judgement{r.Version, r.Judgement, r.Other}
		p.judgements[r.Address] = j
		if o := m.own[r.Address]; o != nil && p.slot >= 0 {
			m.noteJudgement(o, p.slot, j)
		}
	}
	p.judged.add(span{v.From, v.To})
	if d := p.deferred; d.verdicts > 0 && d.verdicts <= p.judged.prefix {
		p.deferred = deferred{}
		m.count(p, d.sent, d.claims)
	}
}

// acknowledged takes a peer's acknowledgement of a heartbeat of this node. It counts if the peer may grant at all, if all
// verdicts that it is subject to are here, and if all electorates that the peer goes by are reckoned with.
func (m *Member) acknowledged(p *peer, h *Heartbeat, a *Ack, known bool) {
	if a.Claims > p.hasClaims || a.Verdicts > p.hasVerdicts {
		p.hasClaims, p.hasVerdicts = max(p.hasClaims, a.Claims), max(p.hasVerdicts, a.Verdicts)
		p.resendAt, p.resendGap = Never, 0
	}
	sent := m.sentAt(a.Seq)
	if h.Quiet || !known || sent == Never {
		return
	}
	if p.judged.prefix < h.VerdictsVersion {
		// The first that waits for verdicts is kept: it is complete first.
		if p.deferred.verdicts <= p.judged.prefix {
			p.deferred = deferred{sent, a.Claims, h.VerdictsVersion}
		}
		return
	}
	m.count(p, sent, a.Claims)
}

// deferred is an acknowledgement that will count when the peer's verdicts are here up to a version.
type deferred struct {
	sent             Time
	claims, verdicts uint32
}

// count takes it that the peer has heard a heartbeat that was sent then, and has judged the claims up to a version.
func (m *Member) count(p *peer, sent Time, claims uint32) {
	p.acked = max(p.acked, sent)
	if claims <= p.ackedClaims {
		return
	}
	from := p.ackedClaims
	p.ackedClaims = claims
	if p.slot < 0 {
		return
	}
	for i := m.claims.after(from); i < len(m.claims.log) && m.claims.log[i].version <= claims; i++ {
		if !m.claims.current(i) {
			continue
		}
		if o := m.own[m.claims.log[i].key]; o != nil && o.unjudged.has(p.slot) {
			o.unjudged.clear(p.slot)
			m.place(o)
		}
	}
}
