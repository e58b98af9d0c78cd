package bgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

// fakeRouter listens on a loopback address, of which a peer must have one for itself, and does with each connection what the test
// says.
type fakeRouter struct {
	address     netip.AddrPort
	connections atomic.Int32
}

func fake(t testing.TB, serve func(c net.Conn)) *fakeRouter { return fakeAt(t, "127.0.0.2", serve) }

func fakeAt(t testing.TB, address string, serve func(c net.Conn)) *fakeRouter {
	t.Helper()
	netlab.Here(t)
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f := &fakeRouter{address: l.Addr().(*net.TCPAddr).AddrPort()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.connections.Add(1)
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return f
}

func (f *fakeRouter) peer() plan.Peer {
	p := peerOf("fake", f.address.String())
	p.Session.ConnectRetryTime, p.Session.RestartTime, p.Session.MaxPrefixes = 1, 60, 20000
	return p
}

// message returns a BGP message of a type.
func message(kind byte, body []byte) []byte {
	m := bytes.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
	return append(append(m, kind), body...)
}

// openMessage is an OPEN of AS 64500 with a hold time and, as optional parameters, bytes.
func openMessage(version byte, hold uint16, parameters []byte) []byte {
	body := []byte{version, 64500 >> 8, 64500 & 0xff, byte(hold >> 8), byte(hold), 10, 255, 0, 1, byte(len(parameters))}
	return message(bgp.BGP_MSG_OPEN, append(body, parameters...))
}

func keepalive() []byte { return message(bgp.BGP_MSG_KEEPALIVE, nil) }

// handshake exchanges OPENs and KEEPALIVEs, after which the session is established.
func handshake(c net.Conn) {
	_, _ = c.Write(openMessage(4, 90, nil))
	_, _ = c.Write(keepalive())
	time.Sleep(50 * time.Millisecond) // what follows is for the established session
}

// updateMessage is an UPDATE with path attributes and prefixes of 24 bits from 20.0.0.0 on.
func updateMessage(attributes []byte, first, n int) []byte {
	body := []byte{0, 0}
	body = binary.BigEndian.AppendUint16(body, uint16(len(attributes)))
	body = append(body, attributes...)
	for i := first; i < first+n; i++ {
		body = append(body, 24, byte(20+i>>16), byte(i>>8), byte(i))
	}
	return message(bgp.BGP_MSG_UPDATE, body)
}

// goodAttributes are ORIGIN, AS_PATH 64500 (two octets: the fake has no capabilities) and NEXT_HOP.
func goodAttributes() []byte {
	return []byte{0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, 64500 >> 8, 64500 & 0xff, 0x40, 3, 4, 127, 0, 0, 2}
}

// Whatever a router sends, the speaker goes on, has the session with another one, counts and says what happened, and tries
// again.
func TestBadRouters(t *testing.T) {
	quiet := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	write := func(b ...[]byte) func(net.Conn) {
		return func(c net.Conn) {
			for _, m := range b {
				_, _ = c.Write(m)
			}
			quiet(c)
		}
	}
	established := func(b ...[]byte) func(net.Conn) {
		return func(c net.Conn) { handshake(c); write(b...)(c) }
	}
	wrongMarker := keepalive()
	wrongMarker[3] = 0
	long := keepalive()
	long[16], long[17] = 0xff, 0xff
	for name, tt := range map[string]struct {
		serve   func(net.Conn)
		failure Failure
		words   string
	}{
		"nothing":                {quiet, "", "does not send an OPEN"},
		"closes at once":         {func(net.Conn) {}, FailedClosed, "closed it at once"},
		"noise":                  {write(bytes.Repeat([]byte("HTTP/1.1 400 Bad Request\r\n"), 1000)), FailedSent, "Message Header Error"},
		"wrong marker":           {write(wrongMarker), FailedSent, "Message Header Error"},
		"too long a message":     {write(long), FailedSent, "Message Header Error"},
		"BGP version 3":          {write(openMessage(3, 90, nil)), FailedSent, "OPEN Message Error"},
		"hold time of a second":  {write(openMessage(4, 1, nil)), FailedSent, "OPEN Message Error"},
		"parameters cut short":   {write(openMessage(4, 90, []byte{2, 200, 1, 4})), FailedSent, "NOTIFICATION"},
		"nothing after an OPEN":  {write(openMessage(4, 90, nil)), FailedHoldTimer, "hold timer expired"},
		"KEEPALIVE for an OPEN":  {write(keepalive()), FailedReceived, "NOTIFICATION"},
		"UPDATE for an OPEN":     {write(updateMessage(goodAttributes(), 0, 1)), FailedSent, "NOTIFICATION"},
		"unknown type":           {write(message(77, nil)), FailedSent, "NOTIFICATION"},
		"noise in the session":   {established(bytes.Repeat([]byte{1}, 100)), FailedSent, "Message Header Error"},
		"attributes too long":    {established(message(bgp.BGP_MSG_UPDATE, []byte{0, 0, 0xff, 0xff})), FailedSent, "UPDATE Message Error"},
		"withdrawals too long":   {established(message(bgp.BGP_MSG_UPDATE, []byte{0xff, 0xff, 0, 0})), FailedSent, "UPDATE Message Error"},
		"prefix of 33 bits":      {established(message(bgp.BGP_MSG_UPDATE, []byte{0, 6, 33, 1, 2, 3, 4, 5, 0, 0})), FailedSent, "UPDATE Message Error"},
		"NOTIFICATION":           {established(message(bgp.BGP_MSG_NOTIFICATION, []byte{6, 2})), FailedReceived, "Administrative Shutdown"},
		"NOTIFICATION cut short": {established(message(bgp.BGP_MSG_NOTIFICATION, []byte{6})), FailedSent, "NOTIFICATION"},
		"goes in the middle":     {func(c net.Conn) { handshake(c); _, _ = c.Write(keepalive()[:10]) }, FailedConnectionLost, "the connection broke"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietSpeaker(t)
			good := fake(t, func(c net.Conn) {
				handshake(c)
				for {
					if _, err := c.Write(keepalive()); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			bad := fake(t, tt.serve)
			gp := good.peer()
			gp.Name, gp.Session.PeerASN = "good", 64500
			bp := bad.peer()
			bp.Session.HoldTime, bp.Session.KeepaliveTime = 3, 1
			// Two routers at one loopback address differ by port only: gobgp knows them by address.
			gp.Session.Address = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), relay(t, "127.0.0.1", good.address))
			set(t, s, wanted([]plan.Peer{bp, gp}, "192.0.2.1/32"))
			netlab.Eventually(t, "the good session is established", func() bool { st := statusOf(s, "good"); return st.Established() })
			since := statusOf(s, "good").Since
			says(t, s, "fake", tt.words)
			if tt.failure != "" {
				netlab.Eventually(t, "it is tried again and counted", func() bool {
					return bad.connections.Load() >= 2 && s.Failures()["fake"][tt.failure] > 0
				})
			}
			if st := statusOf(s, "good"); !st.Established() || st.Since != since {
				t.Errorf("the good router suffers: %+v", st)
			}
		})
	}
}

// A speaker that ends while it gets OPENs has ended its attempts before gobgp clears what they read (the race detector sees it
// if not), and makes no more.
func TestCloseWhileConnecting(t *testing.T) {
	for name, end := range map[string]func(*Speaker){"close": (*Speaker).Close, "suspend": (*Speaker).Suspend} {
		t.Run(name, func(t *testing.T) {
			const routers = 20
			var peers []plan.Peer
			var connections atomic.Int32
			opens := make(chan struct{}, 10*routers)
			answer := make(chan struct{})
			for i := range routers {
				address := fmt.Sprintf("127.0.0.%d", 10+i)
				f := fake(t, func(c net.Conn) {
					connections.Add(1)
					_, _ = io.ReadFull(c, make([]byte, 19))
					opens <- struct{}{}
					<-answer
					time.Sleep(time.Duration(i) * 50 * time.Microsecond)
					_, _ = c.Write(openMessage(4, 1, nil)) // a hold time of a second: refused
				})
				p := f.peer()
				p.Name, p.Session.Address = address, netip.AddrPortFrom(netip.MustParseAddr(address), relay(t, address, f.address))
				peers = append(peers, p)
			}
			s := newQuietSpeaker(t)
			set(t, s, wanted(peers, "192.0.2.1/32"))
			for range routers {
				<-opens
			}
			close(answer)
			end(s)
			time.Sleep(1500 * time.Millisecond) // more than the time between two attempts
			if n := connections.Load(); n != routers {
				t.Errorf("%d connections after the end", n-routers)
			}
		})
	}
}

// relay listens at an address and passes connections on.
func relay(t *testing.T, at string, to netip.AddrPort) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", at+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to.String())
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func newQuietSpeaker(t testing.TB) *Speaker {
	s := New(Config{Log: slog.New(slog.DiscardHandler), LeaveTime: DefaultLeaveTime})
	t.Cleanup(s.Close)
	return s
}

// A router that sends a million routes is cut off at the limit: memory stays bounded, none of them is used, and when it
// sends less it is welcome again.
func TestMillionRoutes(t *testing.T) {
	const total, perMessage = 1_000_000, 800
	var sent, sessions atomic.Int64
	f := fake(t, func(c net.Conn) {
		handshake(c)
		total := total
		if sessions.Add(1) > 1 {
			total = perMessage
		}
		for i := 0; i < total; i += perMessage {
			if _, err := c.Write(updateMessage(goodAttributes(), i, perMessage)); err != nil {
				return
			}
			sent.Add(perMessage)
		}
		_, _ = io.Copy(io.Discard, c)
	})
	runtime.GC()
	debug.FreeOSMemory()
	before := rss(t)
	s := newQuietSpeaker(t)
	s.limitPause = 4 * time.Second
	set(t, s, wanted([]plan.Peer{f.peer()}, "192.0.2.1/32"))
	top, limited := uint64(0), false
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && !limited; time.Sleep(20 * time.Millisecond) {
		top = max(top, rss(t))
		limited = strings.Contains(statusOf(s, "fake").LastError, "more than 20000 routes")
	}
	if !limited {
		t.Fatalf("the session does not end at the limit: %+v", s.Status())
	}
	for range 50 {
		top = max(top, rss(t))
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("RSS %d kB before, %d kB at most; the router got rid of %d routes", before, top, sent.Load())
	if top > before+300<<10 { // a million would take a gigabyte; the race detector takes five times the usual
		t.Errorf("RSS went from %d kB to %d kB", before, top)
	}
	if n := s.Failures()["fake"][FailedPrefixLimit]; n == 0 {
		t.Error("the failure is not counted")
	}
	if st := statusOf(s, "fake"); st.Established() {
		t.Errorf("status %+v", st)
	}
	if n := sessions.Load(); n != 1 {
		t.Errorf("%d sessions before the pause was over", n)
	}
	netlab.Eventually(t, "it is tried again", func() bool { st := statusOf(s, "fake"); return st.Established() })
}

// A session that begins anew before the pause is over, because of BFD, is left alone when it is.
func TestPauseIsOver(t *testing.T) {
	const limit = 100
	var sessions atomic.Int64
	f := fake(t, func(c net.Conn) {
		handshake(c)
		n := limit
		if sessions.Add(1) == 1 {
			n++
		}
		_, _ = c.Write(updateMessage(goodAttributes(), 0, n))
		_, _ = io.Copy(io.Discard, c)
	})
	p := f.peer()
	p.Session.MaxPrefixes, p.BFD.Enabled = limit, true
	s := newQuietSpeaker(t)
	s.limitPause = 4 * time.Second
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	says(t, s, "fake", "more than 100 routes")
	begun := time.Now()
	router := p.Session.Address.Addr()
	s.SetPath(router, PathUp)
	s.SetPath(router, PathDown)
	netlab.Eventually(t, "the session is established", func() bool { st := statusOf(s, "fake"); return st.Established() })
	since := statusOf(s, "fake").Since
	if took := time.Since(begun); took > s.limitPause {
		t.Fatalf("it took %s, which is longer than the pause", took)
	}
	time.Sleep(s.limitPause)
	if st := statusOf(s, "fake"); st.Since != since || sessions.Load() != 2 {
		t.Errorf("%d sessions, %+v", sessions.Load(), st)
	}
}

// What is below the limit is held and counted, and not passed on to anybody.
func TestReceivedRoutesAreNotUsed(t *testing.T) {
	f := fake(t, func(c net.Conn) {
		handshake(c)
		for i := range 10 {
			_, _ = c.Write(updateMessage(goodAttributes(), i*100, 100))
		}
		_, _ = io.Copy(io.Discard, c)
	})
	other := connected(t, 0)
	other.start(fmt.Sprintf(birdSession, ""))
	s := newQuietSpeaker(t)
	set(t, s, wanted([]plan.Peer{f.peer(), peerOf("tor", "10.0.0.254:179")}, "192.0.2.1/32"))
	netlab.Eventually(t, "the routes are counted", func() bool {
		return slices.ContainsFunc(s.Traffic(), func(tr Traffic) bool { return tr.Peer == "fake" && tr.Prefixes4 == 1000 && tr.UpdatesReceived == 10 })
	})
	other.has("192.0.2.1/32 via 10.0.0.1")
}

// rss returns the resident memory of this process in kB.
func rss(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident uint64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * uint64(os.Getpagesize()) / 1024
}
