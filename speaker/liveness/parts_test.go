package liveness

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The window against a set: a number is taken once, if it is not too far behind.
func TestWindow(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w window
		seen := map[uint32]bool{}
		at, newest := uint32(r.IntN(100)), uint32(0)
		for range 3000 {
			switch r.IntN(40) {
			case 0:
				at += uint32(r.IntN(3000))
			default:
				at += uint32(r.IntN(4))
			}
			seq := uint32(max(0, int(at)-r.IntN(1200)*r.IntN(2)))
			want := seq != 0 && !seen[seq] && (seq > newest || newest-seq < windowSize)
			if got := w.accept(seq); got != want {
				t.Fatalf("seed %d: accept(%d) = %v, newest %d", seed, seq, got, newest)
			}
			if want {
				seen[seq], newest = true, max(newest, seq)
			}
		}
	}
}

// A copy of a journal, made from pieces that are lost, doubled and in any order, has at each version that it has come to
// what the original had then or later, and in the end all of it.
func TestJournalAndReplica(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		var j journal[int, int]
		var rep replica
		type known struct {
			version uint32
			value   int
		}
		copied := map[int]known{}
		var sent []Claims
		piece := func(from uint32) {
			for i := j.after(from); ; {
				c := Claims{From: from}
				for ; i < len(j.log) && len(c.Records) < 1+r.IntN(5); i++ {
					if j.current(i) {
						c.Records = append(c.Records, Claim{j.log[i].version, AddressID(j.log[i].key), Intent(j.log[i].value)})
					}
				}
				c.To = j.version
				if i < len(j.log) && len(c.Records) > 0 {
					c.To = c.Records[len(c.Records)-1].Version
				}
				sent = append(sent, c)
				from = c.To
				if i >= len(j.log) {
					return
				}
			}
		}
		deliver := func(c Claims) {
			for _, rec := range c.Records {
				if k := copied[int(rec.Address)]; rec.Version > k.version {
					copied[int(rec.Address)] = known{rec.Version, int(rec.Intent)}
				}
			}
			rep.add(span{c.From, c.To})
		}
		for range 300 {
			for range r.IntN(4) {
				j.set(r.IntN(30), r.IntN(3))
			}
			switch r.IntN(3) {
			case 0:
				piece(rep.prefix)
			case 1:
				if len(sent) > 0 {
					deliver(sent[r.IntN(len(sent))])
				}
			}
		}
		for rep.prefix < j.version {
			sent = nil
			piece(rep.prefix)
			deliver(sent[r.IntN(len(sent))])
		}
		want := map[int]int{}
		for i, e := range j.log {
			if j.current(i) && e.value != 0 {
				want[e.key] = e.value
			}
		}
		got := map[int]int{}
		for k, v := range copied {
			if v.value != 0 {
				got[k] = v.value
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d: copy %v, original %v", seed, got, want)
		}
		if len(rep.spans) > maxSpans {
			t.Fatalf("%d spans", len(rep.spans))
		}
	}
}

func ids(names ...string) []NodeID {
	var out []NodeID
	for _, n := range names {
		out = append(out, NodeOf(n))
	}
	slices.Sort(out)
	return out
}

func nodeNames(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("node%d", i))
	}
	return out
}

// Everything that nodes must agree on is written down: two versions meet while the agents are upgraded one by one.
func TestWhatNodesAgreeOn(t *testing.T) {
	if got := NodeOf("node1"); got != 0xca12f31b8cbf5f29 {
		t.Errorf("NodeOf = %#x", uint64(got))
	}
	for a, want := range map[string]AddressID{"192.0.2.1": 0x6513cf151a1f7bab, "::ffff:192.0.2.1": 0x6513cf151a1f7bab, "2001:db8::1": 0x504b8dce1c938e43} {
		if got := AddressOf(netip.MustParseAddr(a)); got != want {
			t.Errorf("AddressOf(%s) = %#x", a, uint64(got))
		}
	}
	e := electorateOf("10.0.0.0/24", ids(nodeNames(3)...))
	if e.Hash != 0x2bc7f4ceaa61a37e || e.majority() != 2 {
		t.Errorf("electorate of 3: %#x", e.Hash)
	}
	large := electorateOf("10.0.0.0/24", ids(nodeNames(100)...))
	if large.Hash != 0x4ba92fce3d24f713 || len(large.Acceptors) != 7 || large.majority() != 4 {
		t.Errorf("electorate of 100: %#x %v", large.Hash, large.Acceptors)
	}
	if outranks(1, 2, 3) || !outranks(2, 2, 3) {
		t.Error("rank")
	}
}

// Acceptors of a large segment hardly change when members do.
func TestAcceptorsStay(t *testing.T) {
	before := electorateOf("s", ids(nodeNames(100)...))
	changes := 0
	for gone := range 100 {
		names := slices.Delete(nodeNames(100), gone, gone+1)
		after := electorateOf("s", ids(names...))
		kept := 0
		for _, a := range after.Acceptors {
			if before.has(a) {
				kept++
			}
		}
		if kept < 6 {
			t.Errorf("without node%d only %d acceptors are kept", gone, kept)
		}
		if after.Hash != before.Hash {
			changes++
		}
	}
	if changes != fewAcceptors {
		t.Errorf("%d of 100 removals change the acceptors", changes)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Segment: "s", Node: "n", Incarnation: 1}
	c, err := good.complete()
	if err != nil || c.detect() != 150*time.Millisecond || c.term() != 146*time.Millisecond {
		t.Errorf("%+v %v: detect %v, term %v", c, err, c.detect(), c.term())
	}
	for name, change := range map[string]func(*Config){
		"no segment":     func(c *Config) { c.Segment = "" },
		"no node":        func(c *Config) { c.Node = "" },
		"no incarnation": func(c *Config) { c.Incarnation = 0 },
		"fast":           func(c *Config) { c.Interval = 9 * time.Millisecond },
		"slow":           func(c *Config) { c.Interval = 2 * time.Second },
		"multiplier":     func(c *Config) { c.Multiplier = 1 },
		"margin":         func(c *Config) { c.Margin = 2 * time.Millisecond },
		"quiet":          func(c *Config) { c.Quiet = 149 * time.Millisecond },
		"budget":         func(c *Config) { c.Budget = 500 },
		"gap":            func(c *Config) { c.Gap = time.Second },
		"retire":         func(c *Config) { c.RetireAfter = time.Millisecond },
	} {
		c := good
		change(&c)
		if _, err := c.complete(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A lease ends before a grant does, with one clock 1 % slow and the other 1 % fast, for every timing.
	for _, interval := range []time.Duration{MinInterval, 50 * time.Millisecond, MaxInterval} {
		for mult := 2; mult <= 10; mult++ {
			c := good
			c.Interval, c.Multiplier = interval, mult
			c, err := c.complete()
			if err != nil {
				t.Fatal(err)
			}
			if lease, grant := float64(c.term())/0.99, float64(c.detect())/1.01; lease >= grant {
				t.Errorf("%v × %d: a lease lasts %v, a grant %v", interval, mult, time.Duration(lease), time.Duration(grant))
			}
		}
	}
}

// The reply path asks without allocating, and knows nothing of addresses that are not wanted.
func TestLeases(t *testing.T) {
	w := launch(t, 1, 3, 1, Fence)
	w.run(time.Second)
	n := w.nodes[w.owners(w.vips[0])[0]]
	l := n.m.Leases()
	now := n.clock()
	if !l.MayAnswer(w.vips[0], at(now)) || l.MayAnswer(netip.MustParseAddr("192.0.2.99"), at(now)) {
		t.Error("wrong answers")
	}
	if until := l.Until(w.vips[0]); l.MayAnswer(w.vips[0], at(until)) || !l.MayAnswer(w.vips[0], at(until-1)) || until.Sub(now) > n.m.cfg.term() {
		t.Errorf("the lease lasts %v more", until.Sub(now))
	}
	clock := at(now)
	if allocs := testing.AllocsPerRun(100, func() { l.MayAnswer(w.vips[0], clock) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
	n.m.SetWanted(now, nil)
	if l.MayAnswer(w.vips[0], at(now)) {
		t.Error("answers for what was let go")
	}
	if (&Leases{}).MayAnswer(w.vips[0], at(now)) {
		t.Error("the zero value answers")
	}
}

// at is a clock that stands still.
func at(t Time) func() Time { return func() Time { return t } }
