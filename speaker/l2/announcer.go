package l2

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// refresh is the interval at which everything is announced again: a switch forgets a silent station after five minutes
// (IEEE 802.1D ageing time) and a router keeps its ARP entry for longer, so an address that only receives would be lost. One frame to
// all does: gateways hear it, switches learn from it on every port, and with ten thousand addresses a frame more is seen in what an
// agent uses that has nothing to do.
const refresh = time.Minute

// repeats are the moments, after an address was taken, at which it is announced: the first frame may be lost, because a
// switch port has just come up or a neighbour has only just learned the old entry.
var repeats = []time.Duration{0, time.Second, 3 * time.Second, 10 * time.Second} //nolint:gochecknoglobals // a constant

// The number and the spacing of probes, and the delay of the first (RFC 5227 section 1.1: PROBE_NUM, PROBE_MIN, PROBE_MAX,
// PROBE_WAIT).
const (
	probes    = 3
	probeMin  = time.Second
	probeMax  = 2 * time.Second
	probeWait = time.Second
)

// sameTaking is how long after an address was taken, at which it was announced, word that it may be answered for is about that and not
// news: the gate opens before it says so.
const sameTaking = 50 * time.Millisecond

// Of more addresses than many, taken together, the first asReply waits for replyDelay.
const (
	many       = batchFrames
	replyDelay = 100 * time.Millisecond
)

// notice is what is sent about an address.
type notice uint8

const (
	// toGateways tells the default gateways, one frame for each.
	toGateways notice = iota
	// toAll tells everybody, in the form that nearly everybody takes.
	toAll
	// asReply tells everybody in another form, if there is one, for those who take only that. It comes after toAll about all
	// addresses, and where these are many a little later: those that wait for their first notice, on whichever link and of whichever
	// protocol, would wait for longer.
	asReply
	// probe asks whether anybody else has the address.
	probe
)

// wire is what an announcer sends on.
type wire interface {
	// prepare is called before a notice is sent about a number of addresses: it returns the frames that it takes for each.
	prepare(n notice) int
	// send sends it about the addresses, those of them that may be announced at this moment, in this order, and returns how
	// many frames that were.
	send(n notice, addrs []netip.Addr) int
}

// announcer sends notices about the addresses that its listener has: at once and some times later about those that it takes,
// now and then about all, paced. Of what is due it does first what was never done.
type announcer struct {
	owned  func() respond.Owned
	wire   wire
	bucket *bucket
	// review is called at each refresh and returns addresses to probe.
	review func() []netip.Addr
	wake   chan struct{}

	mu      sync.Mutex
	batches []*batch
	// newest says which batch an address was last in: an older one has nothing to say about it any more.
	newest map[netip.Addr]*batch

	// passes belong to run: what is due, in order.
	passes []*pass
}

// batch are addresses with the moments at which notices about them are due.
type batch struct {
	addrs []netip.Addr
	// taken is when Set took them; zero for those that the gate told of.
	taken   time.Time
	notices []notice
	due     []time.Time
	// busy while there is a pass of the batch: a moment that comes meanwhile is skipped.
	busy bool
}

// pass is one notice about many addresses, of which some have been sent.
type pass struct {
	notice notice
	addrs  []netip.Addr
	// frames for each address, once prepared.
	frames   int
	prepared bool
	urgent   bool
	// from is when it may begin; zero: at once.
	from time.Time
	// of is nil for a refresh; last is the batch's last for this moment.
	of   *batch
	last bool
}

func newAnnouncer(owned func() respond.Owned, w wire, b *bucket, review func() []netip.Addr) *announcer {
	return &announcer{owned: owned, wire: w, bucket: b, review: review, wake: make(chan struct{}, 1), newest: map[netip.Addr]*batch{}}
}

// take has the addresses announced now and at the later moments. It does not wait for it.
func (a *announcer) take(addrs []netip.Addr) {
	now := time.Now()
	a.announce(addrs, now, now)
}

// announce has the addresses announced from now on; taken is of the batch.
func (a *announcer) announce(addrs []netip.Addr, now, taken time.Time) {
	b := &batch{addrs: addrs, taken: taken, notices: []notice{toGateways, toAll, asReply}}
	for _, d := range repeats {
		b.due = append(b.due, now.Add(d))
	}
	a.add(b, true)
}

// again takes the addresses anew, but for those that have been taken a moment ago.
func (a *announcer) again(addrs []netip.Addr) {
	now := time.Now()
	a.mu.Lock()
	addrs = slices.DeleteFunc(addrs, func(addr netip.Addr) bool {
		b := a.newest[addr]
		return b != nil && now.Sub(b.taken) < sameTaking
	})
	a.mu.Unlock()
	a.announce(addrs, now, time.Time{})
}

// probe has others asked whether they use the addresses. The delays are random, so that nodes that start together do not ask
// together.
func (a *announcer) probe(addrs []netip.Addr) {
	at := time.Now().Add(rand.N(probeWait))
	b := &batch{addrs: addrs, notices: []notice{probe}}
	for range probes {
		b.due = append(b.due, at)
		at = at.Add(probeMin + rand.N(probeMax-probeMin))
	}
	a.add(b, false)
}

func (a *announcer) add(b *batch, announces bool) {
	if len(b.addrs) == 0 {
		return
	}
	a.mu.Lock()
	a.batches = append(a.batches, b)
	if announces {
		for _, addr := range b.addrs {
			a.newest[addr] = b
		}
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run announces until ctx ends.
func (a *announcer) run(ctx context.Context) {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	timer := time.NewTimer(refresh)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		case <-ticker.C:
			a.refresh()
		}
		for {
			now := time.Now()
			a.collect(now)
			wait := a.work(now)
			if len(a.passes) == 0 {
				a.collect(now) // forgets batches that are done
				wait = refresh
			}
			if wait > 0 {
				timer.Reset(min(wait, a.next(now)))
				break
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

func (a *announcer) refresh() {
	doubtful := a.review()
	if slices.ContainsFunc(a.passes, func(p *pass) bool { return p.of == nil }) {
		return // the last one is still going on
	}
	var addrs []netip.Addr
	for addr := range a.owned() {
		addrs = append(addrs, addr)
	}
	if len(addrs) > 0 {
		a.passes = append(a.passes, &pass{notice: toAll, addrs: addrs})
	}
	if len(doubtful) > 0 {
		a.passes = append(a.passes, &pass{notice: probe, addrs: doubtful})
	}
}

// collect makes passes of what has become due, and forgets batches that have nothing more to come.
func (a *announcer) collect(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var urgent []*pass
	kept := a.batches[:0]
	for _, b := range a.batches {
		for len(b.due) > 0 && !now.Before(b.due[0]) {
			first := len(b.due) == len(repeats) && b.notices[0] != probe
			b.due = b.due[1:]
			if b.busy {
				continue
			}
			for i, n := range b.notices {
				p := &pass{notice: n, addrs: b.addrs, urgent: first, of: b, last: i == len(b.notices)-1}
				if first && n == asReply && len(b.addrs) > many {
					p.from = now.Add(replyDelay)
				}
				if first {
					urgent = append(urgent, p)
				} else {
					a.passes = append(a.passes, p)
				}
			}
			b.busy = true
		}
		if len(b.due) > 0 || b.busy {
			kept = append(kept, b)
			continue
		}
		for _, addr := range b.addrs {
			if a.newest[addr] == b {
				delete(a.newest, addr)
			}
		}
	}
	clear(a.batches[len(kept):])
	a.batches = kept
	if len(urgent) > 0 {
		at := slices.IndexFunc(a.passes, func(p *pass) bool { return !p.urgent })
		if at < 0 {
			at = len(a.passes)
		}
		a.passes = slices.Insert(a.passes, at, urgent...)
	}
}

// work sends as much of the first pass as one call takes, and returns how long to wait for more tokens, or for a pass.
func (a *announcer) work(now time.Time) (wait time.Duration) {
	if len(a.passes) == 0 {
		return 0
	}
	i := slices.IndexFunc(a.passes, func(p *pass) bool { return !p.from.After(now) })
	if i < 0 {
		first := slices.MinFunc(a.passes, func(p, q *pass) int { return p.from.Compare(q.from) })
		return first.from.Sub(now)
	}
	p := a.passes[i]
	if !p.prepared {
		p.frames, p.prepared = a.wire.prepare(p.notice), true
	}
	if p.frames == 0 {
		p.addrs = nil
	}
	if len(p.addrs) > 0 {
		n := min(len(p.addrs), max(1, batchFrames/p.frames))
		tokens := n * p.frames
		if wait := a.bucket.take(now, tokens, p.urgent); wait > 0 {
			return wait
		}
		sent := a.wire.send(p.notice, a.current(p, p.addrs[:n]))
		a.bucket.put(max(0, tokens-sent))
		p.addrs = p.addrs[n:]
	}
	if len(p.addrs) == 0 {
		a.passes = slices.Delete(a.passes, i, i+1)
		if p.last {
			a.mu.Lock()
			p.of.busy = false
			a.mu.Unlock()
		}
	}
	return 0
}

// current returns those of the addresses that are still owned, and that no later batch is to speak of.
func (a *announcer) current(p *pass, addrs []netip.Addr) []netip.Addr {
	owned := a.owned()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]netip.Addr, 0, len(addrs))
	for _, addr := range addrs {
		_, ok := owned[addr]
		if later := a.newest[addr]; ok && (p.of == nil || p.notice == probe || later == p.of) {
			out = append(out, addr)
		}
	}
	return out
}

// next returns how long nothing is due.
func (a *announcer) next(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := refresh
	for _, b := range a.batches {
		if len(b.due) > 0 {
			wait = min(wait, b.due[0].Sub(now))
		}
	}
	return max(wait, 0)
}
