package liveness

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

const (
	// MaxAcceptors is the largest number of members that are all acceptors.
	MaxAcceptors = 32
	// fewAcceptors is the number of acceptors of a segment with more members.
	fewAcceptors = 7
	// maxOthers is how many electorates besides the current one are kept, so that all acceptors fit into a mask.
	maxOthers = maskBits/MaxAcceptors - 1
	// maxRetired is how many retired electorates are remembered.
	maxRetired = 16
)

// Electorate is a set of acceptors, named by a hash of their ids.
type Electorate struct {
	Hash uint64
	// Acceptors are sorted; nil if the electorate is only named.
	Acceptors []NodeID
}

// electorateOf returns the acceptors of a segment with the given members: all up to MaxAcceptors, else few of them, chosen
// by rendezvous hash among the configured and not among the live members, so that everybody chooses the same.
func electorateOf(segment string, members []NodeID) Electorate {
	ids := slices.Clone(members)
	if len(ids) > MaxAcceptors {
		key := AddressID(NodeOf(segment))
		slices.SortFunc(ids, func(a, b NodeID) int {
			if outranks(key, a, b) {
				return -1
			}
			return 1
		})
		ids = ids[:fewAcceptors]
	}
	slices.Sort(ids)
	return Electorate{Hash: hashOf(ids), Acceptors: ids}
}

// hashOf names a sorted set of acceptors; 0 is the empty set.
func hashOf(ids []NodeID) uint64 {
	if len(ids) == 0 {
		return 0
	}
	h := sha256.New()
	var buf [8]byte
	for _, id := range ids {
		binary.BigEndian.PutUint64(buf[:], uint64(id))
		h.Write(buf[:])
	}
	return max(binary.BigEndian.Uint64(h.Sum(nil)), 1)
}

func (e Electorate) majority() int { return len(e.Acceptors)/2 + 1 }

func (e Electorate) has(id NodeID) bool {
	_, ok := slices.BinarySearch(e.Acceptors, id)
	return ok
}

// valid says whether an electorate from the wire is what its hash says.
func (e Electorate) valid() bool {
	return len(e.Acceptors) > 0 && len(e.Acceptors) <= MaxAcceptors && slices.IsSorted(e.Acceptors) && e.Hash == hashOf(e.Acceptors)
}

// other is an electorate that somebody may still go by: this node's own before the current one, or one that was heard of.
type other struct {
	Electorate
	learned Time
}

// electorates are those in which a majority is needed, each: the current one, and the others until each is retired.
//
// An other electorate is retired when a majority of its acceptors are heard and have been at the current one for a detection time:
// what they granted before has then expired, and nobody can gather a majority of it any more without hearing of the current one. It
// stays so as long as that holds, or nobody speaks of it.
type electorates struct {
	current Electorate
	// members are sorted.
	members []NodeID
	// since is when the current electorate became it.
	since   Time
	others  []other
	retired []other
}

// adopt makes an electorate the current one. It returns false, and changes nothing, if too many others are unretired.
func (e *electorates) adopt(now Time, next Electorate, members []NodeID) bool {
	if next.Hash == e.current.Hash {
		e.members = members
		return true
	}
	kept := slices.DeleteFunc(slices.Clone(e.others), func(o other) bool { return o.Hash == next.Hash })
	if e.current.Hash != 0 {
		if len(kept) >= maxOthers {
			return false
		}
		kept = append(kept, other{e.current, now})
	}
	e.revive(next.Hash)
	e.current, e.members, e.since, e.others = next, members, now, kept
	return true
}

// known says whether a majority in the electorate is either needed or not needed any more: one who goes by it may be
// counted.
func (e *electorates) known(hash uint64) bool {
	return hash == e.current.Hash || e.other(hash) || e.retiredAt(hash) >= 0
}

func (e *electorates) other(hash uint64) bool {
	return slices.ContainsFunc(e.others, func(o other) bool { return o.Hash == hash })
}

// learn takes over an electorate that another node goes by.
func (e *electorates) learn(now Time, heard Electorate) bool {
	if e.current.Hash == 0 || len(e.others) >= maxOthers || e.known(heard.Hash) || !heard.valid() {
		return false
	}
	e.others = append(e.others, other{heard.clone(), now})
	return true
}

func (e Electorate) clone() Electorate {
	e.Acceptors = slices.Clone(e.Acceptors)
	return e
}

// revive takes a retired electorate back: somebody has returned to it.
func (e *electorates) revive(hash uint64) {
	e.retired = slices.DeleteFunc(e.retired, func(o other) bool { return o.Hash == hash })
}

// evidence is what is known of the other nodes at an instant. adopted says of a node since when it has been at the current
// electorate, if it is heard and is; gone since when it has been silent, for a node that is.
type evidence struct {
	now             Time
	wait, afterGone time.Duration
	adopted, gone   func(NodeID) (Time, bool)
}

// superseded says whether nobody can use another electorate any more without hearing of the current one.
func (e *electorates) superseded(o other, ev evidence) bool {
	moved := 0
	for _, a := range o.Acceptors {
		if since, ok := ev.adopted(a); ok {
			if ev.now.Sub(since) >= ev.wait {
				moved++
			}
			continue
		}
		if _, member := slices.BinarySearch(e.members, a); member {
			continue
		}
		// Whoever deleted the Node says that the machine is off.
		if since, silent := ev.gone(a); silent && ev.now.Sub(max(since, o.learned)) >= ev.afterGone {
			moved++
		}
	}
	return moved >= o.majority()
}

// retire drops the others that nobody can use any more, and says whether there were any.
func (e *electorates) retire(ev evidence) bool {
	before := len(e.others)
	e.others = slices.DeleteFunc(e.others, func(o other) bool {
		if !e.superseded(o, ev) {
			return false
		}
		e.retired = append(e.retired, o)
		return true
	})
	if len(e.retired) > maxRetired {
		e.retired = slices.Clone(e.retired[len(e.retired)-maxRetired:])
	}
	return len(e.others) != before
}

// retiredAt returns the index of a retired electorate, -1 if it is none.
func (e *electorates) retiredAt(hash uint64) int {
	return slices.IndexFunc(e.retired, func(o other) bool { return o.Hash == hash })
}

// reopen takes back that an electorate is retired, if what spoke for it does not any more: who went by the current one may have left
// it since it was heard last. To be called when somebody names the electorate.
func (e *electorates) reopen(i int, ev evidence) {
	if !e.superseded(e.retired[i], ev) {
		e.retired = slices.Delete(e.retired, i, i+1)
	}
}

// maskBits bounds the number of acceptors of all electorates together.
const maskBits = 128

// mask is a set of acceptors, by their slots.
type mask [maskBits / 64]uint64

func (m *mask) set(slot int)     { m[slot/64] |= 1 << (slot % 64) }
func (m *mask) clear(slot int)   { m[slot/64] &^= 1 << (slot % 64) }
func (m mask) has(slot int) bool { return m[slot/64]&(1<<(slot%64)) != 0 }
func (m mask) or(o mask) mask    { return mask{m[0] | o[0], m[1] | o[1]} }
