package liveness

import "slices"

// seat is what this node, as an acceptor, knows of one address: who wants it, and to whom it is granted.
type seat struct {
	holder NodeID
	// wanters are those that are heard, in no order.
	wanters []wanter
}

type wanter struct {
	node   NodeID
	intent Intent
}

func (s *seat) intent(node NodeID) Intent {
	for _, w := range s.wanters {
		if w.node == node {
			return w.intent
		}
	}
	return Nothing
}

// best returns the highest ranking of the wanters with at least the intent, but for one; 0 if there is none.
func (s *seat) best(v AddressID, least Intent, but NodeID) NodeID {
	var best NodeID
	for _, w := range s.wanters {
		if w.node != but && w.intent >= least && (best == 0 || outranks(v, w.node, best)) {
			best = w.node
		}
	}
	return best
}

// seats of all addresses that anybody ever wanted, in the order in which they were heard of.
type seats struct {
	at    map[AddressID]*seat
	order []AddressID
}

func (s *seats) get(v AddressID) *seat {
	at, ok := s.at[v]
	if !ok {
		at = &seat{}
		s.at[v] = at
		s.order = append(s.order, v)
	}
	return at
}

// verdictKey is one claim of one node.
type verdictKey struct {
	claimant NodeID
	address  AddressID
}

// verdictValue is the zero value for a claim that is granted, or none.
type verdictValue struct {
	Judgement
	other NodeID
}

// intend notes what a node that is heard has in mind with an address, and judges anew.
func (m *Member) intend(v AddressID, node NodeID, intent Intent) {
	s := m.seats.get(v)
	i := slices.IndexFunc(s.wanters, func(w wanter) bool { return w.node == node })
	switch {
	case i < 0 && intent == Nothing:
		return
	case i < 0:
		s.wanters = append(s.wanters, wanter{node, intent})
	case intent == Nothing:
		s.wanters = slices.Delete(s.wanters, i, i+1)
		m.judge(v, node, verdictValue{})
	default:
		s.wanters[i].intent = intent
	}
	m.assign(v, s)
}

// assign grants the address to one claimant at most, and lets all who want it know.
//
// A grant stands until its holder lets go of the address or has been silent for its detection time; both end its being a
// wanter. Between several new claimants rank decides, so that all acceptors choose the same.
func (m *Member) assign(v AddressID, s *seat) {
	before := s.holder
	if m.quiet || s.intent(s.holder) != Claiming {
		s.holder = 0
	}
	if s.holder == 0 && !m.quiet {
		s.holder = s.best(v, Claiming, 0)
	}
	if s.holder != before {
		m.changed, m.reseated = true, true
	}
	for _, w := range s.wanters {
		verdict := verdictValue{}
		switch {
		case s.holder == 0:
		case w.node != s.holder:
			verdict = verdictValue{Refused, s.holder}
		default:
			if other := s.best(v, Waiting, s.holder); other != 0 {
				verdict = verdictValue{Contended, other}
			}
		}
		m.judge(v, w.node, verdict)
	}
	if o := m.own[v]; o != nil {
		m.noteRival(o)
	}
}

// judge makes a verdict known: to this node itself at once, to others with the next heartbeat.
func (m *Member) judge(v AddressID, node NodeID, verdict verdictValue) {
	if node == m.self {
		if o := m.own[v]; o != nil && m.selfSlot >= 0 {
			m.noteJudgement(o, m.selfSlot, judgement{Judgement: verdict.Judgement, other: verdict.other})
		}
		return
	}
	if m.verdicts.set(verdictKey{node, v}, verdict) {
		m.urgent = true
	}
}

// assignAll judges every claim anew.
func (m *Member) assignAll() {
	for _, v := range m.seats.order {
		m.assign(v, m.seats.at[v])
	}
}

// fallSilent and speakUp take the claims of a peer out of and back into the seats.
func (m *Member) fallSilent(p *peer) {
	for _, v := range p.order {
		if p.intents[v].intent != Nothing {
			m.intend(v, p.id, Nothing)
		}
	}
}

func (m *Member) speakUp(p *peer) {
	for _, v := range p.order {
		if in := p.intents[v].intent; in != Nothing {
			m.intend(v, p.id, in)
		}
	}
}

// applyClaims takes over changes of a peer's claims.
func (m *Member) applyClaims(p *peer, c *Claims) {
	before := p.claimed.prefix
	for i := range c.Records {
		r := &c.Records[i]
		if r.Version <= c.From || r.Version > c.To || r.Intent > Claiming {
			continue
		}
		known, ok := p.intents[r.Address]
		if ok && known.version >= r.Version {
			continue
		}
		if !ok {
			if len(p.order) >= maxAddresses {
				return // and the version is never acknowledged
			}
			p.order = append(p.order, r.Address)
		}
		p.intents[r.Address] = intent{r.Version, r.Intent}
		m.intend(r.Address, p.id, r.Intent)
	}
	p.claimed.add(span{c.From, c.To})
	if p.claimed.prefix != before {
		m.urgent = true
	}
}

// maxAddresses bounds what one node can make another remember.
const maxAddresses = 1 << 18
