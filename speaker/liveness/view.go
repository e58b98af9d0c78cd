package liveness

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// View is what a Member knows at one instant. It is not changed any more.
type View struct {
	At Time
	// Nodes are the members of the segment, sorted by name, this node among them if it is one.
	Nodes []NodeView
	// Majority: this node hears, and is heard by, what it takes to hold an address.
	Majority bool
	// Tie: exactly half of the acceptors are heard, this node among them, so that the lock decides.
	Tie bool
	// Addresses are those that this node wants, sorted.
	Addresses []AddressView
	// Heals counts how often a node was heard again that had been silent: what was announced meanwhile may not have reached
	// everybody.
	Heals    uint64
	Problems []Problem
}

// NodeView is one member.
type NodeView struct {
	Name string
	// Heard: this node hears it.
	Heard bool
	// Alive: it and a majority of the acceptors hear each other. It is the same for all nodes that hear a majority, so owners
	// are chosen among those. Where no majority is heard it is the same as Heard.
	Alive bool
	// Quiet: it grants nothing yet.
	Quiet bool
	// Draining: it gives up what it has to whoever asks.
	Draining bool
}

// State of an address that this node wants.
type State uint8

// The states.
const (
	// Idle: it waits until the address, or a majority, can be had.
	Idle State = iota
	// Asking: it claims the address and has no majority for it.
	Asking
	// Holding: it may answer.
	Holding
)

// String returns the state as a word.
func (s State) String() string { return [...]string{"idle", "asking", "holding"}[s] }

// AddressView is an address that this node wants.
type AddressView struct {
	Addr  netip.Addr
	State State
	// Holder is the node that has the address, if it is another and known.
	Holder string
	// Contender is a node that waits for this one to let the address go.
	Contender string
	// Generation grows each time that this node begins to hold the address, and each time a node is heard again while it
	// does: then the address is to be announced anew.
	Generation uint64
}

// Alive returns the names of the nodes that are alive, sorted.
func (v *View) Alive() []string {
	var out []string
	for _, n := range v.Nodes {
		if n.Alive {
			out = append(out, n.Name)
		}
	}
	return out
}

// Address returns what is known of an address that this node wants.
func (v *View) Address(a netip.Addr) (AddressView, bool) {
	i, ok := slices.BinarySearchFunc(v.Addresses, a.Unmap(), func(av AddressView, a netip.Addr) int { return av.Addr.Compare(a) })
	if !ok {
		return AddressView{}, false
	}
	return v.Addresses[i], true
}

// Problem is something that an operator should know, in words for a log or a condition.
type Problem interface{ String() string }

// The problems.
type (
	// NoMembers means that the segment has none, as far as this node was told.
	NoMembers struct{}
	// NotMember means that this node is not one of the segment's.
	NotMember struct{}
	// NoMajority means that too few acceptors are heard, or hear this node.
	NoMajority struct{ Heard, Acceptors int }
	// Starting means that this node has just started, and grants nothing yet.
	Starting struct{}
	// Changing means that nodes differ about who the members are, so majorities of several sets are needed.
	Changing struct{ Electorates int }
	// Deferred means that a change of the members waits until earlier ones have reached the other nodes.
	Deferred struct{}
	// OtherTiming means that a node has another detection time.
	OtherTiming struct {
		Node   string
		Detect time.Duration
	}
	// SameName means that another process spoke in this node's name, within the last minute.
	SameName struct{}
	// SameID means that two members' names have one id.
	SameID struct{}
)

// twinTold is for how long SameName is told.
const twinTold = time.Minute

func (NoMembers) String() string { return "the segment has no members" }
func (NotMember) String() string { return "this node is not a member of the segment" }
func (p NoMajority) String() string {
	return fmt.Sprintf("no majority: %d of %d acceptors are heard", p.Heard, p.Acceptors)
}
func (Starting) String() string { return "just started: grants nothing yet" }
func (p Changing) String() string {
	return fmt.Sprintf("nodes differ about the members: majorities of %d sets are needed", p.Electorates)
}
func (Deferred) String() string {
	return "a change of the members waits until earlier ones have reached all nodes"
}
func (p OtherTiming) String() string {
	return fmt.Sprintf("node %s has a detection time of %v", p.Node, p.Detect)
}
func (SameName) String() string { return "another process speaks in this node's name" }
func (SameID) String() string   { return "two members' names have the same id" }

// Changed says whether View would return something new; as long as it would not, Holders does not either.
func (m *Member) Changed() bool { return m.changed }

// View returns what is known. It is made anew only when something has changed.
func (m *Member) View() *View {
	if m.changed {
		m.changed = false
		m.view = m.build()
	}
	return m.view
}

func (m *Member) build() *View {
	v := &View{At: m.now, Majority: m.base.held, Heals: m.heals, Addresses: make([]AddressView, 0, len(m.owned))}
	e := m.elect.current
	heard := 0
	for _, a := range e.Acceptors {
		if a == m.self || m.hears(a) {
			heard++
		}
	}
	v.Tie = len(e.Acceptors) > 0 && 2*heard == len(e.Acceptors) && m.selfSlot >= 0
	majority := len(e.Acceptors) > 0 && heard >= e.majority()
	for _, id := range m.elect.members {
		n := NodeView{Name: m.names[id], Heard: id == m.self || m.hears(id)}
		if p := m.peers[id]; p != nil {
			n.Quiet, n.Draining = p.quiet && p.alive(), p.draining
		} else if id == m.self {
			n.Quiet, n.Draining = m.quiet, m.draining
		}
		n.Alive = n.Heard
		if majority {
			n.Alive = m.hearers(e, id) >= e.majority()
		}
		v.Nodes = append(v.Nodes, n)
	}
	slices.SortFunc(v.Nodes, func(a, b NodeView) int { return cmp.Compare(a.Name, b.Name) })
	for _, o := range m.owned {
		v.Addresses = append(v.Addresses, m.addressView(o))
	}
	v.Problems = m.problems(heard)
	return v
}

// Holders returns the nodes to which this node, as an acceptor, has granted an address, by address: all acceptors that hear
// each other come to the same. It is empty where this node is none, or is quiet; it is not changed any more.
//
// It is no part of the View: there may be ten thousand, which are wanted for a plan, while a View is made again and again as
// addresses are taken over.
func (m *Member) Holders() map[AddressID]string {
	if !m.reseated {
		return m.holders
	}
	m.reseated = false
	m.holders = make(map[AddressID]string, len(m.seats.at))
	for id, s := range m.seats.at {
		if s.holder != 0 && m.selfSlot >= 0 {
			m.holders[id] = m.names[s.holder]
		}
	}
	return m.holders
}

func (m *Member) hears(id NodeID) bool {
	p := m.peers[id]
	return p != nil && p.alive()
}

// hearers counts the acceptors that hear a node and are heard by it, as far as this node hears of it.
func (m *Member) hearers(e Electorate, id NodeID) int {
	n := 0
	for _, a := range e.Acceptors {
		p := m.peers[a]
		switch {
		case a == m.self:
			if id == m.self || m.hears(id) && m.peers[id].hearsMe {
				n++
			}
		case p == nil || !p.alive():
		case a == id || p.hearsNode(id):
			n++
		}
	}
	return n
}

func (m *Member) addressView(o *own) AddressView {
	a := AddressView{Addr: o.Addr, Generation: o.takes + m.heals}
	switch {
	case o.held:
		a.State = Holding
		a.Contender = m.names[o.contender]
	case o.intent == Claiming:
		a.State = Asking
	}
	if a.State != Holding {
		a.Holder = m.names[m.holder(o)]
	}
	return a
}

// holder returns who has an address that this node wants and has not; 0 if that is unknown.
func (m *Member) holder(o *own) NodeID {
	if s := m.seats.at[o.id]; s != nil && s.holder != 0 && s.holder != m.self {
		return s.holder
	}
	for slot, p := range m.voters {
		if p != nil && p.alive() && o.refused.has(slot) {
			return p.judgements[o.id].other
		}
	}
	return 0
}

func (m *Member) problems(heard int) []Problem {
	var out []Problem
	add := func(when bool, p Problem) {
		if when {
			out = append(out, p)
		}
	}
	add(m.elect.current.Hash == 0, NoMembers{})
	add(m.elect.current.Hash != 0 && !m.isMember(), NotMember{})
	add(m.elect.current.Hash != 0 && !m.base.held, NoMajority{heard, len(m.elect.current.Acceptors)})
	add(m.quiet && m.selfSlot >= 0, Starting{})
	add(len(m.elect.others) > 0, Changing{1 + len(m.elect.others)})
	add(!slices.Equal(m.wanted, m.elect.members), Deferred{})
	add(m.twin != Never, SameName{})
	add(m.sameID, SameID{})
	for _, p := range m.order {
		add(p.alive() && p.detect != m.cfg.detect(), OtherTiming{m.names[p.id], p.detect})
	}
	return out
}
