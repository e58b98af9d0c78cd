package l2

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdpacket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/liveness"
	live "github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/plan"
)

// pair is a link of which this process has both ends.
func pair(t testing.TB) (near, far plan.Link) {
	here := netlab.Here(t)
	here.Run("ip link add near type veth peer name far")
	t.Cleanup(func() { _, _ = here.Try("ip link del near") })
	for _, end := range []string{"near", "far"} {
		here.Sysctl("ipv6.conf."+end+".disable_ipv6", 1) // it would talk in between
		here.Run("ip link set " + end + " up")
	}
	netlab.Eventually(t, "the link is up", func() bool { return strings.Contains(here.Run("ip link show near"), "LOWER_UP") })
	return linkOf(t, "near"), linkOf(t, "far")
}

// thousands returns wanted addresses of a link, as they come when a pool of n is used up.
func thousands(n int, l plan.Link) (out []plan.L2) {
	for a := netip.MustParseAddr("10.1.0.0"); len(out) < n; a = a.Next() {
		out = append(out, plan.L2{Addr: a, Link: l})
	}
	return out
}

// 10,000 requests a second on a LAN with 10,000 VIPs: the time from a request to its answer, as the kernel of the one that asks
// stamps it: when that one gets a processor to look at it is its own affair. Beside it what the Linux kernel takes, which
// answers from its softirq: the floor on the machine. The figures are for reading, not to pass or fail: the machine may be busy.
func BenchmarkAnswer_10000_VIPs_10000_requests_a_second(b *testing.B) {
	b.Run("kernel", func(b *testing.B) {
		near, far := pair(b)
		here := netlab.Here(b)
		here.Addr("far", "10.0.0.1/24") // or the kernel would not take who asks for a neighbour
		here.Run("ip route add local 10.1.0.0/16 dev lo")
		b.Cleanup(func() { here.Run("ip route del local 10.1.0.0/16 dev lo") })
		answer(b, near, thousands(10000, far))
	})
	b.Run("seamark", func(b *testing.B) {
		near, far := pair(b)
		wanted := thousands(10000, far)
		s := New(Config{Rate: 1, Burst: 1, Gate: held(b, wanted)}) // it must not be the announcements that are measured
		b.Cleanup(s.Close)
		if err := s.Set(b.Context(), wanted, plan.Neighbours{}); err != nil {
			b.Fatal(err)
		}
		answer(b, near, wanted)
	})
}

// leases is the gate that agents have: that of a segment.
type leases struct{ *liveness.Leases }

func (l leases) MayAnswer(a netip.Addr) bool { return l.Leases.MayAnswer(a, live.Now) }

// held returns the leases of a node that is alone on its segment and has the addresses, which are renewed while the benchmark runs.
func held(b *testing.B, wanted []plan.L2) leases {
	now := live.Now()
	m, err := liveness.New(now.Add(-2*time.Second), liveness.Config{Segment: "10.0.0.0/8", Node: "n1", Incarnation: 1})
	if err != nil {
		b.Fatal(err)
	}
	var wants []liveness.Want
	for i := range wanted {
		wants = append(wants, liveness.Want{Addr: wanted[i].Addr})
	}
	m.SetMembers(now.Add(-2*time.Second), []string{"n1"})
	m.SetWanted(now.Add(-2*time.Second), wants)
	for at := now.Add(-2 * time.Second); at < now; at = at.Add(20 * time.Millisecond) {
		m.Tick(at)
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			m.Tick(live.Now())
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	}()
	b.Cleanup(func() {
		close(done)
		<-stopped
	})
	gate := leases{m.Leases()}
	netlab.Eventually(b, "the node has the last address", func() bool { return gate.MayAnswer(wanted[len(wanted)-1].Addr) })
	return gate
}

// answer asks for the addresses, in a scattered order, and reports how long the answers take.
func answer(b *testing.B, near plan.Link, wanted []plan.L2) {
	in := rawSocketOf(b, near, unix.ETH_P_ARP) // does not see what it sends
	sent := make([]time.Time, len(wanted))
	var took []time.Duration
	done := make(chan struct{})
	next := stamped(b, in)
	go func() {
		defer close(done)
		for {
			frame, came, ok := next()
			if !ok {
				return
			}
			if a, err := packet.ParseARP(frame); err == nil && a.Op == packet.Reply && a.Dst == near.MAC {
				at := int(binary.BigEndian.Uint16(frame[30:32])) // the last half of the sender's address: its number
				took = append(took, came.Sub(sent[at]))
			}
		}
	}()
	out := rawSocketOf(b, near, unix.ETH_P_ARP)
	const interval = 100 * time.Microsecond
	due := time.Now()
	for i := 0; b.Loop(); i = (i + 7919) % len(wanted) { // scattered
		frame := packet.AppendARP(nil, &packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: near.MAC, Sender: netip.MustParseAddr("10.0.0.2"), Target: wanted[i].Addr})
		for time.Now().Before(due) {
			time.Sleep(time.Until(due))
		}
		due = due.Add(interval)
		if time.Since(due) > time.Second {
			b.Fatal("the machine is too busy for 10,000 requests a second")
		}
		sent[i] = time.Now()
		send(b, out, frame)
	}
	time.Sleep(100 * time.Millisecond)
	_ = in.Close()
	<-done
	slices.Sort(took)
	if len(took) == 0 {
		b.Fatal("no answers")
	}
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
	b.ReportMetric(100*float64(len(took))/float64(b.N), "%answered")
}

// stamped returns a function that waits for the next frame of a socket, and returns with it when the kernel got it; ok is false
// when the socket is closed.
func stamped(t testing.TB, conn *mdpacket.Conn) (next func() (frame []byte, came time.Time, ok bool)) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	(&socket{conn, raw}).enlarge()
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	frame, control := make([]byte, 2048), make([]byte, 128)
	return func() ([]byte, time.Time, bool) {
		var n, used int
		e := raw.Read(func(fd uintptr) bool {
			n, used, _, _, err = unix.Recvmsg(int(fd), frame, control, 0)
			return err != unix.EAGAIN //nolint:errorlint // the kernel's own
		})
		if e != nil || err != nil {
			return nil, time.Time{}, false
		}
		messages, err := unix.ParseSocketControlMessage(control[:used])
		if err != nil || len(messages) == 0 || messages[0].Header.Type != unix.SO_TIMESTAMPNS {
			return nil, time.Time{}, false
		}
		stamp := messages[0].Data // struct timespec
		return frame[:n], time.Unix(int64(binary.NativeEndian.Uint64(stamp)), int64(binary.NativeEndian.Uint64(stamp[8:]))), true
	}
}

func rawSocketOf(t testing.TB, l plan.Link, ethertype int) *mdpacket.Conn {
	t.Helper()
	conn, err := mdpacket.Listen(&net.Interface{Index: l.Index}, mdpacket.Raw, ethertype, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// How long it takes until a thousand addresses that were taken are on the wire, with a gateway: from Set to the last frame.
func BenchmarkTake_1000_VIPs(b *testing.B) {
	near, far := pair(b)
	gateway := netip.MustParseAddr("10.0.0.2")
	gateways := plan.Neighbours{Gateways: []netip.Addr{gateway}}
	wanted := thousands(1000, far)
	b.ReportAllocs()
	for b.Loop() {
		s := New(Config{Neighbour: func(int, netip.Addr) (plan.MAC, bool) { return near.MAC, true }})
		if err := s.Set(b.Context(), wanted, gateways); err != nil {
			b.Fatal(err)
		}
		for {
			if a, _ := s.Stats(); a.Gratuitous >= 3000 {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

// What a frame costs that is sent in batches.
func BenchmarkGratuitous_10000_VIPs(b *testing.B) {
	_, far := pair(b)
	l, err := listen(segment{far, arp}, New(Config{}).shared)
	if err != nil {
		b.Fatal(err)
	}
	defer l.close()
	owned := respond.Owned{}
	var addrs []netip.Addr
	for _, w := range thousands(10000, far) {
		owned[w.Addr] = struct{}{}
		addrs = append(addrs, w.Addr)
	}
	l.owned.Store(&owned)
	v := &voice{listener: l, out: l.socket.sender(true, l.shared.mayAnswer)}
	b.ReportAllocs()
	for b.Loop() {
		v.send(toAll, addrs)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/frame")
}

// What a Set costs that changes one address of 10,000.
func BenchmarkSet_10000_VIPs(b *testing.B) {
	_, far := pair(b)
	s := New(Config{Rate: 1, Burst: 1})
	b.Cleanup(s.Close)
	wanted := thousands(10000, far)
	for n := 0; b.Loop(); n++ {
		if err := s.Set(b.Context(), wanted[:len(wanted)-n%2], plan.Neighbours{}); err != nil {
			b.Fatal(err)
		}
	}
}
