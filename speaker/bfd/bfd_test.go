package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

// bubble runs a test with two Speakers and a model of a network in which time is virtual.
func bubble(t *testing.T, f func(t *testing.T, p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		defer p.close()
		f(t, p)
	})
}

func signalled(s *Speaker) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func TestUpAndAgreed(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.toB.MinRx, p.toA.MinTx, p.toA.MinRx, p.toA.Multiplier = 60*ms, 70*ms, 80*ms, 5
		p.up()
		a, b := p.sa.Status()[0], p.sb.Status()[0]
		if a.TxInterval != 80*ms || a.RxInterval != 70*ms || a.DetectionTime != 350*ms || b.TxInterval != 70*ms || b.RxInterval != 80*ms || b.DetectionTime != 240*ms {
			t.Errorf("agreed on %s %s %s and %s %s %s", a.TxInterval, a.RxInterval, a.DetectionTime, b.TxInterval, b.RxInterval, b.DetectionTime)
		}
		if a.Discriminator == 0 || a.Discriminator != b.RemoteDiscriminator || b.Discriminator != a.RemoteDiscriminator || a.Session != p.toB {
			t.Errorf("%+v\n%+v", a, b)
		}
		if a.Failed || a.Downs != 0 || a.Problem != "" || a.Diag != packet.NoDiag || a.RemoteState != packet.Up || time.Since(a.Since) < time.Second {
			t.Errorf("%+v", a)
		}
		if !signalled(p.sa) || signalled(p.sa) {
			t.Error("not exactly one signal")
		}
		before := a.Stats
		time.Sleep(10 * time.Second)
		if signalled(p.sa) {
			t.Error("signalled without a change")
		}
		a, b = p.sa.Status()[0], p.sb.Status()[0]
		// Jitter takes off 12.5 % on average.
		if n := a.Stats.Sent - before.Sent; n < 10000/80 || n > 10000/60 {
			t.Errorf("sent %d packets in 10 s", n)
		}
		if b.Stats.Received+1 < a.Stats.Sent || p.sa.Stats() != a.Stats {
			t.Errorf("sent %+v, received %+v", a.Stats, b.Stats)
		}
		// Packets are apart as agreed, never closer than jitter allows, but for those that tell something. One that answers comes
		// between them (RFC 5880 section 6.8.7: without respect to the transmission timer).
		var last time.Time
		ports := map[uint16]bool{}
		for _, r := range p.sentBy(p.a.addr) {
			ports[r.port] = true
			if r.Final {
				continue
			}
			if d := r.at.Sub(last); !last.IsZero() && r.State == packet.Up && !r.Poll && (d < 60*ms || d > 81*ms) {
				t.Errorf("%s between packets", d)
			}
			last = r.at
		}
		if len(ports) != 1 {
			t.Errorf("one session sends from ports %v", ports)
		}
	})
}

func TestCutIsDetectedInTime(t *testing.T) {
	for _, direction := range []string{"both", "to a", "to b"} {
		t.Run(direction, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				p.up()
				signalled(p.sa)
				cut := time.Now()
				switch direction {
				case "both":
					p.lose(p.a.addr, p.b.addr)
				case "to a":
					p.lose(p.b.addr)
				case "to b":
					p.lose(p.a.addr)
				}
				time.Sleep(99 * ms) // a packet may have come right before the cut, but not two intervals before
				if st := p.sa.Status()[0]; st.State != packet.Up {
					t.Errorf("down too early: %+v", st)
				}
				time.Sleep(53 * ms)
				for i, s := range []*Speaker{p.sa, p.sb} {
					st := s.Status()[0]
					if st.State == packet.Up || !st.Failed || st.Downs != 1 || st.LastDown.At.Sub(cut) > 151*ms || st.LastDown.At.Sub(cut) < 99*ms {
						t.Errorf("end %d: %+v", i, st)
					}
				}
				a, b := p.sa.Status()[0], p.sb.Status()[0]
				if direction == "to a" && (a.Diag != packet.Expired || b.LastDown.Diag != packet.NeighborDown || b.LastDown.RemoteDiag != packet.Expired) {
					t.Errorf("%+v\n%+v", a, b)
				}
				if !signalled(p.sa) {
					t.Error("not signalled")
				}
				p.lose()
				time.Sleep(2 * time.Second)
				if a, b = p.sa.Status()[0], p.sb.Status()[0]; a.State != packet.Up || a.Failed || a.Downs != 1 || b.State != packet.Up {
					t.Errorf("%+v\n%+v", a, b)
				}
			})
		})
	}
}

// A peer that was never there, and one that says goodbye, are no failures of the path (RFC 5882 sections 3.2 and 4.1).
func TestWhatIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		set(t, p.sa, p.toB)
		time.Sleep(time.Minute)
		if st := p.sa.Status()[0]; st.State != packet.Down || st.Failed {
			t.Errorf("%+v", st)
		}
		if n := len(p.sentBy(p.a.addr)); n < 60 || n > 80 {
			t.Errorf("%d packets in a minute to a peer that is not there", n)
		}
		p.up()
		began := time.Now()
		p.sb.Close()
		if d := time.Since(began); d < 75*ms || d > 150*ms {
			t.Errorf("closing took %s", d)
		}
		synctest.Wait()
		if st := p.sa.Status()[0]; st.State != packet.Down || st.Failed || st.Downs != 0 || st.RemoteState != packet.AdminDown || st.RemoteDiag.String() != "administratively down" || st.Diag.String() != "neighbor signaled session down" {
			t.Errorf("%+v", st)
		}
		last := p.sentBy(p.b.addr)
		for _, r := range last[len(last)-3:] {
			if r.State != packet.AdminDown {
				t.Errorf("last packets %+v", r)
			}
		}
		time.Sleep(time.Minute)
		if len(p.sentBy(p.b.addr)) != len(last) || p.sa.Status()[0].Failed {
			t.Error("it goes on after Close")
		}
		p.up() // and can be used again
	})
}

// A session that is removed says goodbye while others go on; one that comes back at once does not contradict itself.
func TestRemoveAndComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.up()
		set(t, p.sa)
		if len(p.sa.Status()) != 0 {
			t.Error("it is still there")
		}
		time.Sleep(10 * ms)
		if st := p.sb.Status()[0]; st.RemoteState != packet.AdminDown || st.Failed {
			t.Errorf("%+v", st)
		}
		set(t, p.sa, p.toB)
		synctest.Wait()
		n := len(p.sentBy(p.a.addr))
		time.Sleep(2 * time.Second)
		for _, r := range p.sentBy(p.a.addr)[n:] {
			if r.State == packet.AdminDown {
				t.Errorf("%+v", r)
			}
		}
		if st := p.sb.Status()[0]; st.State != packet.Up || st.Failed || st.Downs != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTimersChangeWhileUp(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.up()
		since := p.sa.Status()[0].Since
		change := func(tx, rx time.Duration, mult uint8) {
			p.toB.MinTx, p.toB.MinRx, p.toB.Multiplier = tx, rx, mult
			set(t, p.sa, p.toB)
			set(t, p.sa, p.toB) // the same twice changes nothing
			time.Sleep(3 * time.Second)
			a, b := p.sa.Status()[0], p.sb.Status()[0]
			if a.State != packet.Up || a.Since != since || b.Downs != 0 {
				t.Errorf("the session was not kept: %+v", a)
			}
			if a.TxInterval != max(tx, 50*ms) || a.RxInterval != max(rx, 50*ms) || b.DetectionTime != time.Duration(mult)*max(tx, 50*ms) {
				t.Errorf("%s %s %d: agreed on %s %s; the peer waits %s", tx, rx, mult, a.TxInterval, a.RxInterval, b.DetectionTime)
			}
		}
		change(200*ms, 50*ms, 3)
		change(10*ms, 300*ms, 3)
		change(500*ms, 10*ms, 5)
		change(50*ms, 50*ms, 1)
	})
}

// A process that was kept from running looks first for what arrived meanwhile.
func TestLateIsNotSilent(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.up()
		p.mu.Lock()
		p.a.held = true // packets arrive and nobody says so
		p.mu.Unlock()
		time.Sleep(10 * time.Second)
		if st := p.sa.Status()[0]; st.State != packet.Up || st.Downs != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// What does not belong to a session is counted, and nothing else.
func TestDropped(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.toB.Local, p.toB.Interface = p.a.addr, "eth0" // with the index 7 here
		p.up()
		st := p.sa.Status()[0]
		evil := packet.Control{State: packet.Down, Multiplier: 3, MyDiscriminator: 666, YourDiscriminator: st.Discriminator, DesiredMinTx: ms, RequiredMinRx: ms}
		first := evil
		first.YourDiscriminator = 0
		stranger := evil
		stranger.YourDiscriminator++
		good := datagram{payload: packet.Append(nil, &evil), src: p.b.addr, dst: p.a.addr, ifindex: 7, ttl: 255}
		elsewhere := netip.MustParseAddr("192.0.2.99")
		for _, tt := range []struct {
			want   packet.Verdict
			ours   bool // counted for the session as well
			change func(*datagram)
		}{
			{packet.Routed, true, func(d *datagram) { d.ttl = 254 }},
			{packet.Routed, true, func(d *datagram) { d.ttl = -1 }},
			{packet.Routed, false, func(d *datagram) { d.ttl, d.src = 64, elsewhere }},
			{packet.Truncated, true, func(d *datagram) { d.payload = nil }},
			{packet.Truncated, true, func(d *datagram) { d.payload = d.payload[:23] }},
			{packet.BadVersion, true, func(d *datagram) { d.payload[0] = 0 }},
			{packet.Authenticated, true, func(d *datagram) { d.payload = append(d.payload, 0, 0); d.payload[1] |= 4; d.payload[3] = 26 }},
			{packet.UnknownSession, true, func(d *datagram) { d.payload = packet.Append(nil, &stranger) }},
			{packet.UnknownSession, false, func(d *datagram) { d.payload, d.src = packet.Append(nil, &stranger), elsewhere }},
			{packet.UnknownPeer, false, func(d *datagram) { d.payload, d.src = packet.Append(nil, &first), elsewhere }},
			{packet.WrongSource, true, func(d *datagram) { d.src = elsewhere }},
			{packet.WrongInterface, true, func(d *datagram) { d.ifindex = 8 }},
			{packet.WrongInterface, true, func(d *datagram) { d.payload, d.ifindex = packet.Append(nil, &first), 8 }},
			{packet.WrongDestination, true, func(d *datagram) { d.dst = elsewhere }},
			{packet.WrongDestination, true, func(d *datagram) { d.payload, d.dst = packet.Append(nil, &first), elsewhere }},
		} {
			d := good
			d.payload = append([]byte(nil), good.payload...)
			tt.change(&d)
			all, session := p.sa.Stats().Dropped, p.sa.Status()[0].Stats.Dropped
			p.a.deliver(d)
			synctest.Wait()
			all[tt.want]++
			if tt.ours {
				session[tt.want]++
			}
			if got := p.sa.Stats().Dropped; got != all {
				t.Errorf("%s: counted %v, want %v", tt.want, got, all)
			}
			if got := p.sa.Status()[0].Stats.Dropped; got != session {
				t.Errorf("%s: counted %v for the session, want %v", tt.want, got, session)
			}
		}
		time.Sleep(time.Second)
		if got := p.sa.Status()[0]; got.State != packet.Up || got.Since != st.Since || got.RemoteDiscriminator != st.RemoteDiscriminator {
			t.Errorf("%+v", got)
		}
		p.a.deliver(good) // the same without a fault does harm: the faults were what kept it away
		synctest.Wait()
		if got := p.sa.Status()[0]; got.State != packet.Down || got.Diag != packet.NeighborDown {
			t.Errorf("%+v", got)
		}
	})
}

func TestSendingFailsAndRecovers(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		p.up()
		for _, broken := range []func(error){
			func(err error) { p.a.breaks = err },
			func(err error) { p.a.breaks, p.a.refuses = err, err },
		} {
			p.mu.Lock()
			broken(unix.ENODEV)
			p.mu.Unlock()
			time.Sleep(time.Second)
			st := p.sa.Status()[0]
			if st.Problem != "there is no such interface" || st.Stats.SendErrors == 0 || st.State == packet.Up || !signalled(p.sa) {
				t.Errorf("%+v", st)
			}
			p.mu.Lock()
			broken(nil)
			p.mu.Unlock()
			time.Sleep(3 * time.Second)
			if st := p.sa.Status()[0]; st.State != packet.Up || st.Problem != "" {
				t.Errorf("%+v", st)
			}
		}
		for err, want := range map[error]string{
			nil: "", unix.ECONNREFUSED: "does not listen", errors.Join(errSent, unix.EHOSTUNREACH): "ARP", unix.ENETUNREACH: "no route",
			unix.EADDRNOTAVAIL: "local address", unix.ENETDOWN: "interface is down", unix.EPERM: "packet filter", errors.New("odd"): "odd",
		} {
			if got := sendWords(err); want == "" && got != "" || !strings.Contains(got, want) {
				t.Errorf("%v is %q", err, got)
			}
		}
	})
}

func TestManySessions(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		var wanted []Session
		for i := range 300 {
			wanted = append(wanted, Session{Peer: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3})
		}
		for i := range 8000 {
			p.a.busy[uint16(firstPort+2*i)] = true // other programs
		}
		set(t, p.sa, wanted...)
		time.Sleep(10 * time.Second)
		ports, discriminators := map[uint16]bool{}, map[uint32]bool{}
		for _, st := range p.sa.Status() {
			discriminators[st.Discriminator] = true
			if st.Problem != "" {
				t.Errorf("%+v", st)
			}
		}
		for _, r := range p.sentBy(p.a.addr) {
			if ports[r.port] = true; r.port < firstPort || p.a.busy[r.port] {
				t.Errorf("port %d", r.port)
			}
		}
		if len(ports) != len(wanted) || len(discriminators) != len(wanted) || discriminators[0] {
			t.Errorf("%d ports, %d discriminators", len(ports), len(discriminators))
		}
		if !p.sa.due.sorted() {
			t.Error("the queue is not a heap")
		}
	})
}

// sorted says whether the queue is a heap and its sessions know their places.
func (q queue) sorted() bool {
	for i, s := range q {
		if s.place != i || !s.due.Equal(s.machine.Deadline()) || i > 0 && q.Less(i, (i-1)/2) {
			return false
		}
	}
	return true
}

func TestCheck(t *testing.T) {
	good := Session{Peer: netip.MustParseAddr("192.0.2.1"), MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		change func(*Session)
		want   string // empty: nothing is wrong
	}{
		{func(*Session) {}, ""},
		{func(s *Session) { s.Local = addr("192.0.2.9") }, ""},
		{func(s *Session) { s.MinTx, s.MinRx, s.Multiplier = MinInterval, MaxInterval, 255 }, ""},
		{func(s *Session) { s.Peer, s.Interface = addr("fe80::1"), "eth0" }, ""},
		{func(s *Session) { s.Peer = addr("2001:db8::1") }, ""},
		{func(s *Session) { s.Peer = netip.Addr{} }, "not the address of one host"},
		{func(s *Session) { s.Peer = addr("fe80::1%eth0") }, "not the address of one host"},
		{func(s *Session) { s.Peer = addr("::ffff:192.0.2.1") }, "not the address of one host"},
		{func(s *Session) { s.Peer = addr("224.0.0.1") }, "not the address of one host"},
		{func(s *Session) { s.Peer = addr("::") }, "not the address of one host"},
		{func(s *Session) { s.Peer = addr("fe80::1") }, "needs an interface"},
		{func(s *Session) { s.Local = addr("2001:db8::1") }, "no source address"},
		{func(s *Session) { s.Local = addr("0.0.0.0") }, "no source address"},
		{func(s *Session) { s.MinTx = 9 * ms }, "a transmit interval of 9ms is not between 10ms and 1m0s"},
		{func(s *Session) { s.MinRx = 61 * time.Second }, "a receive interval of 1m1s"},
		{func(s *Session) { s.Multiplier = 0 }, "multiplier"},
	} {
		s := good
		tt.change(&s)
		err := s.check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", s, err, tt.want)
		}
	}
}

// What is wrong with one session keeps no other from being.
func TestSetTakesWhatItCan(t *testing.T) {
	bubble(t, func(t *testing.T, p *pair) {
		bad := p.toB
		bad.Peer, bad.Multiplier = netip.MustParseAddr("192.0.2.3"), 0
		other := p.toB
		other.MinTx = 100 * ms // the same session with other timers
		err := p.sa.Set(t.Context(), []Session{p.toB, bad, other})
		want := "BFD session with 192.0.2.3: the multiplier is zero\nBFD session with 192.0.2.2: is wanted twice"
		if fmt.Sprint(err) != want || len(p.sa.Status()) != 1 || p.sa.Status()[0].Session != p.toB {
			t.Errorf("%v; %+v", err, p.sa.Status())
		}
		// The port belongs to another program: nothing of that family, and again when it is free.
		blocked := newSpeaker(p.a)
		if err := blocked.Set(t.Context(), []Session{p.toB}); !errors.Is(err, unix.EADDRINUSE) || len(blocked.Status()) != 0 {
			t.Errorf("%v", err)
		}
		p.sa.Close()
		set(t, blocked, p.toB)
		blocked.Close()
	})
}
