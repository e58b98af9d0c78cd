package fsm

import (
	"container/heap"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

var (
	seeds = flag.Uint64("seeds", 150, "how many random simulations")
	seed  = flag.Uint64("seed", 0, "run this simulation alone")
)

// world is two machines, a network between them, and a clock that jumps from event to event.
type world struct {
	t     *testing.T
	seed  uint64
	rnd   *rand.Rand
	now   time.Duration
	ends  [2]*end
	queue events
	net   network
	// least multiplier that is configured.
	least uint8
}

// network is what happens to packets.
type network struct {
	loss    float64
	delay   time.Duration // at most
	reorder bool          // also duplicates
	cut     [2]bool       // packets sent by that end are lost
	// polls: the first packet with Poll and the first with Final of each sequence are lost
	polls bool
}

// end is a machine whose clock runs a little fast or slow.
type end struct {
	*Machine
	config Config
	rate   float64

	arrives time.Duration // the last packet sent, at the other end
	// what was delivered last, and when by this end's clock
	delivered packet.Control
	at        time.Time
	maxRx     time.Duration // the longest MinRx that was ever configured
	downs     int
	// lost says whether a Poll and a Final were lost in this poll sequence of this end
	lost struct{ poll, final bool }
}

type event struct {
	at time.Duration
	to int
	p  packet.Control
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) clock(e *end) time.Time {
	return start.Add(time.Duration(float64(w.now) * e.rate))
}

func (w *world) randomConfig() Config {
	pick := func() time.Duration {
		return []time.Duration{10, 20, 50, 100, 300, 1000, 2000}[w.rnd.IntN(7)] * ms
	}
	return Config{MinTx: pick(), MinRx: pick(), Multiplier: w.least + uint8(w.rnd.IntN(5))}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 1)), least: 1}
	if seed%2 == 0 {
		w.least = 4 // so that lost polls are no reason to go down
	}
	for i := range w.ends {
		e := &end{config: w.randomConfig(), rate: 0.99 + 0.02*w.rnd.Float64()}
		e.config.Passive = i == 1 && w.rnd.IntN(4) == 0
		w.ends[i] = e
		w.restart(i)
	}
	return w
}

// restart replaces a machine by a new one, as a reboot does.
func (w *world) restart(i int) {
	e := w.ends[i]
	e.Machine = New(w.clock(e), e.config, w.rnd.Uint32()|1, rand.New(rand.NewPCG(w.seed, w.rnd.Uint64())))
	e.delivered, e.at, e.maxRx = packet.Control{}, time.Time{}, e.config.MinRx
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	for i, e := range w.ends {
		w.t.Logf("end %d: %+v", i, *e.Machine)
	}
	w.t.Fatalf("seed %d at %s: "+format, append([]any{w.seed, w.now}, args...)...)
}

func (w *world) output(from int, out Output) {
	e := w.ends[from]
	if out.From == packet.Up && out.Changed() {
		e.downs++
		if e.Diag() == packet.Expired {
			w.checkExpiry(e)
		}
	}
	for _, p := range out.Packets() {
		if p.State != packet.Up && p.DesiredMinTx < SlowTx || p.Poll && p.Final || p.MyDiscriminator == 0 {
			w.fatalf("end %d sends %+v", from, p)
		}
		if b := packet.Append(nil, &p); true {
			if q, v := packet.Parse(b); v != packet.Accepted || q != p {
				w.fatalf("end %d sends a packet that nobody accepts (%s): %+v", from, v, p)
			}
		}
		if w.net.cut[from] || w.rnd.Float64() < w.net.loss || w.net.polls && w.losesPoll(from, &p) {
			continue
		}
		for range 1 + w.rnd.IntN(20)/19*btoi(w.net.reorder) {
			at := w.now + time.Duration(w.rnd.Int64N(int64(w.net.delay)+1))
			if !w.net.reorder {
				at = max(at, e.arrives+1)
			}
			e.arrives = at
			heap.Push(&w.queue, event{at, 1 - from, p})
		}
	}
}

func (w *world) losesPoll(from int, p *packet.Control) (lost bool) {
	e, other := w.ends[from], w.ends[1-from]
	switch {
	case p.Final:
		lost, other.lost.final = !other.lost.final, true
	case p.Poll:
		lost, e.lost.poll = !e.lost.poll, true
	default:
		e.lost.poll, e.lost.final = false, false
	}
	return lost
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkExpiry holds the end of a session against what was delivered: the peer was silent for the detection time, by a rule
// that knows nothing of poll sequences.
func (w *world) checkExpiry(e *end) {
	silence := w.clock(e).Sub(e.at)
	mult, tx := time.Duration(e.delivered.Multiplier), e.delivered.DesiredMinTx
	if silence < mult*tx || silence > mult*max(tx, e.maxRx)+ms {
		w.fatalf("given up after a silence of %s; the peer promised %d times %s", silence, mult, tx)
	}
}

// step goes to the next event, but not beyond until. It returns false when nothing happens before.
func (w *world) step(until time.Duration) bool {
	at, who := until, -1
	for i, e := range w.ends {
		d := e.Deadline()
		if d.IsZero() {
			continue
		}
		// By the end's clock, which may say that the deadline has come a nanosecond later than the division does.
		if due := max(w.now, time.Duration(float64(d.Sub(start))/e.rate)+1); due < at {
			at, who = due, i
		}
	}
	if len(w.queue) > 0 && w.queue[0].at <= at {
		ev := heap.Pop(&w.queue).(event)
		w.now = max(w.now, ev.at)
		e := w.ends[ev.to]
		if ev.p.YourDiscriminator != 0 && ev.p.YourDiscriminator != e.Discriminator() {
			return true // the driver's business
		}
		now := w.clock(e)
		e.delivered, e.at = ev.p, now
		w.output(ev.to, e.Receive(now, &ev.p))
		return true
	}
	w.now = at
	if who < 0 {
		return false
	}
	w.output(who, w.ends[who].Advance(w.clock(w.ends[who])))
	return true
}

func (w *world) run(d time.Duration) {
	for until := w.now + d; w.step(until); {
	}
}

// reach runs until ok, for at most d.
func (w *world) reach(what string, d time.Duration, ok func() bool) {
	w.t.Helper()
	for until := w.now + d; !ok(); {
		if !w.step(until) {
			w.fatalf("not within %s: %s", d, what)
		}
	}
}

func (w *world) bothUp() bool {
	return w.ends[0].State() == packet.Up && w.ends[1].State() == packet.Up
}

// simulate takes a session through its life: coming up over a bad network, changing timers over a good one, failing.
func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	w.net = network{loss: 0.2 * w.rnd.Float64(), delay: time.Duration(w.rnd.IntN(20)) * ms, reorder: true}
	w.reach("both ends up over a bad network", 10*time.Minute, w.bothUp)

	// Over a good network the session never goes down, whatever is configured at either end; also if packets of each poll
	// sequence are lost, where the multiplier allows for it.
	w.net = network{delay: ms / 2}
	w.run(ms * 30) // what is still under way
	w.reach("both ends up over a good network", time.Minute, w.bothUp)
	w.run(20 * time.Second)
	w.reach("both ends up over a good network", time.Minute, w.bothUp)
	w.net.polls = w.least > 1
	downs := [2]int{w.ends[0].downs, w.ends[1].downs}
	for range 20 {
		e := w.ends[w.rnd.IntN(2)]
		passive := e.config.Passive
		e.config = w.randomConfig()
		e.config.Passive = passive
		e.maxRx = max(e.maxRx, e.config.MinRx)
		i := btoi(e == w.ends[1])
		w.output(i, e.Configure(w.clock(e), e.config))
		w.run(time.Duration(w.rnd.IntN(3000)) * ms)
	}
	w.run(20 * time.Second)
	for i, e := range w.ends {
		if e.downs != downs[i] || e.State() != packet.Up {
			w.fatalf("end %d went down while timers were changed: %s", i, e.Diag())
		}
		other := w.ends[1-i]
		if e.poll.active || e.poll.again || e.TxInterval() != max(e.config.MinTx, other.config.MinRx) || e.RxInterval() != e.agreed(other) ||
			e.DetectionTime() != time.Duration(other.config.Multiplier)*e.RxInterval() {
			w.fatalf("end %d has not the agreed timers: %s %s %s", i, e.TxInterval(), e.RxInterval(), e.DetectionTime())
		}
	}

	w.net.polls = false

	// A cut is seen by each end within its detection time. With a cut of one direction the other end is told, or, by one that
	// is passive and has forgotten the peer, hears nothing more.
	w.net.cut = [][2]bool{{true, true}, {true, false}, {false, true}}[w.rnd.IntN(3)]
	bound := [2]time.Duration{w.ends[0].DetectionTime(), w.ends[1].DetectionTime()}
	cutAt, within := w.now, max(bound[0], bound[1])
	if w.ends[1].config.Passive {
		within = bound[0] + bound[1]
	}
	w.reach("both ends notice the cut", within*102/100+10*ms, func() bool {
		for i, e := range w.ends {
			if w.net.cut[1-i] && e.State() == packet.Up && w.now-cutAt > bound[i]*102/100+2*ms {
				w.fatalf("end %d has not noticed a cut since %s, detection time %s", i, w.now-cutAt, bound[i])
			}
		}
		return w.ends[0].State() != packet.Up && w.ends[1].State() != packet.Up
	})
	w.run(time.Duration(w.rnd.IntN(10000)) * ms)
	if w.bothUp() {
		w.fatalf("up over a cut")
	}
	if w.rnd.IntN(2) == 0 {
		w.restart(w.rnd.IntN(2))
	}
	w.net.cut = [2]bool{}
	w.reach("both ends up again", time.Minute, w.bothUp)

	w.run(5 * time.Second)
	w.restartAndEnd()
}

// restartAndEnd: a restart of one end is noticed by the other, and the session comes back; an orderly end is no failure.
func (w *world) restartAndEnd() {
	w.restart(w.rnd.IntN(2))
	w.run(5 * time.Second)
	w.reach("both ends up after a restart", time.Minute, w.bothUp)

	leaving := w.rnd.IntN(2)
	w.output(leaving, w.ends[leaving].Shutdown(w.clock(w.ends[leaving])))
	w.run(10 * ms)
	stays := w.ends[1-leaving]
	if stays.State() != packet.Down || stays.Diag() != packet.NeighborDown || stays.Remote().State != packet.AdminDown || stays.Remote().Diag != packet.AdminDownDiag {
		w.fatalf("after a shutdown of end %d the other is %s (%s), remote %+v", leaving, stays.State(), stays.Diag(), stays.Remote())
	}
	w.run(time.Minute)
	if !w.ends[leaving].Deadline().IsZero() {
		w.fatalf("end %d goes on after its shutdown", leaving)
	}
}

// agreed is the interval at which an end is to receive.
func (e *end) agreed(other *end) time.Duration { return max(e.config.MinRx, other.config.MinTx) }

// Random sessions over random networks. A failing seed is run again with -args -seed N.
func TestSimulation(t *testing.T) {
	if *seed != 0 {
		simulate(t, *seed)
		return
	}
	for s := range *seeds {
		simulate(t, s+1)
	}
}
