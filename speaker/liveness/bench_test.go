package liveness

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// settled is a world in which each node has its share of the addresses and nothing happens any more. It counts what nodes
// send.
func settled(b *testing.B, nodes, addresses int) *world {
	b.Helper()
	w := newWorld(1, nodes, 0, Fence)
	shares := make([][]netip.Addr, nodes)
	a := netip.MustParseAddr("10.0.0.0")
	for i := range addresses {
		shares[i%nodes] = append(shares[i%nodes], a)
		a = a.Next()
	}
	for i, n := range w.nodes {
		n.members = w.all()
		n.fixed = []netip.Addr{}
		n.start()
		var wants []Want
		for _, a := range shares[i] {
			wants = append(wants, Want{Addr: a})
		}
		n.m.SetWanted(n.clock(), wants)
	}
	w.run(1500 * time.Millisecond)
	for i, n := range w.nodes {
		for _, a := range shares[i] {
			if !n.m.Leases().MayAnswer(a, n.clock) {
				b.Fatalf("%s does not hold %s", n.name, a)
			}
		}
	}
	return w
}

// BenchmarkReceive is what an idle heartbeat costs the one who receives it, and how many of what size there are: those that
// one node receives in a second, and how many it sends. With few acceptors that is one thing for them and another for the others.
func BenchmarkReceive(b *testing.B) {
	for _, nodes := range []int{3, 32, 256} {
		for _, addresses := range []int{0, 1000, 10000} {
			for _, acceptor := range []bool{true, false} {
				if nodes <= MaxAcceptors && !acceptor {
					continue
				}
				role := map[bool]string{true: "acceptor", false: "other"}[acceptor]
				b.Run(fmt.Sprintf("%d_members_%d_addresses/%s", nodes, addresses, role), func(b *testing.B) {
					benchmarkReceive(b, settled(b, nodes, addresses), acceptor)
				})
			}
		}
	}
}

func benchmarkReceive(b *testing.B, w *world, acceptor bool) {
	// An acceptor hears mostly nodes that are none, if there are any, and these hear acceptors.
	var to, from *node
	for _, n := range w.nodes {
		switch is := n.m.selfSlot >= 0; {
		case to == nil && is == acceptor:
			to = n
		case from == nil || is != acceptor:
			from = n
		}
	}
	received, sent, size := 0, 0, 0
	begin := w.now
	w.mutant.sent = func(h *Heartbeat) {
		switch {
		case h.From == to.m.self:
			sent++
		case acceptor || to.m.elect.current.has(h.From):
			received++
			size += heartbeatSize(h) + 28 + 16 + 14
		}
	}
	w.run(time.Duration(w.now) + time.Second)
	seconds := time.Duration(w.now - begin).Seconds()
	h := beatOf(from)
	now := to.clock()
	to.m.Receive(now, h)
	b.ReportAllocs()
	for b.Loop() {
		h.Seq++
		now += 1000
		to.m.Receive(now, h)
	}
	b.ReportMetric(float64(received)/seconds, "frames/s")
	b.ReportMetric(float64(sent)/seconds, "sent/s")
	b.ReportMetric(float64(size)/seconds, "bytes/s")
}

// beatOf returns the first frame of a node's next regular heartbeat.
func beatOf(n *node) *Heartbeat {
	n.m.nextBeat = n.clock()
	return &n.m.Tick(n.clock())[0].Heartbeat
}

// heartbeatSize estimates what liveness/wire makes of a heartbeat.
func heartbeatSize(h *Heartbeat) int {
	s := 45 + 9*len(h.Electorates) + 20*len(h.Heard.Acks) + 10*len(h.Claims.Records) + 26*len(h.Verdicts.Records)
	for _, e := range h.Electorates {
		s += 8 * len(e.Acceptors)
	}
	return s
}

// BenchmarkTick is what sending an idle heartbeat costs, all frames of it.
func BenchmarkTick(b *testing.B) {
	for _, nodes := range []int{3, 32, 256} {
		for _, acceptor := range []bool{true, false} {
			if nodes <= MaxAcceptors && !acceptor {
				continue
			}
			role := map[bool]string{true: "acceptor", false: "other"}[acceptor]
			b.Run(fmt.Sprintf("%d_members_10000_addresses/%s", nodes, role), func(b *testing.B) {
				w := settled(b, nodes, 10000)
				i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.m.selfSlot >= 0 == acceptor })
				n := w.nodes[i]
				now := n.clock()
				frames := 0
				b.ReportAllocs()
				for b.Loop() {
					now += 1000
					n.m.nextBeat = now
					frames = len(n.m.Tick(now))
				}
				b.ReportMetric(float64(frames), "frames")
			})
		}
	}
}

func BenchmarkMayAnswer_10000_Addresses(b *testing.B) {
	w := settled(b, 3, 10000)
	n := w.nodes[0]
	l, clock, a := n.m.Leases(), at(n.clock()), netip.MustParseAddr("10.0.0.3")
	if !l.MayAnswer(a, clock) {
		b.Fatal("does not hold it")
	}
	b.ReportAllocs()
	for b.Loop() {
		l.MayAnswer(a, clock)
	}
}

// BenchmarkTakeover is what it costs one node to take 10,000 addresses from another that has died, all in all.
func BenchmarkTakeover_10000_Addresses(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newWorld(1, 3, 0, Fence)
		var wants []Want
		for a := netip.MustParseAddr("10.0.0.0"); len(wants) < 10000; a = a.Next() {
			wants = append(wants, Want{Addr: a})
		}
		for _, n := range w.nodes {
			n.members, n.fixed = w.all(), []netip.Addr{}
			n.start()
		}
		w.nodes[0].m.SetWanted(w.nodes[0].clock(), wants)
		w.run(time.Second)
		w.nodes[0].crash()
		w.run(1200 * time.Millisecond)
		n := w.nodes[1]
		last := wants[len(wants)-1].Addr
		b.StartTimer()
		begin := w.now
		n.m.SetWanted(n.clock(), wants)
		n.turn()
		for !n.m.Leases().MayAnswer(last, n.clock) && w.now < begin+int64(time.Second) {
			w.run(time.Duration(w.now) + 100*time.Microsecond)
		}
		b.ReportMetric(float64(w.now-begin)/1e6, "virtual-ms")
	}
}
