package liveness

import (
	"slices"
	"time"
)

// peer is what is known of another node.
type peer struct {
	id NodeID
	// slot is its place among the acceptors, -1 if it is none.
	slot int

	incarnation uint64
	// heard is when the last of its heartbeats came.
	heard Time
	// detect is for how long it must be silent to count as gone, as it says itself.
	detect time.Duration
	// silent is true from the detection time after the last heartbeat, which was silentSince, until the next.
	silent      bool
	silentSince Time
	bye         bool
	window      window
	// newest is the sequence number that the fields below are of.
	newest          uint32
	quiet, draining bool
	// electorate is its current one, since when it has been, as far as is known here, and all those it goes by.
	electorate      uint64
	electorateSince Time
	goesBy          []uint64

	// pending is another incarnation that has yet to prove that it is not a recording, when it was heard last, and since
	// when there has been one all the time.
	pending struct {
		incarnation uint64
		seq         uint32
		at, since   Time
	}

	// claimed is which of its claims have arrived; intents are those claims and order lists their addresses.
	claimed replica
	intents map[AddressID]intent
	order   []AddressID
	// judged is which of its verdicts have arrived; judgements are those on my claims.
	judged     replica
	judgements map[AddressID]judgement
	// hearsMe: it hears this node. hears are the nodes that it hears and is heard by, sorted.
	hearsMe bool
	hears   []NodeID

	// acked is when the newest of my heartbeats was sent that it acknowledged in a way that counts, and ackedClaims the
	// version of my claims up to which it had judged then.
	acked       Time
	ackedClaims uint32
	deferred    deferred
	// hasClaims and hasVerdicts are what it has of mine, whether that counts or not; resendAt is when it is sent again, and
	// resendGap how long it has been waited for.
	hasClaims, hasVerdicts uint32
	resendAt               Time
	resendGap              time.Duration
}

type intent struct {
	version uint32
	intent  Intent
}

type judgement struct {
	version uint32
	Judgement
	other NodeID
}

// isPending says whether another incarnation was heard that has yet to prove itself.
func (p *peer) isPending(now Time, wait time.Duration) bool {
	return p.pending.incarnation != 0 && now.Sub(p.pending.at) < wait
}

// alive says whether the node is heard, in an incarnation that has proved itself.
func (p *peer) alive() bool { return p.incarnation != 0 && !p.silent }

// hearsNode says whether it and another node hear each other.
func (p *peer) hearsNode(id NodeID) bool {
	_, ok := slices.BinarySearch(p.hears, id)
	return ok
}

// begin starts a new incarnation. What was known of the one before is of no use.
func (p *peer) begin(incarnation uint64) {
	*p = peer{
		id: p.id, slot: p.slot, incarnation: incarnation, silent: true, silentSince: p.silentSince, acked: Never,
		electorate: p.electorate, electorateSince: p.electorateSince,
		intents: map[AddressID]intent{}, judgements: map[AddressID]judgement{},
	}
}

// updateHears takes over whom the peer hears and is heard by; it returns whether that is a change.
func (p *peer) updateHears(h Heard) bool {
	if h.From > h.To {
		return false
	}
	lo, _ := slices.BinarySearch(p.hears, h.From)
	i := lo
	same := true
	for _, a := range h.Acks {
		if !a.Mutual {
			continue
		}
		if same = i < len(p.hears) && p.hears[i] == a.Node; !same {
			break
		}
		i++
	}
	if same && (i == len(p.hears) || p.hears[i] > h.To) {
		return false
	}
	hi := lo
	for hi < len(p.hears) && p.hears[hi] <= h.To {
		hi++
	}
	ids := make([]NodeID, 0, len(h.Acks))
	for _, a := range h.Acks {
		if a.Mutual {
			ids = append(ids, a.Node)
		}
	}
	p.hears = slices.Replace(p.hears, lo, hi, ids...)
	return true
}
