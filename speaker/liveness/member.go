package liveness

import (
	"fmt"
	"slices"
	"time"
)

// forever is after every instant.
const forever Time = 1 << 62

// maxPeers bounds how many nodes are remembered.
const maxPeers = 1024

// sentBits is the size of the memory of when heartbeats were sent: more than a node can send in a detection time.
const sentSize = 1 << 13

// Member is this node's part in one segment: an acceptor of other nodes' claims, if it is chosen to be one, and a claimant.
//
// Time is given with each call and must not run backwards. Between two calls no more than an interval should pass: a
// Member that was not called takes it that it could not hear either. It is for one goroutine.
type Member struct {
	cfg  Config
	self NodeID
	rand uint64

	// now is the time of the last call, listening since when there has been no gap between calls.
	now, listening Time

	// names are those of all nodes that ever were members, wanted is what SetMembers said last.
	names  map[NodeID]string
	wanted []NodeID
	elect  electorates
	// slots number the acceptors of all electorates; voters are the peers in these slots, nil for one that was never heard
	// and for this node itself, which is in selfSlot, -1 if it is no acceptor.
	slots    map[NodeID]int
	voters   []*peer
	selfSlot int

	peers map[NodeID]*peer
	// order are the peers sorted by id.
	order []*peer

	// As an acceptor. quiet: nothing is granted, before quietUntil and while this node is no acceptor.
	quiet      bool
	quietUntil Time
	seats      seats
	verdicts   journal[verdictKey, verdictValue]

	// As a claimant. owned are sorted by address; base is the group of addresses of which no acceptor is missing; lost is since
	// when it has had no majority, Never while it has.
	claims         journal[AddressID, Intent]
	own            map[AddressID]*own
	owned          []*own
	groups         []*group
	base           *group
	lost           Time
	cutOff, served bool
	recheck        bool
	recheckAt      Time
	// locked is until when this node has the segment's lock.
	locked Time
	leases *Leases

	// What is sent. sent are the times at which the heartbeats with the last numbers were sent.
	seq                      uint32
	sent                     [sentSize]Time
	lastBeat, nextBeat       Time
	urgent, draining, bye    bool
	sentClaims, sentVerdicts uint32

	// changed: the View is not up to date any more. heals counts returns of nodes that were silent.
	changed bool
	// reseated: holders neither.
	reseated bool
	heals    uint64
	// twin is when another process last spoke in this node's name, Never if that is longer ago than twinTold.
	twin    Time
	sameID  bool
	view    *View
	holders map[AddressID]string
}

// New returns a Member that has no members and wants nothing.
func New(now Time, cfg Config) (*Member, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, fmt.Errorf("liveness on segment %q: %w", cfg.Segment, err)
	}
	m := &Member{
		cfg: cfg, self: NodeOf(cfg.Node), rand: cfg.Incarnation, now: now, listening: now,
		names: map[NodeID]string{}, slots: map[NodeID]int{}, selfSlot: -1, peers: map[NodeID]*peer{},
		quiet: true, quietUntil: now.Add(cfg.Quiet), seats: seats{at: map[AddressID]*seat{}},
		own: map[AddressID]*own{}, lost: now, recheckAt: forever, leases: &Leases{},
		lastBeat: Never, nextBeat: now, changed: true, twin: Never,
		locked: Never,
	}
	m.base = m.groupOf(mask{}, false)
	m.view = m.build()
	return m, nil
}

// Leases is what the reply path asks.
func (m *Member) Leases() *Leases { return m.leases }

// IsAcceptor says whether heartbeats that are for acceptors only are for this node.
func (m *Member) IsAcceptor() bool { return m.selfSlot >= 0 }

// random is splitmix64: the state machine must replay from its inputs.
func (m *Member) random() uint64 {
	m.rand += 0x9e3779b97f4a7c15
	return mix(m.rand)
}

// step takes the time, and notices when there was none to listen.
func (m *Member) step(now Time) {
	if now.Sub(m.now) > max(m.cfg.detect()/2, m.cfg.Interval*5/4) {
		m.listening = now
		m.nextBeat = min(m.nextBeat, now)
	}
	m.now = max(m.now, now)
}

// SetMembers says which nodes are configured for the segment, this node among them or not. The acceptors follow from it.
func (m *Member) SetMembers(now Time, names []string) {
	m.step(now)
	ids := make([]NodeID, 0, len(names))
	for _, n := range names {
		id := NodeOf(n)
		if other, ok := m.names[id]; ok && other != n {
			m.sameID = true
		}
		m.names[id] = n
		ids = append(ids, id)
	}
	m.changed, m.reseated = true, true // names may be known now
	slices.Sort(ids)
	m.wanted = slices.Compact(ids)
	m.adopt(now)
	m.settle(now)
}

func (m *Member) isMember() bool {
	_, ok := slices.BinarySearch(m.elect.members, m.self)
	return ok
}

// ago returns how long ago an instant was.
func (m *Member) ago(t Time) time.Duration { return m.now.Sub(t) }

// adopt goes by the members that are wanted, at once or when older ones are retired.
func (m *Member) adopt(now Time) {
	next := electorateOf(m.cfg.Segment, m.wanted)
	if next.Hash == 0 && m.elect.current.Hash == 0 || slices.Equal(m.wanted, m.elect.members) {
		return
	}
	before := m.elect.current.Hash
	if !m.elect.adopt(now, next, m.wanted) {
		return
	}
	m.changed, m.recheck = true, true
	if m.elect.current.Hash != before {
		m.electoratesChanged(now)
	}
}

// electoratesChanged numbers the acceptors anew, and whatever hangs on the numbers.
func (m *Member) electoratesChanged(now Time) {
	clear(m.slots)
	m.reseated = true
	m.voters, m.selfSlot = m.voters[:0], -1
	for _, p := range m.order {
		p.slot = -1
	}
	add := func(e Electorate) {
		for _, a := range e.Acceptors {
			if _, ok := m.slots[a]; ok {
				continue
			}
			slot := len(m.voters)
			m.slots[a] = slot
			p := m.peers[a]
			m.voters = append(m.voters, p)
			if p != nil {
				p.slot = slot
			}
			if a == m.self {
				m.selfSlot = slot
			}
		}
	}
	add(m.elect.current)
	for _, o := range m.elect.others {
		add(o.Electorate)
	}
	if m.selfSlot < 0 {
		// What others claim may not reach this node any more: its memory ends here.
		m.setQuiet(true)
		m.quietUntil = forever
	} else if m.quietUntil == forever {
		m.quietUntil = now.Add(max(m.cfg.Quiet, m.longest()))
	}
	for _, o := range m.owned {
		m.review(o)
		m.place(o)
	}
	m.changed, m.recheck, m.urgent = true, true, true
}

func (m *Member) setQuiet(quiet bool) {
	if m.quiet == quiet {
		return
	}
	m.quiet = quiet
	m.assignAll()
	m.changed, m.recheck, m.urgent = true, true, true
}

// SetDraining says whether the others are to take over what this node has.
func (m *Member) SetDraining(now Time, draining bool) {
	m.step(now)
	if m.draining != draining {
		m.draining, m.changed, m.urgent = draining, true, true
	}
}

// Leave lets go of everything; the next heartbeat says that this node ends. Nothing may be asked of it after that.
func (m *Member) Leave(now Time) {
	m.SetWanted(now, nil)
	m.bye, m.urgent = true, true
}

// Next returns when Tick is to be called if nothing else happens before. What has been received by then must have been given to
// ReceiveAt.
func (m *Member) Next() Time {
	next := min(m.nextBeat, m.recheckAt)
	if m.urgent {
		next = min(next, m.lastBeat.Add(m.cfg.Gap))
	}
	if m.quiet && m.selfSlot >= 0 {
		next = min(next, m.quietUntil)
	}
	for _, g := range m.groups {
		if !g.held {
			continue
		}
		// Before a lease ends it is worth a look whether what prolongs it has arrived.
		if look := g.until.Add(-m.cfg.Interval / 4); look > m.now {
			next = min(next, look)
		} else {
			next = min(next, g.until)
		}
	}
	if m.twin != Never {
		next = min(next, m.twin.Add(twinTold))
	}
	for _, p := range m.order {
		if !p.silent {
			next = min(next, max(p.heard, m.listening).Add(p.detect))
		}
	}
	return next
}

// Outgoing is a heartbeat to send.
type Outgoing struct {
	Heartbeat
	To Audience
	// Prompt: it says something new, so who receives it should look at it at once. Of one that is not, only the time of its
	// arrival matters: it can wait until its receiver has something to do anyway, see ReceiveAt.
	Prompt bool
}

// Tick does what is due, and returns the heartbeats to send now. They count as sent at this instant, so it must have been
// read before.
func (m *Member) Tick(now Time) []Outgoing {
	m.step(now)
	for _, p := range m.order {
		if !p.silent && (p.bye || m.now.Sub(max(p.heard, m.listening)) >= p.detect) {
			m.lose(p)
		}
	}
	if m.quiet && m.selfSlot >= 0 && now >= m.quietUntil {
		m.setQuiet(false)
	}
	if m.twin != Never && m.ago(m.twin) >= twinTold {
		m.twin, m.changed = Never, true
	}
	m.retire(now)
	regular := now >= m.nextBeat
	due := regular || m.urgent && now.Sub(m.lastBeat) >= m.cfg.Gap
	if due {
		m.lastBeat = now
	}
	m.settle(now)
	if !due {
		return nil
	}
	return m.beat(now, regular)
}

func (m *Member) lose(p *peer) {
	p.silent, p.silentSince = true, m.now
	m.fallSilent(p)
	if p.slot >= 0 {
		for _, o := range m.owned {
			m.noteRival(o)
		}
	}
	m.changed, m.recheck, m.urgent = true, true, true
}

// retire drops electorates that nobody goes by any more, and adopts what has waited for that.
func (m *Member) retire(now Time) {
	if len(m.elect.others) == 0 {
		return
	}
	if m.elect.retire(m.evidence(now)) {
		m.electoratesChanged(now)
	}
	m.adopt(now)
}

// evidence is what this node knows of what the others go by.
func (m *Member) evidence(now Time) evidence {
	return evidence{
		now: now, wait: m.longest(), afterGone: m.cfg.RetireAfter,
		adopted: func(id NodeID) (Time, bool) {
			if id == m.self {
				return m.elect.since, true
			}
			p := m.peers[id]
			// One that was not heard for so long may go by something else, and have others think that this one knows.
			if p == nil || m.ago(p.heard) >= p.detect || p.electorate != m.elect.current.Hash {
				return 0, false
			}
			return max(p.electorateSince, m.elect.since), true
		},
		gone: func(id NodeID) (Time, bool) {
			p := m.peers[id]
			if p == nil {
				return m.listening, id != m.self
			}
			return max(p.heard, m.listening), p.silent
		},
	}
}
