package bfd

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

// many are n sessions with one router, which has n addresses, and those of the router with this host.
func many(n int) (ours, theirs []Session) {
	for i := range n {
		s := Session{Peer: netip.AddrFrom4([4]byte{10, 0, byte(1 + i>>8), byte(i)}), Local: locals[0], MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
		ours = append(ours, s)
		s.Peer, s.Local = s.Local, s.Peer
		theirs = append(theirs, s)
	}
	return ours, theirs
}

// peerProcess says, in the environment, how many sessions TestPeerProcess is to have.
const peerProcess = "SEAMARK_TEST_BFD_PEER"

// TestPeerProcess is no test: it is the router of BenchmarkSessions, in a process and a network namespace of its own.
func TestPeerProcess(t *testing.T) {
	n := 0
	if _, err := fmt.Sscan(os.Getenv(peerProcess), &n); err != nil {
		t.Skip("is run by BenchmarkSessions")
	}
	s := New()
	defer s.Close()
	_, theirs := many(n)
	set(t, s, theirs...)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// timedWire notes the time between the packets of each session.
type timedWire struct {
	kernel
	mu   sync.Mutex
	gaps []time.Duration
}

type timedSender struct {
	sender
	wire *timedWire
	last time.Time
}

func (w *timedWire) dial(s *Session, port uint16) (sender, int, error) {
	out, ifindex, err := w.kernel.dial(s, port)
	return &timedSender{sender: out, wire: w}, ifindex, err
}

func (s *timedSender) send(b []byte) error {
	now := time.Now()
	s.wire.mu.Lock()
	if !s.last.IsZero() {
		s.wire.gaps = append(s.wire.gaps, now.Sub(s.last))
	}
	s.last = now
	s.wire.mu.Unlock()
	return s.sender.send(b)
}

func (w *timedWire) take() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	gaps := w.gaps
	w.gaps = nil
	slices.Sort(gaps)
	return gaps
}

// busy has processes compete for the processors, with this process's own priority.
func busy(b *testing.B, h *netlab.Host, processes int) {
	for range processes {
		cmd := h.Command("bash -c")
		cmd.Args = append(cmd.Args, "while :; do :; done")
		startProcess(b, cmd)
	}
}

// BenchmarkSessions has sessions at 50 ms with another process for a second each round, and tells what they cost this process
// and how well they keep the interval: none should be longer than 50 ms. In every other run all processors have other work.
func BenchmarkSessions(b *testing.B) {
	for _, n := range []int{1, 100, 500} {
		for _, competing := range []int{0, 4} {
			b.Run(fmt.Sprintf("%d/busy=%d", n, competing), func(b *testing.B) { benchmarkSessions(b, n, competing) })
		}
	}
}

func benchmarkSessions(b *testing.B, n, competing int) {
	l := newLAN(b)
	l.router.Run("ip addr add 10.0.0.253/8 dev eth0")
	l.here.Run("ip route add 10.0.0.0/16 dev eth0")
	ours, theirs := many(n)
	var batch strings.Builder
	for _, s := range theirs {
		fmt.Fprintf(&batch, "addr add %s/32 dev eth0\n", s.Local)
	}
	add := l.router.Command("ip -batch -")
	add.Stdin = strings.NewReader(batch.String())
	if out, err := add.CombinedOutput(); err != nil {
		b.Fatalf("%v %s", err, out)
	}
	self, _ := os.Executable()
	peer := l.router.Command(self + " -test.run ^TestPeerProcess$")
	peer.Env = append(os.Environ(), fmt.Sprintf("%s=%d", peerProcess, n))
	until, err := peer.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	startProcess(b, peer)
	b.Cleanup(func() { _ = until.Close() })

	w := &timedWire{}
	s := newSpeaker(w)
	defer s.Close()
	set(b, s, ours...)
	netlab.Eventually(b, "all are up", func() bool {
		for _, st := range s.Status() {
			if st.State != packet.Up || st.DetectionTime != 150*ms {
				return false
			}
		}
		return true
	})
	busy(b, l.here, competing)
	w.take()
	before, began := cpu(b), time.Now()
	start := s.Stats()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took, used, end := time.Since(began), cpu(b)-before, s.Stats()
	var downs uint64
	for _, st := range s.Status() {
		downs += st.Downs
	}
	gaps := w.take()
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "%cpu")
	b.ReportMetric(float64(end.Sent-start.Sent)/took.Seconds(), "sent/s")
	b.ReportMetric(float64(end.Received-start.Received)/took.Seconds(), "received/s")
	b.ReportMetric(float64(gaps[len(gaps)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(gaps[len(gaps)-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(float64(downs), "downs")
}

func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discard is a wire that leads nowhere.
type discard struct{}

func (discard) listen(bool, func()) (listener, error)      { return discard{}, nil }
func (discard) watchdog() (watchdog, error)                { return nil, nil }
func (discard) dial(*Session, uint16) (sender, int, error) { return discard{}, 0, nil }
func (discard) drain(int, func(*datagram)) bool            { return true }
func (discard) send([]byte) error                          { return nil }
func (discard) close()                                     {}

// BenchmarkReceive is the way of a packet from the socket on: of one that belongs to one of 500 sessions, and of forged ones.
func BenchmarkReceive(b *testing.B) {
	s := newSpeaker(discard{})
	ours, _ := many(500)
	set(b, s, ours...)
	defer s.Close()
	now := time.Now()
	at := func(i int, state packet.State) *datagram {
		n := s.sessions[ours[i].identity()]
		c := packet.Control{State: state, Multiplier: 3, MyDiscriminator: 1, YourDiscriminator: n.machine.Discriminator(), DesiredMinTx: time.Minute, RequiredMinRx: time.Minute}
		return &datagram{payload: packet.Append(nil, &c), src: n.Peer, dst: n.Local, ttl: ttl}
	}
	var good []*datagram
	for i := range ours {
		s.receive(now, at(i, packet.Init))
		good = append(good, at(i, packet.Up))
	}
	routed, stranger := *good[0], *good[0]
	routed.ttl = 64
	stranger.src = netip.MustParseAddr("203.0.113.1")
	for name, packets := range map[string][]*datagram{"session": good, "routed": {&routed}, "stranger": {&stranger}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.mu.Lock()
				s.receive(now, packets[i%len(packets)])
				s.mu.Unlock()
			}
		})
	}
}
