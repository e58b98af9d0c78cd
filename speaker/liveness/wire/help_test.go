package wire

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// member returns a Member that hears a third of n others and wants 2,000 addresses.
func member(t testing.TB, n, budget int) (*liveness.Member, []string) {
	t.Helper()
	m, err := liveness.New(0, liveness.Config{Segment: "s", Node: "node0", Incarnation: 1<<40 | 77, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("node%d", i))
	}
	m.SetMembers(0, names)
	first := m.Tick(0)
	for i := 1; i < n; i += 3 {
		h := &liveness.Heartbeat{
			From: liveness.NodeOf(names[i]), Incarnation: 1<<60 | uint64(i), Seq: 1 << 30, Detect: 150 * time.Millisecond,
			Heard: liveness.Heard{From: 1, To: ^liveness.NodeID(0), Acks: []liveness.Ack{{Node: liveness.NodeOf("node0"), Incarnation: 77, Seq: first[0].Seq}}},
		}
		if d := m.Receive(1000, h); d != liveness.Used {
			t.Fatal(d)
		}
	}
	a := netip.MustParseAddr("10.1.0.0")
	var wanted []liveness.Want
	for range 2000 {
		wanted = append(wanted, liveness.Want{Addr: a})
		a = a.Next()
	}
	m.SetWanted(2000, wanted)
	return m, names
}

func heartbeat(acks int) *liveness.Heartbeat {
	h := &liveness.Heartbeat{
		From: 1, Incarnation: 1 << 60, Seq: 1000, Detect: 150 * time.Millisecond, VerdictsVersion: 10,
		Electorates: []liveness.Electorate{{Hash: 1 << 62}},
		Heard:       liveness.Heard{From: 1, To: ^liveness.NodeID(0)},
	}
	for i := range acks {
		h.Heard.Acks = append(h.Heard.Acks, liveness.Ack{Node: liveness.NodeID(i + 2), Incarnation: 1 << 30, Seq: 1000, Claims: 3333, Verdicts: 10, Mutual: true})
	}
	return h
}

func name(acks int) string { return fmt.Sprintf("%d_named", acks) }
