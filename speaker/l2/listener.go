package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/plan"
)

// listener speaks one protocol on one link: it reads what the filter lets through, answers, and announces what it takes.
type listener struct {
	segment
	socket *socket
	shared *shared
	stats  *counters

	// owned is read for every frame and replaced by set; gateways before each round of announcements.
	owned    atomic.Pointer[respond.Owned]
	gateways atomic.Pointer[[]netip.Addr]
	// filtered is false while the filter is not that of owned.
	filtered bool
	// groups is nil for ARP.
	groups *joiner
	burst  *announcer
	watch  *watch
	// senders are all that send.
	senders []*sender

	err  atomic.Pointer[error]
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func listen(key segment, sh *shared) (*listener, error) {
	socket, err := open(key)
	if err != nil {
		return nil, err
	}
	l := &listener{segment: key, socket: socket, shared: sh, stats: &sh.stats[key.proto], filtered: true}
	l.owned.Store(&respond.Owned{})
	l.gateways.Store(&[]netip.Addr{})
	if key.proto == ndp {
		l.groups = newJoiner(key.link.Index, sh.Broken)
	}
	answers, announcements, defences := socket.sender(false, sh.mayAnswer), socket.sender(true, sh.mayAnswer), socket.sender(false, sh.mayAnswer)
	l.senders = []*sender{answers, announcements, defences}
	owned := func() respond.Owned { return *l.owned.Load() }
	l.burst = newAnnouncer(owned, &voice{listener: l, out: announcements}, newBucket(sh.Rate, sh.Burst), l.review)
	l.watch = &watch{
		link: key.link, siblings: &sh.siblings, seen: sh.seen, stats: l.stats, news: sh.Duplicated,
		defend: func(a netip.Addr) { l.defend(a, defences) }, suspects: make(chan respond.Decision, 64),
	}

	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.wg.Go(func() { l.read(ctx, answers) })
	l.wg.Go(func() { l.burst.run(ctx) })
	l.wg.Go(func() { l.watch.run(ctx) })
	if l.groups != nil {
		sh.leaving.Go(func() { l.groups.run(ctx) })
	}
	return l, nil
}

// set replaces the addresses. What is new is answered for before it is announced, if the gate lets it pass; fresh ones are probed as
// well.
func (l *listener) set(owned respond.Owned, fresh []netip.Addr) error {
	before := *l.owned.Load()
	var taken []netip.Addr
	for a := range owned {
		if _, ok := before[a]; !ok {
			taken = append(taken, a)
		}
	}
	l.owned.Store(&owned)
	var err error
	if len(taken) > 0 || len(owned) != len(before) || !l.filtered {
		err = l.setFilter(owned)
	}
	// Of the others the gate says so when it opens.
	l.burst.take(slices.DeleteFunc(taken, func(a netip.Addr) bool { return !l.shared.mayAnswer(a) }))
	l.burst.probe(fresh)
	if l.groups != nil {
		err = errors.Join(err, l.groups.set(owned))
	}
	return err
}

// setFilter installs the filter of the addresses. Until that works, the one before stays, and the next set tries again.
func (l *listener) setFilter(owned respond.Owned) error {
	f, err := filter(l.proto, owned)
	if err == nil {
		err = l.socket.conn.SetBPF(f)
	}
	if l.filtered = err == nil; err != nil {
		return fmt.Errorf("set socket filter: %w", err)
	}
	return nil
}

func (l *listener) close() {
	l.owned.Store(&respond.Owned{})
	l.stop()
	_ = l.socket.conn.Close()
	l.wg.Wait()
}

// failure returns why the listener stopped by itself, nil while it works.
func (l *listener) failure() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

// read answers until the socket is closed. No frame, however malformed, ends it.
func (l *listener) read(ctx context.Context, out *sender) {
	in := l.socket.reader()
	for {
		frame, err := in.next()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
			continue // reported once when the link goes down; the socket works again when it is up
		case err != nil:
			err = fmt.Errorf("read from packet socket: %w", err)
			if errors.Is(err, os.ErrClosed) {
				return
			}
			l.err.Store(&err)
			l.shared.Broken()
			return
		}
		l.handle(frame, out)
	}
}

// handle answers one frame, if it asks for an address that may be answered for at this moment, which the sender finds out last: a
// process may be paused anywhere before that.
func (l *listener) handle(frame []byte, out *sender) {
	owned := *l.owned.Load()
	var answer []byte
	var d respond.Decision
	if l.proto == arp {
		answer, d = respond.ARP(frame, owned, l.link.MAC, out.empty())
	} else {
		answer, d = respond.NDP(frame, owned, l.link.MAC, out.empty())
	}
	switch d.Verdict {
	case respond.Answer:
	case respond.Conflict:
		l.watch.suspect(d)
		return
	default:
		l.stats.dropped[d.Verdict].Add(1)
		return
	}
	l.stats.requests.Add(1)
	out.add(answer, d.Addr)
	f := out.flush()
	l.stats.replies.Add(uint64(f.sent))
	l.stats.sendErrors.Add(uint64(f.failed))
	l.stats.dropped[respond.Fenced].Add(uint64(f.fenced))
}

// defend defends an address, by one announcement (RFC 5227 section 2.4, case b).
func (l *listener) defend(a netip.Addr, out *sender) {
	if !l.has(a) {
		return
	}
	if l.proto == arp {
		out.add(packet.AppendGratuitousRequest(out.empty(), l.link.MAC, a), a)
	} else {
		out.add(packet.AppendUnsolicited(out.empty(), l.link.MAC, a), a)
	}
	f := out.flush()
	l.stats.gratuitous.Add(uint64(f.sent))
	l.stats.sendErrors.Add(uint64(f.failed))
}

// review forgets duplicates that are over, and returns the addresses that have one on this link: others are asked whether it
// is still there.
func (l *listener) review() []netip.Addr {
	l.shared.prune()
	owned := *l.owned.Load()
	var out []netip.Addr
	for _, d := range l.shared.seen.list() {
		if _, ok := owned[d.Addr]; ok && d.Interface == l.link.Name {
			out = append(out, d.Addr)
		}
	}
	return out
}

// has reports whether the listener answers for the address.
func (l *listener) has(a netip.Addr) bool {
	_, ok := (*l.owned.Load())[a]
	return ok
}

// gatewayStations returns the default gateways of the listener's family whose Ethernet addresses the kernel knows.
func (l *listener) gatewayStations() []gateway {
	var out []gateway
	for _, a := range *l.gateways.Load() {
		if a.Is4() != (l.proto == arp) {
			continue
		}
		if mac, ok := l.shared.Neighbour(l.link.Index, a); ok && len(out) < maxGateways {
			out = append(out, gateway{a, mac})
		}
	}
	return out
}

// maxGateways is how many are told before all others: what is told them counts for the pace.
const maxGateways = 8

// gateway is a neighbour that is told first.
type gateway struct {
	addr netip.Addr
	mac  plan.MAC
}
