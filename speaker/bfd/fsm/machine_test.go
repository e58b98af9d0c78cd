package fsm

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

const ms = time.Millisecond

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	fast  = Config{MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
)

const local, remote uint32 = 0x1111, 0x2222

// bench is a machine, its clock, and what it sent last.
type bench struct {
	*Machine
	t    *testing.T
	now  time.Time
	sent []packet.Control
}

func newBench(t *testing.T, c Config) *bench {
	return &bench{Machine: New(start, c, local, rand.New(rand.NewPCG(1, 2))), t: t, now: start}
}

func (b *bench) take(o Output) *Output {
	b.sent = append(b.sent[:0:0], o.Packets()...)
	if o.To != b.State() {
		b.t.Fatalf("output says %s, the machine is %s", o.To, b.State())
	}
	return &o
}

// peer sends a packet of the remote system, which has the same timers.
func (b *bench) peer(state packet.State, changes ...func(*packet.Control)) *Output {
	p := packet.Control{State: state, Multiplier: 3, MyDiscriminator: remote, YourDiscriminator: local, DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms}
	if state != packet.Up {
		p.DesiredMinTx = SlowTx
	}
	for _, c := range changes {
		c(&p)
	}
	return b.take(b.Receive(b.now, &p))
}

func final(p *packet.Control)  { p.Final = true }
func polled(p *packet.Control) { p.Poll = true }
func demand(p *packet.Control) { p.Demand = true }
func wants(rx time.Duration) func(*packet.Control) {
	return func(p *packet.Control) { p.RequiredMinRx = rx }
}
func sends(tx time.Duration) func(*packet.Control) {
	return func(p *packet.Control) { p.DesiredMinTx = tx }
}

// next goes to the deadline and does what is due then.
func (b *bench) next() *Output {
	b.t.Helper()
	at := b.Deadline()
	if at.IsZero() {
		b.t.Fatal("nothing is due")
	}
	if at.After(b.now) {
		b.now = at
	}
	return b.take(b.Advance(b.now))
}

// up brings the session up and the poll sequence to its end.
func (b *bench) up() {
	b.t.Helper()
	b.peer(packet.Down)
	b.peer(packet.Up)
	b.peer(packet.Up, final)
	b.peer(packet.Up)
	if b.State() != packet.Up || b.poll != (poll{}) || b.inUse != b.advertised {
		b.t.Fatalf("not up: %+v", b.Machine)
	}
}

// only asserts that one packet was sent.
func (b *bench) only() packet.Control {
	b.t.Helper()
	if len(b.sent) != 1 {
		b.t.Fatalf("sent %+v, want one packet", b.sent)
	}
	return b.sent[0]
}

// into brings a machine into a state.
func into(t *testing.T, s packet.State) *bench {
	b := newBench(t, fast)
	switch s {
	case packet.AdminDown:
		b.Shutdown(b.now)
	case packet.Init:
		b.peer(packet.Down)
	case packet.Up:
		b.up()
	}
	if b.State() != s {
		t.Fatalf("state %s, want %s", b.State(), s)
	}
	return b
}

// The whole table of RFC 5880 section 6.8.6: state, received state, what comes of it.
func TestTransitions(t *testing.T) {
	for _, tt := range []struct {
		from, received, to packet.State
		diag               packet.Diag
	}{
		{packet.Down, packet.AdminDown, packet.Down, packet.NoDiag},
		{packet.Down, packet.Down, packet.Init, packet.NoDiag},
		{packet.Down, packet.Init, packet.Up, packet.NoDiag},
		{packet.Down, packet.Up, packet.Down, packet.NoDiag},

		{packet.Init, packet.AdminDown, packet.Down, packet.NeighborDown},
		{packet.Init, packet.Down, packet.Init, packet.NoDiag},
		{packet.Init, packet.Init, packet.Up, packet.NoDiag},
		{packet.Init, packet.Up, packet.Up, packet.NoDiag},

		{packet.Up, packet.AdminDown, packet.Down, packet.NeighborDown},
		{packet.Up, packet.Down, packet.Down, packet.NeighborDown},
		{packet.Up, packet.Init, packet.Up, packet.NoDiag},
		{packet.Up, packet.Up, packet.Up, packet.NoDiag},

		{packet.AdminDown, packet.AdminDown, packet.AdminDown, packet.AdminDownDiag},
		{packet.AdminDown, packet.Down, packet.AdminDown, packet.AdminDownDiag},
		{packet.AdminDown, packet.Init, packet.AdminDown, packet.AdminDownDiag},
		{packet.AdminDown, packet.Up, packet.AdminDown, packet.AdminDownDiag},
	} {
		for _, poll := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%s/%v", tt.from, tt.received, poll), func(t *testing.T) {
				b := into(t, tt.from)
				out := b.peer(tt.received, func(p *packet.Control) { p.Poll = poll })
				if out.From != tt.from || out.To != tt.to || b.Diag() != tt.diag {
					t.Errorf("%s to %s (%s), want %s (%s)", out.From, out.To, b.Diag(), tt.to, tt.diag)
				}
				// A change is told at once and a poll is answered, but not by a session that is disabled.
				want := 0
				if poll && tt.from != packet.AdminDown {
					want = 1
				}
				if tt.from != tt.to && (!poll || tt.to == packet.Up) {
					want++
				}
				if len(b.sent) != want {
					t.Fatalf("sent %d packets, want %d: %+v", len(b.sent), want, b.sent)
				}
				for i, p := range b.sent {
					isFinal := poll && i == 0
					if p.State != tt.to || p.Diag != tt.diag || p.Final != isFinal || p.MyDiscriminator != local || p.YourDiscriminator != remote || p.Final && p.Poll {
						t.Errorf("packet %d: %+v", i, p)
					}
				}
				if r := b.Remote(); r.State != tt.received || r.Discriminator != remote {
					t.Errorf("remote %+v", r)
				}
			})
		}
	}
}

func TestDiagOfFailureIsKeptUntilUp(t *testing.T) {
	b := into(t, packet.Up)
	b.peer(packet.Down)
	b.peer(packet.Down)
	if b.State() != packet.Init || b.Diag() != packet.NeighborDown {
		t.Errorf("%s %s", b.State(), b.Diag())
	}
	b.peer(packet.Init)
	if b.State() != packet.Up || b.Diag() != packet.NoDiag {
		t.Errorf("%s %s", b.State(), b.Diag())
	}
}

func TestFirstPacketAndSlowRate(t *testing.T) {
	for _, c := range []Config{fast, {MinTx: 3 * time.Second, MinRx: 50 * ms, Multiplier: 3}} {
		b := newBench(t, c)
		if !b.Deadline().Equal(start) {
			t.Errorf("the first packet is due at %s", b.Deadline().Sub(start))
		}
		b.next()
		slow := max(c.MinTx, SlowTx)
		if got, want := b.only(), (packet.Control{State: packet.Down, Multiplier: 3, MyDiscriminator: local, DesiredMinTx: slow, RequiredMinRx: 50 * ms}); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		for range 50 {
			before := b.now
			b.next()
			b.only()
			if d := b.now.Sub(before); d < slow*3/4 || d > slow {
				t.Errorf("%s between packets of a session that is down", d)
			}
		}
	}
}

func TestPassive(t *testing.T) {
	c := fast
	c.Passive = true
	b := newBench(t, c)
	if !b.Deadline().IsZero() || len(b.take(b.Advance(start.Add(time.Hour))).Packets()) != 0 {
		t.Error("a passive session speaks first")
	}
	if b.peer(packet.Down); b.only().State != packet.Init {
		t.Errorf("answered %+v", b.sent)
	}
	b.up()
	for !b.next().Changed() {
	}
	if b.State() != packet.Down || len(b.sent) != 0 || !b.Deadline().IsZero() {
		t.Errorf("a passive session goes on without a peer: %s %+v", b.State(), b.sent)
	}
	out := b.Shutdown(b.now)
	if len(out.Packets()) != 0 {
		t.Error("a passive session says goodbye to nobody")
	}
}

func TestJitter(t *testing.T) {
	for mult, most := range map[uint8]float64{1: 0.90, 2: 1, 3: 1, 255: 1} {
		c := fast
		c.Multiplier = mult
		b := newBench(t, c)
		b.up()
		var sum time.Duration
		lo, hi := time.Hour, time.Duration(0)
		const n = 4000
		for range n {
			d := b.jitter(50 * ms)
			lo, hi, sum = min(lo, d), max(hi, d), sum+d
		}
		if float64(lo) < 0.75*50e6 || float64(hi) > most*50e6 || float64(hi-lo) < 0.95*(most-0.75)*50e6 {
			t.Errorf("multiplier %d: intervals from %s to %s", mult, lo, hi)
		}
		if mean, want := float64(sum)/n, (0.75+most)/2*50e6; mean < want*0.99 || mean > want*1.01 {
			t.Errorf("multiplier %d: mean %s, want %s", mult, time.Duration(mean), time.Duration(want))
		}
	}
	b := newBench(t, fast)
	for d := range time.Duration(20) {
		if got := b.jitter(d); got > d || 4*got < 3*d {
			t.Errorf("%d ns became %d", d, got)
		}
	}
}

func TestTransmitInterval(t *testing.T) {
	for _, tt := range []struct{ tx, remoteRx, want time.Duration }{
		{50 * ms, 50 * ms, 50 * ms}, {50 * ms, 300 * ms, 300 * ms}, {300 * ms, 50 * ms, 300 * ms}, {50 * ms, time.Microsecond, 50 * ms},
	} {
		b := newBench(t, Config{MinTx: tt.tx, MinRx: 50 * ms, Multiplier: 3})
		b.up()
		b.peer(packet.Up, wants(tt.remoteRx))
		if b.TxInterval() != tt.want {
			t.Errorf("%+v: interval %s", tt, b.TxInterval())
		}
		for range 20 {
			before := b.now
			b.peer(packet.Up, wants(tt.remoteRx)) // or the peer would be given up
			b.next()
			if d := b.now.Sub(before); d > tt.want {
				t.Errorf("%+v: %s between packets", tt, d)
			}
		}
	}
}

// A peer that wants packets faster gets them from the last packet on, at once if that is past.
func TestFasterPeerIsHonouredAtOnce(t *testing.T) {
	b := newBench(t, fast)
	b.up()
	b.peer(packet.Up, wants(10*time.Second))
	b.now = b.now.Add(140 * ms) // nothing was due
	if len(b.take(b.Advance(b.now)).Packets()) != 0 {
		t.Fatal("sent to a peer that wants a packet each 10 s")
	}
	b.peer(packet.Up, wants(60*ms))
	if b.Deadline().After(b.now) {
		t.Errorf("the next packet is due in %s", b.Deadline().Sub(b.now))
	}
	// Slower holds at once as well.
	b.next()
	b.peer(packet.Up, wants(time.Second))
	if d := b.nextTx.Sub(b.now); d < 700*ms {
		t.Errorf("the next packet is due in %s", d)
	}
}

func TestPeerThatWantsNothing(t *testing.T) {
	b := newBench(t, fast)
	b.up()
	b.peer(packet.Up, wants(0))
	if b.transmits() || !b.Deadline().Equal(b.Expiry()) {
		t.Error("periodic packets to a peer whose Required Min RX Interval is zero")
	}
	// A poll is answered nonetheless.
	if b.peer(packet.Up, wants(0), polled); !b.only().Final {
		t.Errorf("sent %+v", b.sent)
	}
	// Silence ends the session, and the peer's wish with it: it could never come back otherwise.
	if b.next(); b.State() != packet.Down || b.only().YourDiscriminator != 0 || b.Remote() != silent() {
		t.Errorf("%s %+v", b.State(), b.sent)
	}
}

func TestDetectionTime(t *testing.T) {
	for _, tt := range []struct {
		rx, remoteTx time.Duration
		mult         uint8
		want         time.Duration
	}{
		{50 * ms, 50 * ms, 3, 150 * ms}, {50 * ms, 300 * ms, 3, 900 * ms}, {300 * ms, 50 * ms, 5, 1500 * ms}, {50 * ms, 10 * ms, 1, 50 * ms},
	} {
		b := newBench(t, Config{MinTx: 50 * ms, MinRx: tt.rx, Multiplier: 77}) // one's own multiplier does not count
		b.up()
		b.peer(packet.Up, sends(tt.remoteTx), func(p *packet.Control) { p.Multiplier = tt.mult })
		if b.DetectionTime() != tt.want {
			t.Errorf("%+v: detection time %s", tt, b.DetectionTime())
		}
		heard := b.now
		if o := b.Advance(heard.Add(tt.want - 1)); o.Changed() {
			t.Errorf("%+v: given up too early", tt)
		}
		o := b.Advance(heard.Add(tt.want))
		if o.From != packet.Up || o.To != packet.Down || b.Diag() != packet.Expired {
			t.Errorf("%+v: %s to %s, %s", tt, o.From, o.To, b.Diag())
		}
		if p := o.Packets(); len(p) != 1 || p[0].State != packet.Down || p[0].Diag != packet.Expired || p[0].YourDiscriminator != 0 || p[0].DesiredMinTx != SlowTx {
			t.Errorf("%+v: sent %+v", tt, p)
		}
	}
}

func TestInitExpiresAndDownForgets(t *testing.T) {
	b := into(t, packet.Init)
	if b.DetectionTime() != 3*SlowTx {
		t.Errorf("detection time %s", b.DetectionTime())
	}
	for !b.next().Changed() {
	}
	if b.now.Sub(start) != 3*SlowTx || b.State() != packet.Down || b.Diag() != packet.Expired {
		t.Errorf("%s after %s, %s", b.State(), b.now.Sub(start), b.Diag())
	}
	b.peer(packet.AdminDown) // the session stays down and knows the peer
	if b.Remote().Discriminator != remote {
		t.Errorf("remote %+v", b.Remote())
	}
	for b.Remote().Discriminator != 0 {
		b.next()
	}
	if b.now.Sub(start) != 6*SlowTx || b.State() != packet.Down {
		t.Errorf("forgotten after %s", b.now.Sub(start))
	}
}

func TestRateRisesWithUpAndFallsWithDown(t *testing.T) {
	b := into(t, packet.Init)
	b.peer(packet.Init)
	if p := b.only(); !p.Poll || p.DesiredMinTx != 50*ms || p.State != packet.Up {
		t.Errorf("first packet when up: %+v", p)
	}
	for range 3 { // the poll is repeated until it is answered
		b.next()
		if p := b.only(); !p.Poll {
			t.Errorf("%+v", p)
		}
	}
	if d := b.now.Sub(start); d > 150*ms {
		t.Errorf("three packets took %s", d)
	}
	b.peer(packet.Up, final)
	if b.next(); b.only().Poll {
		t.Error("polls after the Final")
	}
	b.peer(packet.Down)
	if p := b.only(); p.DesiredMinTx != SlowTx || p.Poll {
		t.Errorf("first packet when down: %+v", p)
	}
	if d := b.nextTx.Sub(b.now); d < SlowTx*3/4 {
		t.Errorf("next packet after %s", d)
	}
}

func TestPollSequences(t *testing.T) {
	type pair struct{ tx, rx time.Duration }
	for _, tt := range []struct {
		name               string
		from, to           pair
		before             pair // in use until the Final
		remoteRx, remoteTx time.Duration
	}{
		{"slower tx waits", pair{50 * ms, 50 * ms}, pair{200 * ms, 50 * ms}, pair{50 * ms, 50 * ms}, 50 * ms, 50 * ms},
		{"faster tx does not", pair{200 * ms, 50 * ms}, pair{50 * ms, 50 * ms}, pair{50 * ms, 50 * ms}, 50 * ms, 50 * ms},
		{"faster rx waits", pair{50 * ms, 200 * ms}, pair{50 * ms, 50 * ms}, pair{50 * ms, 200 * ms}, 50 * ms, 50 * ms},
		{"slower rx does not", pair{50 * ms, 50 * ms}, pair{50 * ms, 200 * ms}, pair{50 * ms, 200 * ms}, 50 * ms, 50 * ms},
		{"both", pair{50 * ms, 200 * ms}, pair{200 * ms, 50 * ms}, pair{50 * ms, 200 * ms}, 50 * ms, 50 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, Config{MinTx: tt.from.tx, MinRx: tt.from.rx, Multiplier: 3})
			b.up()
			b.take(b.Configure(b.now, Config{MinTx: tt.to.tx, MinRx: tt.to.rx, Multiplier: 3}))
			if p := b.only(); !p.Poll || p.DesiredMinTx != tt.to.tx || p.RequiredMinRx != tt.to.rx || p.State != packet.Up {
				t.Errorf("sent %+v", p)
			}
			if b.TxInterval() != tt.before.tx || b.RxInterval() != tt.before.rx || b.DetectionTime() != 3*tt.before.rx {
				t.Errorf("in use before the Final: %s %s", b.TxInterval(), b.RxInterval())
			}
			b.peer(packet.Up) // is no Final
			if b.TxInterval() != tt.before.tx || b.RxInterval() != tt.before.rx {
				t.Errorf("in use before the Final: %s %s", b.TxInterval(), b.RxInterval())
			}
			b.peer(packet.Up, final)
			if b.TxInterval() != tt.to.tx || b.RxInterval() != tt.to.rx || b.poll.active {
				t.Errorf("in use after the Final: %s %s", b.TxInterval(), b.RxInterval())
			}
		})
	}
}

// Two changes in a row are two poll sequences, and a packet without Final lies between them.
func TestChangeDuringPoll(t *testing.T) {
	b := newBench(t, fast)
	b.up()
	change := func(tx time.Duration) {
		b.take(b.Configure(b.now, Config{MinTx: tx, MinRx: 50 * ms, Multiplier: 3}))
	}
	change(100 * ms)
	if change(200 * ms); len(b.sent) != 0 || b.control(false).DesiredMinTx != 100*ms {
		t.Errorf("the second change is told in the poll sequence of the first: %+v", b.sent)
	}
	if b.peer(packet.Up, final); len(b.sent) != 0 || b.TxInterval() != 100*ms {
		t.Errorf("%+v %s", b.sent, b.TxInterval())
	}
	if b.peer(packet.Up, final); len(b.sent) != 0 || b.poll.active {
		t.Errorf("a second Final begins the next sequence: %+v", b.sent)
	}
	if b.peer(packet.Up); !b.only().Poll || b.sent[0].DesiredMinTx != 200*ms || b.TxInterval() != 100*ms {
		t.Errorf("%+v %s", b.sent, b.TxInterval())
	}
	if b.peer(packet.Up, final); b.TxInterval() != 200*ms {
		t.Errorf("interval %s", b.TxInterval())
	}
	if change(50 * ms); len(b.sent) != 0 { // still settling
		t.Errorf("%+v", b.sent)
	}
	b.peer(packet.Down) // ends all of it
	if b.poll != (poll{}) || b.only().Poll {
		t.Errorf("%+v", b.poll)
	}
}

func TestChangeOfTheRest(t *testing.T) {
	b := newBench(t, fast)
	b.up()
	c := fast
	c.Multiplier, c.Independent = 5, true
	if b.take(b.Configure(b.now, c)); len(b.sent) != 0 {
		t.Errorf("a poll for the multiplier: %+v", b.sent)
	}
	if b.next(); b.only().Multiplier != 5 || !b.sent[0].Independent || b.sent[0].Poll {
		t.Errorf("%+v", b.sent)
	}
	b = newBench(t, fast)
	b.take(b.Configure(b.now, Config{MinTx: 70 * ms, MinRx: 80 * ms, Multiplier: 4}))
	if b.next(); b.only().RequiredMinRx != 80*ms || b.sent[0].DesiredMinTx != SlowTx {
		t.Errorf("%+v", b.sent)
	}
	b.up()
	if b.next(); b.only().DesiredMinTx != 70*ms {
		t.Errorf("%+v", b.sent)
	}
}

// RFC 5880 section 6.6: a peer in demand mode gets no periodic packets while both are up, but polls are answered and made,
// and its own packets are still expected.
func TestPeerInDemandMode(t *testing.T) {
	b := newBench(t, fast)
	b.peer(packet.Down, demand)
	b.peer(packet.Init, demand)
	if !b.transmits() || b.State() != packet.Up {
		t.Error("demand mode before both are up")
	}
	b.peer(packet.Up, demand)
	if !b.transmits() {
		t.Error("no poll sequence in demand mode")
	}
	b.peer(packet.Up, demand, final)
	if b.transmits() {
		t.Error("periodic packets to a peer in demand mode")
	}
	if b.peer(packet.Up, demand, polled); !b.only().Final || b.sent[0].Demand {
		t.Errorf("%+v", b.sent)
	}
	b.take(b.Configure(b.now, Config{MinTx: 60 * ms, MinRx: 50 * ms, Multiplier: 3}))
	if !b.only().Poll || !b.transmits() {
		t.Errorf("%+v", b.sent)
	}
	b.peer(packet.Up, demand, final)
	if b.now = b.now.Add(100 * ms); b.transmits() {
		t.Error("periodic packets to a peer in demand mode")
	}
	if b.peer(packet.Up); !b.transmits() || b.Deadline().After(b.now) {
		t.Error("a peer that leaves demand mode waits")
	}
	b.peer(packet.Up, demand)
	if b.next(); b.State() != packet.Down || b.Diag() != packet.Expired || b.now.Sub(start) != 250*ms {
		t.Errorf("%s after %s", b.State(), b.now.Sub(start))
	}
}

func TestPollIsAnsweredInEveryState(t *testing.T) {
	b := newBench(t, fast)
	b.peer(packet.Up, polled)
	if p := b.only(); b.State() != packet.Down || !p.Final || p.Poll || p.State != packet.Down || p.YourDiscriminator != remote {
		t.Errorf("%s %+v", b.State(), p)
	}
}

func TestShutdown(t *testing.T) {
	b := newBench(t, fast)
	b.up()
	b.take(b.Shutdown(b.now))
	want := packet.Control{State: packet.AdminDown, Diag: packet.AdminDownDiag, Multiplier: 3, MyDiscriminator: local, YourDiscriminator: remote, DesiredMinTx: SlowTx, RequiredMinRx: 50 * ms}
	for i := range 3 {
		if i > 0 {
			before := b.now
			if b.next(); b.now.Sub(before) > 50*ms || b.now.Sub(before) < 37*ms {
				t.Errorf("repeated after %s", b.now.Sub(before))
			}
		}
		if got := b.only(); got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	if !b.Deadline().IsZero() {
		t.Error("goes on for ever")
	}
	if b.take(b.Shutdown(b.now)); len(b.sent) != 0 {
		t.Error("ends twice")
	}
	if b.take(b.Configure(b.now, Config{MinTx: 1, MinRx: 1, Multiplier: 1})); len(b.sent) != 0 || !b.Deadline().IsZero() {
		t.Error("comes back")
	}

	for name, b := range map[string]*bench{"nobody there": into(t, packet.Down), "slow": into(t, packet.Init)} {
		if b.take(b.Shutdown(b.now)); b.only().State != packet.AdminDown || !b.Deadline().IsZero() {
			t.Errorf("%s: %+v, deadline %s", name, b.sent, b.Deadline())
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	m := New(start, fast, local, rand.New(rand.NewPCG(1, 2)))
	p := packet.Control{State: packet.Init, Multiplier: 3, MyDiscriminator: remote, YourDiscriminator: local, DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms}
	now := start
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(ms)
		m.Receive(now, &p)
		p.State = packet.Up
	}
}

func BenchmarkAdvance(b *testing.B) {
	m := New(start, fast, local, rand.New(rand.NewPCG(1, 2)))
	b.ReportAllocs()
	for b.Loop() {
		m.Advance(m.Deadline())
	}
}
