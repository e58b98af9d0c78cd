package fsm

import (
	"math/rand/v2"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

// SlowTx is the least transmit interval of a session that is not Up (RFC 5880 section 6.8.3).
const SlowTx = time.Second

// Config are the parameters of a session; any of them may change at any time.
type Config struct {
	// MinTx and MinRx are the shortest intervals between packets to send and to receive: whole microseconds above zero, at
	// most packet.MaxInterval.
	MinTx, MinRx time.Duration
	// Multiplier says after how many missing packets the peer gives the session up. Not zero.
	Multiplier uint8
	// Passive sessions say nothing until they have heard the peer.
	Passive bool
	// Independent sets the C bit: BFD goes on while the control plane does not. The speaker's does not.
	Independent bool
}

// Remote is what the peer said last, or what RFC 5880 section 6.8.1 has for one that was not heard for a detection time.
type Remote struct {
	Discriminator uint32
	State         packet.State
	Diag          packet.Diag
	Multiplier    uint8
	MinTx, MinRx  time.Duration
	Demand        bool
}

// silent is a peer that was not heard. RFC 5880 wants only the discriminator forgotten when a peer falls silent. The rest is
// forgotten with it: a peer that had asked for no packets and restarts passive could never be reached again.
func silent() Remote { return Remote{State: packet.Down, MinRx: time.Microsecond} }

// intervals are a pair of bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval.
type intervals struct{ tx, rx time.Duration }

// Machine is a session. Make one with New; it is not safe for concurrent use. Times given to it must not go backwards.
type Machine struct {
	config        Config
	discriminator uint32
	rand          *rand.Rand

	state packet.State
	diag  packet.Diag

	// advertised are the intervals that packets carry. inUse are those that timers are calculated from: they differ while a
	// poll sequence runs (RFC 5880 section 6.8.3).
	advertised, inUse intervals
	poll              poll

	remote Remote
	// heard is true while the peer was heard within the detection time, at lastRx at the latest.
	heard          bool
	lastRx         time.Time
	lastTx, nextTx time.Time
	// interval is the one that nextTx was calculated from.
	interval time.Duration
	// farewells are the packets that an ended session is still to repeat.
	farewells int
}

// poll is where a poll sequence stands.
type poll struct {
	// active: packets carry the P bit until a Final comes.
	active bool
	// settling: it has ended, and no other may begin until a packet without Final came: a late copy of the Final would be
	// taken for an answer to the next one (RFC 5880 section 6.8.3, the third way).
	settling bool
	// again: the configuration has changed since it began.
	again bool
}

// New returns a session in state Down whose first packet is due now, unless it is passive. The discriminator must not be
// zero and must be unique on the host. rnd is used by this session's calls only, or by calls that do not overlap.
func New(now time.Time, config Config, discriminator uint32, rnd *rand.Rand) *Machine {
	m := &Machine{config: config, discriminator: discriminator, rand: rnd, state: packet.Down, remote: silent(), lastTx: now, nextTx: now}
	m.adoptSlow()
	m.interval = m.TxInterval()
	return m
}

// Output is what a call has brought about.
type Output struct {
	packets [2]packet.Control
	count   int
	// From and To are equal if the state has not changed.
	From, To packet.State
}

// Packets to send now, in this order.
func (o *Output) Packets() []packet.Control { return o.packets[:o.count] }

// Changed reports whether the state has changed.
func (o *Output) Changed() bool { return o.From != o.To }

func (o *Output) add(c packet.Control) {
	o.packets[o.count] = c
	o.count++
}

// Receive takes a packet that passed packet.Parse and belongs to this session (RFC 5880 section 6.8.6, from where the
// session is found).
func (m *Machine) Receive(now time.Time, p *packet.Control) Output {
	out := Output{From: m.state, To: m.state}
	m.remote = Remote{
		Discriminator: p.MyDiscriminator, State: p.State, Diag: p.Diag, Multiplier: p.Multiplier,
		MinTx: p.DesiredMinTx, MinRx: p.RequiredMinRx, Demand: p.Demand,
	}
	if m.state == packet.AdminDown {
		return out
	}
	m.heard, m.lastRx = true, now
	polls := m.settle(p.Final)
	if next, diag := transition(m.state, p.State, m.diag); next != m.state {
		m.enter(next, diag)
	}
	out.To = m.state
	if p.Poll {
		out.add(m.control(true))
	}
	// What has changed is told at once (RFC 5880 section 6.8.7); a Final tells it as well, but cannot ask for one.
	if polls || out.Changed() && (!p.Poll || m.poll.active) {
		out.add(m.control(false))
		m.sent(now)
	}
	m.reschedule()
	return out
}

// transition is the state machine of RFC 5880 section 6.8.6, for a session that is not AdminDown.
func transition(local, remote packet.State, diag packet.Diag) (packet.State, packet.Diag) {
	switch {
	case remote == packet.AdminDown && local != packet.Down,
		remote == packet.Down && local == packet.Up:
		return packet.Down, packet.NeighborDown
	case remote == packet.Down && local == packet.Down:
		return packet.Init, diag
	case remote == packet.Init && local == packet.Down,
		(remote == packet.Init || remote == packet.Up) && local == packet.Init:
		return packet.Up, packet.NoDiag
	}
	return local, diag
}

// enter makes another state the current one.
func (m *Machine) enter(state packet.State, diag packet.Diag) {
	m.state, m.diag = state, diag
	m.poll = poll{}
	m.adoptSlow()
	if state == packet.Up {
		// From the slow rate to the wanted one. The rate may rise at once; the poll tells the peer.
		m.startPoll()
	}
}

// adoptSlow advertises and uses the configuration as it is while the session is not Up. The peer does not reckon with its
// packets yet, so nothing has to wait.
func (m *Machine) adoptSlow() {
	m.advertised = intervals{max(m.config.MinTx, SlowTx), m.config.MinRx}
	m.inUse = m.advertised
}

// startPoll advertises the configuration and asks the peer to confirm it. What makes the peer's timers stricter than it
// knows, or ours stricter than it sends, waits for the Final; the rest is in use at once (RFC 5880 section 6.8.3).
func (m *Machine) startPoll() {
	m.poll = poll{active: true}
	m.advertised = intervals{m.config.MinTx, m.config.MinRx}
	m.inUse.tx = min(m.inUse.tx, m.advertised.tx)
	m.inUse.rx = max(m.inUse.rx, m.advertised.rx)
}

// settle takes note of a packet with or without Final, and reports whether the next poll sequence has begun.
func (m *Machine) settle(final bool) bool {
	switch {
	case m.poll.active && final:
		m.inUse = m.advertised
		m.poll = poll{settling: true, again: m.poll.again}
	case m.poll.settling && !final:
		m.poll.settling = false
		if m.poll.again {
			m.startPoll()
			return true
		}
	}
	return false
}

// Configure changes the parameters. Of a session that is Up the peer is told by a poll sequence, and the session stays Up.
func (m *Machine) Configure(now time.Time, config Config) Output {
	out := Output{From: m.state, To: m.state}
	before := m.config
	m.config = config
	switch {
	case m.state == packet.AdminDown:
	case m.state != packet.Up:
		m.adoptSlow()
	case config.MinTx == before.MinTx && config.MinRx == before.MinRx:
		// The next packet tells of the rest; no poll is needed (RFC 5880 section 6.8.12).
	case m.poll.active || m.poll.settling:
		m.poll.again = true
	default:
		m.startPoll()
		out.add(m.control(false))
		m.sent(now)
	}
	m.reschedule()
	return out
}

// Advance does what is due: it gives up a peer that was silent for the detection time, and sends.
func (m *Machine) Advance(now time.Time) Output {
	out := Output{From: m.state, To: m.state}
	if m.heard && !now.Before(m.expiry()) {
		m.heard, m.remote = false, silent()
		if m.state == packet.Init || m.state == packet.Up {
			m.enter(packet.Down, packet.Expired)
			out.To = m.state
		}
		m.reschedule()
	}
	if m.transmits() && (out.Changed() || !now.Before(m.nextTx)) {
		if m.state == packet.AdminDown {
			m.farewells--
		}
		out.add(m.control(false))
		m.sent(now)
	}
	return out
}

// maxFarewell bounds how long an ended session lasts: one that is slower says goodbye once.
const maxFarewell = 200 * time.Millisecond

// Shutdown ends the session: the peer is told AdminDown with the diagnostic "administratively down". A peer that was heard
// is told three times, at the interval that was agreed on, because a lost farewell looks like a failure to it; after that,
// Deadline is the zero time and the machine is done.
func (m *Machine) Shutdown(now time.Time) Output {
	out := Output{From: m.state, To: packet.AdminDown}
	if m.state == packet.AdminDown {
		return out
	}
	mute := m.config.Passive && m.remote.Discriminator == 0
	again := m.TxInterval()
	m.enter(packet.AdminDown, packet.AdminDownDiag)
	if m.heard && again <= maxFarewell && m.remote.MinRx > 0 {
		m.farewells = 2
	}
	m.heard = false
	if !mute {
		out.add(m.control(false))
	}
	m.lastTx, m.interval, m.nextTx = now, again, now.Add(again)
	return out
}

// Deadline is when Advance is to be called, at the latest; zero if nothing is due unless something happens.
func (m *Machine) Deadline() time.Time {
	var at time.Time
	if m.transmits() {
		at = m.nextTx
	}
	if m.heard {
		if e := m.expiry(); at.IsZero() || e.Before(at) {
			at = e
		}
	}
	return at
}

// Expiry is when the peer is given up if it is not heard again; zero if it is not heard now.
func (m *Machine) Expiry() time.Time {
	if !m.heard {
		return time.Time{}
	}
	return m.expiry()
}

func (m *Machine) expiry() time.Time { return m.lastRx.Add(m.DetectionTime()) }

// transmits reports whether packets are sent periodically (RFC 5880 section 6.8.7).
func (m *Machine) transmits() bool {
	switch {
	case m.state == packet.AdminDown:
		return m.farewells > 0
	case m.config.Passive && m.remote.Discriminator == 0, m.remote.MinRx == 0:
		return false
	case m.remote.Demand && m.state == packet.Up && m.remote.State == packet.Up:
		return m.poll.active
	}
	return true
}

// sent notes that a packet goes out and when the next one is due.
func (m *Machine) sent(now time.Time) {
	m.lastTx = now
	if m.state != packet.AdminDown {
		m.interval = m.TxInterval()
	}
	m.nextTx = now.Add(m.jitter(m.interval))
}

// reschedule moves the next packet when the interval has changed: a shorter one is honoured from the last packet on, also
// if that means now (RFC 5880 section 6.8.3).
func (m *Machine) reschedule() {
	if interval := m.TxInterval(); m.state != packet.AdminDown && interval != m.interval {
		m.interval = interval
		m.nextTx = m.lastTx.Add(m.jitter(interval))
	}
}

// jitter takes off 0 to 25 % at random, or 10 to 25 % if one missing packet ends the session (RFC 5880 section 6.8.7).
func (m *Machine) jitter(interval time.Duration) time.Duration {
	most := interval
	if m.config.Multiplier == 1 {
		most = interval * 9 / 10
	}
	least := (interval*3 + 3) / 4
	if most <= least {
		return least
	}
	return least + time.Duration(m.rand.Int64N(int64(most-least)+1))
}

// control returns the packet of this moment.
func (m *Machine) control(final bool) packet.Control {
	return packet.Control{
		Diag: m.diag, State: m.state, Poll: m.poll.active && !final, Final: final, Independent: m.config.Independent,
		Multiplier: m.config.Multiplier, MyDiscriminator: m.discriminator, YourDiscriminator: m.remote.Discriminator,
		DesiredMinTx: m.advertised.tx, RequiredMinRx: m.advertised.rx,
	}
}

// State of the session.
func (m *Machine) State() packet.State { return m.state }

// Diag is the reason of the last change of state.
func (m *Machine) Diag() packet.Diag { return m.diag }

// Discriminator is the local one.
func (m *Machine) Discriminator() uint32 { return m.discriminator }

// Remote is what the peer said last.
func (m *Machine) Remote() Remote { return m.remote }

// TxInterval is the agreed interval between packets sent, before jitter (RFC 5880 section 6.8.2).
func (m *Machine) TxInterval() time.Duration { return max(m.inUse.tx, m.remote.MinRx) }

// RxInterval is the agreed interval between packets received, before jitter; zero while the peer is not heard.
func (m *Machine) RxInterval() time.Duration {
	if !m.heard {
		return 0
	}
	return max(m.inUse.rx, m.remote.MinTx)
}

// DetectionTime after which a silent peer is given up (RFC 5880 section 6.8.4); zero while the peer is not heard.
func (m *Machine) DetectionTime() time.Duration {
	return time.Duration(m.remote.Multiplier) * m.RxInterval()
}
