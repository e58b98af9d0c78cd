package segment

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// stranger is a station on the LAN that hears everything, and says again what it has heard.
type stranger struct {
	*lan
	conn *packet.Conn
}

func (l *lan) stranger() *stranger {
	l.t.Helper()
	netlab.Link(l.host, "tap", l.sw, "tap")
	l.sw.Run("ip link set tap master br0")
	ifi, err := net.InterfaceByName("tap")
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, etherType, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &stranger{l, conn}
}

// record returns as many frames of a node.
func (s *stranger) record(node string, count int) (frames [][]byte) {
	s.t.Helper()
	mac, err := net.ParseMAC(s.host.MAC(node))
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	for b := make([]byte, maxFrame); len(frames) < count; {
		n, _, err := s.conn.ReadFrom(b)
		if err != nil {
			s.t.Fatalf("%d frames: %v", len(frames), err)
		}
		if bytes.Equal(b[6:12], mac) {
			frames = append(frames, bytes.Clone(b[:n]))
		}
	}
	return frames
}

// replay sends the frames, while nobody may become a second owner, and checks what each of the given nodes counts them as.
func (s *stranger) replay(what string, frames [][]byte, want map[int]liveness.Drop) {
	s.t.Helper()
	before := make([]Stats, len(s.segments))
	for i := range s.segments {
		before[i] = s.segments[i].Stats()
	}
	for _, f := range frames {
		if _, err := s.conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]}); err != nil {
			s.t.Fatal(err)
		}
		s.owners()
		time.Sleep(5 * time.Millisecond)
	}
	for i, reason := range want {
		netlab.Eventually(s.t, what+": all arrive", func() bool {
			return s.segments[i].Stats().Dropped[reason]-before[i].Dropped[reason] >= uint64(len(frames))
		})
		now := s.segments[i].Stats()
		for d := liveness.Used + 1; int(d) < liveness.Drops; d++ {
			all := uint64(0)
			if d == reason {
				all = uint64(len(frames))
			}
			if n := now.Dropped[d] - before[i].Dropped[d]; n != all {
				s.t.Errorf("%s: node%d counts %d as %s, want %d", what, i, n, d, all)
			}
		}
		if now.Opened[wire.Forged] > 0 || now.Opened[wire.Malformed] > 0 {
			s.t.Errorf("%s: node%d has opened %v", what, i, now.Opened)
		}
	}
}

// seen is what nodes conclude from heartbeats.
type seen struct {
	alive    []string
	majority bool
	heals    uint64
	holder   string
	problems []liveness.Problem
}

func (s *stranger) views(nodes ...int) (out []seen) {
	for _, i := range nodes {
		v, holders := s.segments[i].Holders()
		out = append(out, seen{v.Alive(), v.Majority, v.Heals, holders[liveness.AddressOf(vip)], v.Problems})
	}
	return out
}

func (s *stranger) unchanged(what string, before []seen, nodes ...int) {
	s.t.Helper()
	for i, now := range s.views(nodes...) {
		was := before[i]
		if !slices.Equal(now.alive, was.alive) || now.majority != was.majority || now.heals != was.heals || now.holder != was.holder || !slices.Equal(now.problems, was.problems) {
			s.t.Errorf("%s: node%d saw %+v, and then %+v", what, nodes[i], was, now)
		}
	}
}

// What was recorded on the LAN and is sent again is counted, and changes nothing: not while its sender lives, not when it is cut
// off, not beside its next life, nor after that.
func TestReplay(t *testing.T) {
	// Slow, so that nobody is given up because the test is busy.
	l := newLAN(t, 3, func(c *Config) { c.Member.Interval = 400 * time.Millisecond })
	for i := range 3 {
		l.start(i)
	}
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	l.segments[1].Set(want(vip))
	netlab.Eventually(t, "node1 waits for the address", func() bool {
		a, _ := l.segments[0].View().Address(vip)
		return a.Contender == "node1"
	})
	s := l.stranger() // who comes earlier also hears what the others do not take yet
	recorded := s.record("eth0", 20)

	before := s.views(0, 1, 2)
	s.replay("of the living", recorded, map[int]liveness.Drop{0: liveness.Echo, 1: liveness.Replayed, 2: liveness.Replayed})
	s.unchanged("of the living", before, 0, 1, 2)
	l.ownedBy(0)

	others := func(alive ...string) {
		t.Helper()
		for _, i := range []int{1, 2} {
			netlab.Eventually(t, "the others know who is alive", func() bool {
				v, holders := l.segments[i].Holders()
				return slices.Equal(v.Alive(), alive) && holders[liveness.AddressOf(vip)] == "node1"
			})
		}
	}
	l.sw.Run("ip link set eth0 down")
	l.ownedBy(1)
	others("node1", "node2")
	before = s.views(1, 2)
	s.replay("of one that is cut off", recorded, map[int]liveness.Drop{1: liveness.Replayed, 2: liveness.Replayed})
	s.unchanged("of one that is cut off", before, 1, 2)
	l.ownedBy(1)

	// Its next life.
	l.stop(0)
	l.sw.Run("ip link set eth0 up")
	l.start(0)
	others("node0", "node1", "node2")
	before = s.views(1, 2)
	s.replay("beside the next life", recorded, map[int]liveness.Drop{0: liveness.Twin, 1: liveness.Displaced, 2: liveness.Displaced})
	s.unchanged("beside the next life", before, 1, 2)
	if p := l.segments[0].View().Problems; !slices.Contains(p, liveness.Problem(liveness.SameName{})) {
		t.Errorf("node0 is not told that somebody speaks in its name: %v", p)
	}
	l.ownedBy(1)

	l.sw.Run("ip link set eth0 down")
	others("node1", "node2")
	before = s.views(1, 2)
	s.replay("after the next life", recorded, map[int]liveness.Drop{1: liveness.Unproven, 2: liveness.Unproven})
	s.unchanged("after the next life", before, 1, 2)
	l.ownedBy(1)
}
