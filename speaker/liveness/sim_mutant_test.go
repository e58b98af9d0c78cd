package liveness

import (
	"slices"
	"testing"
	"time"
)

// mutants are protocols with one thing wrong each. That the simulator finds them out is what its silence about the real
// one is worth.
var mutants = []mutant{
	{name: "a fresh acceptor grants at once", born: func(m *Member) { m.quietUntil = m.now }},
	{name: "acknowledgements of a quiet acceptor count", sent: func(h *Heartbeat) { h.Quiet = false }},
	{name: "a lease lasts longer than a grant", born: func(m *Member) { m.cfg.Margin = -m.cfg.detect() }},
	{name: "a lease is counted from the acknowledgement on", received: func(m *Member, h *Heartbeat) {
		if p := m.peers[h.From]; p != nil && p.acked != Never {
			p.acked = m.now
		}
	}},
	{name: "an acceptor grants to several", sent: func(h *Heartbeat) {
		for i := range h.Verdicts.Records {
			h.Verdicts.Records[i].Judgement = Granted
		}
	}},
	{name: "acknowledgements count before the verdicts are read", sent: func(h *Heartbeat) { h.VerdictsVersion = 0 }},
	{name: "a claim counts before it is judged", stepped: func(m *Member) {
		for _, o := range m.owned {
			o.unjudged = mask{}
			m.place(o)
		}
	}},
	{name: "an acceptor forgets a silent holder too early", stepped: func(m *Member) {
		for _, p := range m.order {
			p.detect = min(p.detect, 60*time.Millisecond)
		}
	}},
	{name: "an acceptor forgets the holder at once when another claims", received: func(m *Member, h *Heartbeat) {
		for _, c := range h.Claims.Records {
			if s := m.seats.at[c.Address]; s != nil && s.holder != h.From && c.Intent == Claiming && !m.quiet {
				s.wanters = slices.DeleteFunc(s.wanters, func(w wanter) bool { return w.node == s.holder && w.node != m.self })
				m.assign(c.Address, s)
			}
		}
	}},
	{name: "a minority is enough", stepped: func(m *Member) {
		e := &m.elect.current
		if n := len(e.Acceptors) / 2; n > 0 && e.has(m.self) {
			i, _ := slices.BinarySearch(e.Acceptors, m.self)
			e.Acceptors = slices.Clone(e.Acceptors[i : i+1])
		}
	}},
	{name: "the reply path does not look at the clock", noDeadline: true},
	{name: "an address is let go before it is not answered for any more", slowRelease: 30 * time.Millisecond},
}

// TestMutants: the simulator must find a violation in each, and is given more seeds until it does.
func TestMutants(t *testing.T) {
	for _, mu := range mutants {
		t.Run(mu.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= 10000; seed++ {
				if w := scenario(seed, mu, nil); len(w.violations) > 0 && !w.starved {
					t.Logf("found with seed %d: %s", seed, w.violations[0])
					return
				}
			}
			t.Error("nothing was noticed: the simulator is blind to it")
		})
	}
}
