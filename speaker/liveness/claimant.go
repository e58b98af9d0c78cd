package liveness

import (
	"net/netip"
	"slices"
	"time"
)

// Policy says what happens to an address where no majority is to be had.
type Policy uint8

// The policies.
const (
	// Fence: without a majority or the lock nobody answers for the address.
	Fence Policy = iota
	// Serve: whoever should have the address answers for it, unless it hears somebody else claim it.
	Serve
)

// Want is an address that this node should have.
type Want struct {
	Addr   netip.Addr
	Policy Policy
}

// own is an address that this node wants.
type own struct {
	Want
	id     AddressID
	intent Intent
	// since is the version of the claims in which the intent began: an acceptor that has not read so far has not judged it.
	since uint32
	// unjudged and refused are the acceptors that have not judged the intent, and that gave the address to another.
	unjudged, refused mask
	// rival: another node claims it, as far as is known here.
	rival bool
	// contender waits for it, as an acceptor says that granted it.
	contender NodeID
	// claimed is when the claim began, retry before when there is no other after one that failed, and failures how many did
	// in a row.
	claimed, retry Time
	failures       int

	group *group
	lease *lease
	held  bool
	// takes counts how often this node began to hold the address.
	takes uint64
}

// group are the addresses of which the same acceptors are missing: they have one deadline.
type group struct {
	missing mask
	serve   bool
	term    *term
	until   Time
	size    int
	held    bool
}

// SetWanted replaces the addresses that this node should have. One that is not wanted any more is not answered for when
// SetWanted returns, and is let go with the next heartbeat.
func (m *Member) SetWanted(now Time, wanted []Want) {
	m.step(now)
	table := make(map[netip.Addr]*lease, len(wanted))
	next := make([]*own, 0, len(wanted))
	keep := make(map[AddressID]bool, len(wanted))
	for _, w := range wanted {
		w.Addr = w.Addr.Unmap()
		id := AddressOf(w.Addr)
		if keep[id] {
			continue // twice, or of the same id as another, which is as good as never
		}
		keep[id] = true
		o := m.own[id]
		if o == nil || o.Addr != w.Addr {
			o = &own{Want: w, id: id, lease: &lease{}, retry: Never}
		}
		o.Policy = w.Policy
		table[w.Addr] = o.lease
		next = append(next, o)
	}
	slices.SortFunc(next, func(a, b *own) int { return a.Addr.Compare(b.Addr) })
	old := m.owned
	// The new table first: from here on the reply path knows nothing of what is let go.
	m.leases.table.Store(&table)
	m.owned = next
	for _, o := range old {
		if n := m.own[o.id]; n == o && (!keep[o.id] || table[o.Addr] != o.lease) {
			m.intendOwn(now, o, Nothing)
			delete(m.own, o.id)
		}
	}
	for _, o := range next {
		if m.own[o.id] == nil {
			m.own[o.id] = o
			m.intendOwn(now, o, Waiting)
		}
		m.place(o)
	}
	m.changed, m.recheck = true, true
	m.settle(now)
}

// intendOwn changes this node's intent with an address it wants.
func (m *Member) intendOwn(now Time, o *own, in Intent) {
	o.intent = in
	if in != Claiming {
		// Not answering comes before saying so.
		m.place(o)
	}
	if m.claims.set(o.id, in) {
		m.urgent = true
	}
	o.since = m.claims.version
	o.claimed = now
	if in == Nothing {
		m.intend(o.id, m.self, Nothing)
		return
	}
	m.review(o)
	m.intend(o.id, m.self, in)
	m.place(o)
	m.changed = true
}

// review computes from what the acceptors said which of them stand against an intent, or have not judged it.
func (m *Member) review(o *own) {
	o.unjudged, o.refused, o.contender = mask{}, mask{}, 0
	for slot, p := range m.voters {
		if slot == m.selfSlot {
			if s := m.seats.at[o.id]; s != nil && s.holder != 0 && s.holder != m.self {
				o.refused.set(slot)
			}
			continue
		}
		if p == nil || p.ackedClaims < o.since {
			o.unjudged.set(slot)
		}
		if p != nil {
			if j := p.judgements[o.id]; j.Judgement == Refused {
				o.refused.set(slot)
			} else if j.Judgement == Contended {
				o.contender = j.other
			}
		}
	}
	m.noteRival(o)
}

// noteJudgement takes over what the acceptor in a slot thinks of an intent of this node.
func (m *Member) noteJudgement(o *own, slot int, j judgement) {
	refused, contender := o.refused, o.contender
	o.refused.clear(slot)
	switch j.Judgement {
	case Refused:
		o.refused.set(slot)
	case Contended:
		o.contender = j.other
	case Granted:
		if contender != 0 && !m.anyContends(o) {
			o.contender = 0
		}
	}
	if o.refused != refused || o.contender != contender {
		m.changed, m.recheck = true, true
		m.noteRival(o)
		m.place(o)
	}
}

func (m *Member) anyContends(o *own) bool {
	if s := m.seats.at[o.id]; m.selfSlot >= 0 && s != nil && s.holder == m.self && s.best(o.id, Waiting, m.self) != 0 {
		return true
	}
	return slices.ContainsFunc(m.voters, func(p *peer) bool {
		return p != nil && p.alive() && p.judgements[o.id].Judgement == Contended
	})
}

// noteRival finds out whether another node claims the address, which matters where there is no majority.
func (m *Member) noteRival(o *own) {
	if o.Policy != Serve {
		return
	}
	rival := false
	if s := m.seats.at[o.id]; s != nil {
		rival = s.best(o.id, Claiming, m.self) != 0
	}
	for slot, p := range m.voters {
		rival = rival || p != nil && p.alive() && o.refused.has(slot)
	}
	if rival != o.rival {
		o.rival = rival
		m.recheck = true
		m.place(o)
	}
}

// place puts the address into the group of those with the same acceptors missing.
func (m *Member) place(o *own) {
	var g *group
	if o.intent == Claiming && m.own[o.id] == o {
		g = m.groupOf(o.unjudged.or(o.refused), o.Policy == Serve && !o.rival)
	}
	if g == o.group {
		return
	}
	if o.group != nil {
		o.group.size--
	}
	o.group = g
	if g == nil {
		o.lease.term.Store(nil)
		m.setHeld(o, false)
		return
	}
	g.size++
	o.lease.term.Store(g.term)
	m.setHeld(o, g.held)
}

// groupOf returns the group with this key, whose deadline is up to date.
func (m *Member) groupOf(missing mask, serve bool) *group {
	for _, g := range m.groups {
		if g.missing == missing && g.serve == serve {
			return g
		}
	}
	g := &group{missing: missing, serve: serve, term: &term{}, until: Never}
	g.term.until.Store(int64(Never))
	m.groups = append(m.groups, g)
	m.renewGroup(g)
	return g
}

func (m *Member) setHeld(o *own, held bool) {
	if o.held == held {
		return
	}
	o.held = held
	m.changed = true
	if held {
		o.takes++
		o.failures = 0
	} else {
		o.claimed = m.now
	}
}

// renew computes the deadline of every group, from what has been acknowledged by now.
func (m *Member) renew() {
	kept := m.groups[:0]
	for _, g := range m.groups {
		if g.size == 0 && g != m.base {
			continue
		}
		kept = append(kept, g)
	}
	clear(m.groups[len(kept):])
	m.groups = kept
	for i := 0; i < len(m.groups); i++ {
		m.renewGroup(m.groups[i])
	}
	if m.base.held {
		m.lost = Never
	} else if m.lost == Never {
		m.lost = m.now
	}
}

func (m *Member) renewGroup(g *group) {
	until := m.deadline(g.missing)
	if g.serve && m.serving() {
		until = max(until, m.lastBeat.Add(m.cfg.term()))
	}
	if until != g.until {
		g.until = until
		g.term.until.Store(int64(until))
	}
	if held := until > m.now; held != g.held {
		g.held = held
		m.recheck = true
		if g == m.base {
			m.changed = true // the View has the majority
		}
		for _, o := range m.owned {
			if o.group == g {
				m.setHeld(o, held)
			}
		}
	}
}

// serving says whether there is no majority for any address, and has not been for long enough that others may know.
func (m *Member) serving() bool {
	return m.lost != Never && m.now.Sub(m.lost) >= m.cfg.Interval && m.now.Sub(m.listening) >= m.cfg.detect() && m.isMember()
}

// settle follows up on what has changed: deadlines, claims that get nowhere, addresses that can be had.
func (m *Member) settle(now Time) {
	m.renew()
	cutOff, serving := m.lost != Never && now.Sub(m.lost) >= m.cfg.Interval, m.serving()
	if !m.recheck && now < m.recheckAt && cutOff == m.cutOff && serving == m.served {
		return
	}
	m.cutOff, m.served = cutOff, serving
	for range 3 { // claims change deadlines and the other way round; what is left waits for the next heartbeat
		m.recheck, m.recheckAt = false, forever
		possible := map[mask]bool{}
		for _, o := range m.owned {
			switch o.intent {
			case Claiming:
				m.persist(now, o)
			case Waiting:
				m.attempt(now, o, possible)
			}
		}
		m.renew()
		if !m.recheck {
			break
		}
	}
}

// persist lets go of a claim that gets nowhere, so that it is in nobody's way.
func (m *Member) persist(now Time, o *own) {
	switch {
	case !m.isMember():
		m.intendOwn(now, o, Waiting)
	case o.held:
	case m.cutOff && (o.Policy == Fence || o.rival && now.Sub(o.claimed) >= m.patience(o)):
		// Deaf, perhaps, but heard: others wait until this claim is gone.
		m.intendOwn(now, o, Waiting)
	case m.cutOff && o.rival:
		m.recheckAt = min(m.recheckAt, o.claimed.Add(m.patience(o)))
	case m.cutOff:
	case now.Sub(o.claimed) >= m.patience(o):
		o.failures++
		backoff := m.cfg.Interval << min(o.failures-1, 5)
		o.retry = now.Add(backoff/2 + time.Duration(m.random()%uint64(backoff)))
		m.recheckAt = min(m.recheckAt, o.retry)
		m.intendOwn(now, o, Waiting)
	default:
		m.recheckAt = min(m.recheckAt, o.claimed.Add(m.patience(o)))
	}
}

// patience is how long a claim without a majority is kept up: the highest ranking claimant gives the others the time to
// give up first.
func (m *Member) patience(o *own) time.Duration {
	outranked := false
	if s := m.seats.at[o.id]; s != nil {
		if best := s.best(o.id, Claiming, m.self); best != 0 {
			outranked = outranks(o.id, best, m.self)
		}
	}
	for slot, p := range m.voters {
		if p != nil && o.refused.has(slot) && outranks(o.id, p.judgements[o.id].other, m.self) {
			outranked = true
		}
	}
	if outranked {
		return m.cfg.Interval
	}
	return 4 * m.cfg.Interval
}

// attempt claims an address that is waited for, if enough acceptors have it to give.
func (m *Member) attempt(now Time, o *own, possible map[mask]bool) {
	if !m.isMember() {
		return
	}
	if now < o.retry {
		m.recheckAt = min(m.recheckAt, o.retry)
		return
	}
	ok, known := possible[o.refused]
	if !known {
		ok = m.deadline(o.refused) > now
		possible[o.refused] = ok
	}
	if ok || o.Policy == Serve && !o.rival && m.serving() {
		m.intendOwn(now, o, Claiming)
		m.recheckAt = min(m.recheckAt, now.Add(m.cfg.Interval))
	}
}
