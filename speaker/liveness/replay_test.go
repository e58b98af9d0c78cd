package liveness

import (
	"slices"
	"testing"
	"time"
)

// pair is two Members that talk until they hear each other.
func pair(t *testing.T) (a, b *Member, now Time, fromB []Outgoing) {
	t.Helper()
	now = Time(time.Hour)
	names := []string{"a", "b"}
	a, b = fresh(t, now, "a", 11, names), fresh(t, now, "b", 22, names)
	for range 40 {
		now = now.Add(20 * time.Millisecond)
		fromB = append(fromB, exchange(now, a, b)...)
	}
	if !a.hears(b.self) || !b.hears(a.self) || !a.base.held {
		t.Fatal("they do not hear each other")
	}
	return a, b, now, fromB
}

func fresh(t *testing.T, now Time, name string, incarnation uint64, names []string) *Member {
	t.Helper()
	m, err := New(now, Config{Segment: "s", Node: name, Incarnation: incarnation})
	if err != nil {
		t.Fatal(err)
	}
	m.SetMembers(now, names)
	return m
}

// exchange has both speak, and returns what b said.
func exchange(now Time, a, b *Member) []Outgoing {
	for _, o := range a.Tick(now) {
		b.Receive(now, &o.Heartbeat)
	}
	out := b.Tick(now)
	for _, o := range out {
		a.Receive(now, &o.Heartbeat)
	}
	return out
}

// A recording of the living incarnation changes nothing: neither is its sender alive longer for it.
func TestReplayOfTheLiving(t *testing.T) {
	a, _, now, fromB := pair(t)
	last := a.peers[NodeOf("b")].heard
	for range 20 {
		now = now.Add(10 * time.Millisecond)
		a.Tick(now)
		for _, o := range fromB {
			if d := a.Receive(now, &o.Heartbeat); d != Replayed {
				t.Fatalf("taken: %v", d)
			}
		}
	}
	if p := a.peers[NodeOf("b")]; p.heard != last || !p.silent {
		t.Error("a recording kept the dead alive")
	}
	if a.base.held {
		t.Error("a recording kept a majority up")
	}
}

// A recording of an earlier incarnation does not displace the living one, nor is it taken for a node that has come back, when
// that is dead: it acknowledges nothing that was sent lately.
func TestReplayOfTheDead(t *testing.T) {
	a, _, now, old := pair(t)
	// b crashes and comes back as another incarnation.
	b := fresh(t, now, "b", 33, []string{"a", "b"})
	for range 30 {
		now = now.Add(20 * time.Millisecond)
		exchange(now, a, b)
	}
	if p := a.peers[NodeOf("b")]; p.incarnation != 33 || p.silent {
		t.Fatalf("the new incarnation is not taken: %+v", p.incarnation)
	}
	for _, o := range old {
		if d := a.Receive(now, &o.Heartbeat); d != Displaced {
			t.Fatalf("an old incarnation beside the living: %v", d)
		}
	}
	// Now the new one dies, too.
	for i := range 50 {
		now = now.Add(20 * time.Millisecond)
		a.Tick(now)
		for _, o := range old {
			if d := a.Receive(now, &o.Heartbeat); d != Unproven && (d != Displaced || i >= 10) {
				t.Fatalf("an old incarnation instead of the dead: %v", d)
			}
		}
	}
	if a.hears(b.self) || a.base.held {
		t.Error("a recording is taken for a node")
	}
	// And the living can still come back, while the recording goes on.
	b = fresh(t, now, "b", 44, []string{"a", "b"})
	for range 60 {
		now = now.Add(20 * time.Millisecond)
		for _, o := range old[:3] {
			a.Receive(now, &o.Heartbeat)
		}
		exchange(now, a, b)
	}
	if p := a.peers[NodeOf("b")]; p.incarnation != 44 || p.silent {
		t.Error("a recording keeps the living out")
	}
}

// Old acknowledgements, held back and delivered late, renew nothing.
func TestLateAcknowledgement(t *testing.T) {
	a, b, now, _ := pair(t)
	var late []Outgoing
	for _, o := range a.Tick(now.Add(50 * time.Millisecond)) {
		b.Receive(now.Add(50*time.Millisecond), &o.Heartbeat)
	}
	late = append(late, b.Tick(now.Add(100*time.Millisecond))...)
	now = now.Add(time.Second)
	a.Tick(now)
	if a.base.held {
		t.Fatal("still held")
	}
	for _, o := range late {
		a.Receive(now, &o.Heartbeat)
	}
	if a.base.held {
		t.Error("an acknowledgement of long ago renewed the lease")
	}
}

func TestWhatIsDropped(t *testing.T) {
	a, _, now, fromB := pair(t)
	a.View()
	h := fromB[len(fromB)-1].Heartbeat
	for name, tt := range map[string]struct {
		change func(*Heartbeat)
		want   Drop
	}{
		"echo":           {func(h *Heartbeat) { h.From, h.Incarnation = a.self, 11 }, Echo},
		"twin":           {func(h *Heartbeat) { h.From, h.Incarnation = a.self, 12 }, Twin},
		"no sender":      {func(h *Heartbeat) { h.From = 0 }, Invalid},
		"no incarnation": {func(h *Heartbeat) { h.Incarnation = 0 }, Invalid},
		"no number":      {func(h *Heartbeat) { h.Seq = 0 }, Invalid},
		"no timing":      {func(h *Heartbeat) { h.Detect = 0 }, Invalid},
		"absurd timing":  {func(h *Heartbeat) { h.Detect = time.Hour }, Invalid},
		"electorates":    {func(h *Heartbeat) { h.Electorates = make([]Electorate, 9) }, Invalid},
		"again":          {func(*Heartbeat) {}, Replayed},
		"next":           {func(h *Heartbeat) { h.Seq++ }, Used},
	} {
		c := h
		tt.change(&c)
		if got := a.Receive(now, &c); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	if v := a.View(); len(v.Problems) != 1 || v.Problems[0] != (SameName{}) {
		t.Errorf("problems %v", v.Problems)
	}
	now = now.Add(time.Minute)
	if next := a.Next(); next > now {
		t.Errorf("a minute later nothing is due for another %v", next.Sub(now))
	}
	a.Tick(now)
	if v := a.View(); slices.Contains(v.Problems, Problem(SameName{})) {
		t.Errorf("a minute later: problems %v", v.Problems)
	}
}

// However many strangers speak, what is remembered is bounded, and members are not pushed out.
func TestCrowd(t *testing.T) {
	a, b, now, _ := pair(t)
	for i := range 5000 {
		a.Receive(now, &Heartbeat{From: NodeID(i + 1000), Incarnation: 1, Seq: 1, Detect: time.Second})
	}
	if len(a.order) > maxPeers || len(a.peers) != len(a.order) || a.peers[b.self] == nil {
		t.Errorf("%d peers", len(a.order))
	}
}
