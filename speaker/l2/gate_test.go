package l2

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/link"
	"github.com/seamark-io/seamark/speaker/plan"
)

// door is a Gate that a test opens.
type door struct{ open atomic.Bool }

func (d *door) MayAnswer(netip.Addr) bool { return d.open.Load() }

// As long as the gate is closed nothing is answered and nothing announced; when it opens, both, as soon as that is told.
func TestGate(t *testing.T) {
	here, client, l := lan(t)
	gate := &door{}
	s := New(Config{Gate: gate, Neighbour: link.Neighbour})
	t.Cleanup(s.Close)
	set(t, s, l, vip4, vip6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if got := resolve(client, vip); strings.Contains(got, "lladdr") {
			t.Errorf("%s is answered for: %s", vip, got)
		}
	}
	arp, ndp := s.Stats()
	if arp.Replies+ndp.Replies+arp.Gratuitous+ndp.Gratuitous > 0 || arp.Dropped[respond.Fenced] == 0 || ndp.Dropped[respond.Fenced] == 0 {
		t.Errorf("statistics %+v %+v", arp, ndp)
	}

	client.Run("ip neigh replace 10.0.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud reachable")
	client.Run("ip neigh replace fd00::100 lladdr 02:00:00:00:00:99 dev eth0 nud reachable")
	gate.open.Store(true)
	s.Announce(vip4, vip6, netip.MustParseAddr("10.0.0.101")) // the last is none of ours
	for _, vip := range []netip.Addr{vip4, vip6} {
		netlab.Eventually(t, "the entry moves", func() bool { return strings.Contains(neighbour(client, vip), here.MAC("eth0")) })
	}
	gate.open.Store(false)
	before, _ := s.Stats()
	time.Sleep(1500 * time.Millisecond) // one repeat at least
	if after, _ := s.Stats(); after.Gratuitous != before.Gratuitous {
		t.Errorf("announced with the gate closed")
	}
}

// The default gateway hears of an address by a frame of its own, before all others.
func TestGatewayFirst(t *testing.T) {
	here, client, l := lan(t)
	conn := rawSocket(t, linkOf(t, "eth0")) // sees what is sent as well
	gateways := []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("10.0.0.3")}
	for _, g := range gateways {
		resolve(here, g)
	}
	router := client.MAC("eth0")
	s := newSpeaker(t)
	wanted := []plan.L2{{Addr: vip4, Link: l}, {Addr: vip6, Link: l}}
	if err := s.Set(t.Context(), wanted, plan.Neighbours{Gateways: gateways}); err != nil {
		t.Fatal(err)
	}
	var to4, to6 []string
	buf := make([]byte, 2048)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for len(to4) < 3 || len(to6) < 2 {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatalf("%v: sent so far %v, %v", err, to4, to6)
		}
		dst := plan.MAC(buf[:6]).String()
		if a, err := packet.ParseARP(buf[:n]); err == nil && a.Sender == vip4 {
			to4 = append(to4, dst)
		}
		if a, err := packet.ParseAdvertisement(buf[:n]); err == nil && a.Target == vip6 {
			to6 = append(to6, dst)
		}
	}
	if want := router + " ff:ff:ff:ff:ff:ff ff:ff:ff:ff:ff:ff"; strings.Join(to4, " ") != want {
		t.Errorf("ARP went to %v, want %s", to4, want)
	}
	if want := router + " 33:33:00:00:00:01"; strings.Join(to6, " ") != want {
		t.Errorf("NDP went to %v, want %s", to6, want)
	}
}

// The whole way of an answer, from the frame to the kernel, makes no garbage.
func TestAnswerAllocatesNothing(t *testing.T) {
	_, _, l := lan(t)
	gate := &door{}
	gate.open.Store(true)
	sh := New(Config{Gate: gate}).shared
	for _, key := range []segment{{l, arp}, {l, ndp}} {
		li, err := listen(key, sh)
		if err != nil {
			t.Fatal(err)
		}
		owned := respond.Owned{}
		a := netip.MustParseAddr("10.1.0.0")
		if key.proto == ndp {
			a = netip.MustParseAddr("fd00:1::")
		}
		for len(owned) < 10000 {
			owned[a] = struct{}{}
			a = a.Next()
		}
		li.owned.Store(&owned)
		a = a.Prev()
		var frame []byte
		if key.proto == arp {
			frame = packet.AppendProbe(nil, [6]byte{2, 9}, a)
		} else {
			frame = packet.AppendDetection(nil, [6]byte{2, 9}, a)
		}
		out := li.socket.sender(false, sh.mayAnswer)
		before := sh.stats[key.proto].read()
		if n := testing.AllocsPerRun(1000, func() { li.handle(frame, out) }); n != 0 {
			t.Errorf("%s: %v allocations", key.proto, n)
		}
		after := sh.stats[key.proto].read()
		if after.Replies-before.Replies < 1000 || after.SendErrors > 0 {
			t.Errorf("%s: %+v", key.proto, after)
		}
		li.close()
	}
}

// An answer that was let pass, and had to wait until others had used the socket, is not sent when the gate has closed meanwhile.
func TestGateClosesWhileAnAnswerWaits(t *testing.T) {
	_, _, l := lan(t)
	gate := &door{}
	gate.open.Store(true)
	sh := New(Config{Gate: gate}).shared
	li, err := listen(segment{l, arp}, sh)
	if err != nil {
		t.Fatal(err)
	}
	defer li.close()
	li.owned.Store(&respond.Owned{vip4: {}})
	busy, free, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		_ = li.socket.raw.Write(func(uintptr) bool { close(busy); <-free; return true })
	}()
	<-busy
	go func() {
		defer close(answered)
		li.handle(packet.AppendProbe(nil, [6]byte{2, 9}, vip4), li.socket.sender(false, sh.mayAnswer))
	}()
	netlab.Eventually(t, "the request is at work", func() bool { return sh.stats[arp].read().Requests == 1 })
	time.Sleep(20 * time.Millisecond) // it comes to the socket
	gate.open.Store(false)
	close(free)
	<-answered
	if got := sh.stats[arp].read(); got.Replies != 0 || got.Dropped[respond.Fenced] != 1 {
		t.Errorf("%+v", got)
	}
}

// thinking is a Gate that takes its time.
type thinking struct{ asked, told chan struct{} }

func (g *thinking) MayAnswer(netip.Addr) bool {
	close(g.asked)
	<-g.told
	return true
}

// Settle waits for an answer that is on its way to the kernel, and for nothing else.
func TestSettle(t *testing.T) {
	_, _, l := lan(t)
	gate := &thinking{make(chan struct{}), make(chan struct{})}
	s := New(Config{Gate: gate})
	li, err := listen(segment{l, arp}, s.shared)
	if err != nil {
		t.Fatal(err)
	}
	defer li.close()
	s.shared.live.Store(&[]*listener{li})
	li.owned.Store(&respond.Owned{vip4: {}})
	s.Settle()
	answered, settled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(answered)
		li.handle(packet.AppendProbe(nil, [6]byte{2, 9}, vip4), li.senders[0])
	}()
	<-gate.asked
	go func() {
		defer close(settled)
		s.Settle()
	}()
	select {
	case <-settled:
		t.Error("it did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(gate.told)
	<-settled
	<-answered
	if got := s.shared.stats[arp].read(); got.Replies != 1 {
		t.Errorf("%+v", got)
	}
}

// A filter that the kernel refuses is tried again, also when the addresses stay the same.
func TestFilterIsTriedAgain(t *testing.T) {
	_, _, l := lan(t)
	li, err := listen(segment{l, arp}, New(Config{}).shared)
	if err != nil {
		t.Fatal(err)
	}
	defer li.close()
	working := li.socket.conn
	broken, err := open(segment{l, arp})
	if err != nil {
		t.Fatal(err)
	}
	_ = broken.conn.Close()
	owned := respond.Owned{vip4: {}}
	li.socket.conn = broken.conn
	if err := li.set(owned, nil); err == nil || !strings.Contains(err.Error(), "set socket filter") {
		t.Fatalf("error %v", err)
	}
	li.socket.conn = working
	if err := li.set(owned, nil); err != nil || !li.filtered {
		t.Errorf("again: %v", err)
	}
}
