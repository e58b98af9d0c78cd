package bfd

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

const ms = time.Millisecond

// model is a network of hosts, one address each, on one link; it is the wire of tests in a synctest bubble.
type model struct {
	mu    sync.Mutex
	hosts map[netip.Addr]*host
	// delay of every packet, and whether it is lost.
	delay time.Duration
	lost  func(src, dst netip.Addr) bool
	// sent are all packets that were sent, by source address.
	sent map[netip.Addr][]record
}

type record struct {
	at   time.Time
	port uint16
	packet.Control
}

// host is the wire of one Speaker.
type host struct {
	net  *model
	addr netip.Addr

	// held is true while the host's Speaker is kept from being told that packets have arrived.
	held    bool
	queue   []datagram
	notify  chan struct{}
	done    chan struct{}
	refuses error // what dial says
	breaks  error // what send says
	busy    map[uint16]bool
}

func newModel() *model {
	return &model{hosts: map[netip.Addr]*host{}, delay: ms / 10, lost: func(_, _ netip.Addr) bool { return false }, sent: map[netip.Addr][]record{}}
}

func (m *model) host(addr string) *host {
	h := &host{net: m, addr: netip.MustParseAddr(addr), busy: map[uint16]bool{}}
	m.hosts[h.addr] = h
	return h
}

func (h *host) watchdog() (watchdog, error) { return nil, nil }

func (h *host) listen(_ bool, arrived func()) (listener, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.notify != nil {
		return nil, unix.EADDRINUSE
	}
	h.notify, h.done = make(chan struct{}, 1), make(chan struct{})
	go func(notify, done chan struct{}) {
		defer close(done)
		for range notify {
			arrived()
		}
	}(h.notify, h.done)
	return h, nil
}

func (h *host) drain(limit int, each func(*datagram)) bool {
	for range limit {
		h.net.mu.Lock()
		if len(h.queue) == 0 {
			h.net.mu.Unlock()
			return true
		}
		d := h.queue[0]
		h.queue = h.queue[1:]
		h.net.mu.Unlock()
		each(&d)
	}
	return false
}

func (h *host) close() {
	h.net.mu.Lock()
	close(h.notify)
	done := h.done
	h.notify = nil
	h.net.mu.Unlock()
	<-done
}

// deliver puts a datagram into the host's queue.
func (h *host) deliver(d datagram) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.notify == nil {
		return
	}
	h.queue = append(h.queue, d)
	if !h.held {
		select {
		case h.notify <- struct{}{}:
		default:
		}
	}
}

type modelSender struct {
	*host
	session Session
	port    uint16
}

func (h *host) dial(s *Session, port uint16) (sender, int, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	switch {
	case h.refuses != nil:
		return nil, 0, h.refuses
	case h.busy[port]:
		return nil, 0, unix.EADDRINUSE
	}
	ifindex := 0
	if s.Interface != "" {
		ifindex = 7
	}
	return &modelSender{h, *s, port}, ifindex, nil
}

func (s *modelSender) close() {}

func (s *modelSender) send(b []byte) error {
	m := s.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if s.breaks != nil {
		return s.breaks
	}
	c, verdict := packet.Parse(b)
	if verdict != packet.Accepted {
		panic(fmt.Sprintf("sent a packet that is %s", verdict))
	}
	m.sent[s.addr] = append(m.sent[s.addr], record{time.Now(), s.port, c})
	peer := s.session.Peer
	to := m.hosts[peer]
	if to == nil || m.lost(s.addr, peer) {
		return nil
	}
	d := datagram{payload: append([]byte(nil), b...), src: s.addr, dst: peer, ifindex: 7, ttl: 255}
	time.AfterFunc(m.delay, func() { to.deliver(d) })
	return nil
}

// pair are two Speakers with a session between them.
type pair struct {
	*model
	t      *testing.T
	a, b   *host
	sa, sb *Speaker
	toB    Session // a's
	toA    Session
}

func newPair(t *testing.T) *pair {
	p := &pair{model: newModel(), t: t}
	p.a, p.b = p.host("192.0.2.1"), p.host("192.0.2.2")
	p.sa, p.sb = newSpeaker(p.a), newSpeaker(p.b)
	p.toB = Session{Peer: p.b.addr, MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
	p.toA = Session{Peer: p.a.addr, MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
	return p
}

func (p *pair) up() {
	p.t.Helper()
	set(p.t, p.sa, p.toB)
	set(p.t, p.sb, p.toA)
	time.Sleep(2 * time.Second)
	for _, s := range []*Speaker{p.sa, p.sb} {
		if st := s.Status(); len(st) != 1 || st[0].State != packet.Up {
			p.t.Fatalf("not up: %+v", st)
		}
	}
}

func (p *pair) close() {
	p.sa.Close()
	p.sb.Close()
	synctest.Wait()
}

func set(t testing.TB, s *Speaker, wanted ...Session) {
	t.Helper()
	if err := s.Set(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
}

func (m *model) lose(from ...netip.Addr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = func(src, _ netip.Addr) bool {
		for _, a := range from {
			if a == src {
				return true
			}
		}
		return false
	}
}

// sentBy returns what a host has sent so far.
func (m *model) sentBy(a netip.Addr) []record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent[a])
}
