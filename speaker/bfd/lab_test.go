package bfd

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// params are what both routers are configured with, for each session.
type params struct {
	tx, rx time.Duration
	mult   int
	// disabled: the sessions are administratively down.
	disabled bool
}

// router is the other side of a test: what it shows is what a network would see.
type router interface {
	name() string
	// start runs the router; configure changes its parameters while it runs.
	start(params)
	configure(params)
	// stop ends it in order, kill does not. signal freezes and thaws it.
	stop()
	kill()
	signal(syscall.Signal)
	// views are what it says of its sessions, by this end's addresses.
	views() map[netip.Addr]view
}

type view struct {
	up bool
	// detection is the time after which it gives this end up.
	detection time.Duration
	// diag is what this end last said of itself, in the router's words; empty if the router does not show it.
	diag string
}

// lan is this host (10.0.0.1, fd00::1, fe80::1) and a router (.254, ::fe) with a switch between them, which can cut them
// off from each other without either losing the carrier.
type lan struct {
	t                    testing.TB
	here, router, bridge *netlab.Host
}

func newLAN(t testing.TB) *lan {
	l := &lan{t: t, here: netlab.Here(t), router: netlab.New(t), bridge: netlab.New(t)}
	netlab.Link(l.here, "eth0", l.bridge, "p1")
	netlab.Link(l.router, "eth0", l.bridge, "p2")
	l.bridge.Run("ip link add br0 type bridge")
	l.bridge.Run("ip link set br0 up")
	for _, port := range []string{"p1", "p2"} {
		l.bridge.Run("ip link set " + port + " master br0")
	}
	for _, prefix := range []string{"10.0.0.1/24", "fd00::1/64", "fe80::1/64"} {
		l.here.Addr("eth0", prefix)
	}
	for _, prefix := range []string{"10.0.0.254/24", "fd00::fe/64", "fe80::fe/64"} {
		l.router.Addr("eth0", prefix)
	}
	return l
}

func (l *lan) cut()  { l.bridge.Run("ip link set p2 nomaster") }
func (l *lan) heal() { l.bridge.Run("ip link set p2 master br0") }

// locals are this host's addresses, in the order of Status.
var locals = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1")}

// sessions are those with the router of a lan in all families.
func sessions(tx, rx time.Duration, mult uint8) []Session {
	s := Session{Peer: netip.MustParseAddr("10.0.0.254"), MinTx: tx, MinRx: rx, Multiplier: mult}
	s6, ll := s, s
	s6.Peer, s6.Local = netip.MustParseAddr("fd00::fe"), locals[1]
	ll.Peer, ll.Local, ll.Interface = netip.MustParseAddr("fe80::fe"), locals[2], "eth0"
	return []Session{s, s6, ll}
}

func program(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := exec.LookPath(path); err != nil {
			t.Fatalf("needs %s (hack/install-packages)", path)
		}
	}
}

// process is a daemon of a router.
type process struct{ cmd *exec.Cmd }

func startProcess(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd}
	t.Cleanup(p.kill)
	return p
}

func (p *process) end(sig syscall.Signal) {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(sig)
		_ = p.cmd.Wait()
	}
}

func (p *process) kill() { p.end(syscall.SIGKILL) }

// all waits until every session, of this end and of the router, is as wanted.
func all(t testing.TB, what string, s *Speaker, r router, ours func(*Status) bool, theirs func(view) bool) {
	t.Helper()
	defer func() {
		if t.Failed() {
			for i, st := range s.Status() {
				t.Logf("%+v\n%s: %+v", st, r.name(), r.views()[locals[i]])
			}
			t.Logf("%+v", s.Stats())
		}
	}()
	netlab.Eventually(t, what, func() bool {
		views := r.views()
		for i, st := range s.Status() {
			if !ours(&st) || !theirs(views[locals[i]]) {
				return false
			}
		}
		return true
	})
}

func isUp(st *Status) bool { return st.State == packet.Up }
func isDown(v view) bool   { return !v.up }

// against runs the tests that every router must pass. The intervals are those of the product where a failure is to be
// seen, and so long where a session is to survive that a busy machine does not end it.
func against(t *testing.T, newRouter func(*lan) router) {
	t.Run("up and down", func(t *testing.T) { testUpAndDown(t, newRouter) })
	t.Run("cut", func(t *testing.T) { testCut(t, newRouter) })
	t.Run("timers", func(t *testing.T) { testTimers(t, newRouter) })
	t.Run("router ends", func(t *testing.T) { testRouterEnds(t, newRouter) })
}

func begin(t *testing.T, newRouter func(*lan) router) (*lan, router, *Speaker) {
	l := newLAN(t)
	s := New()
	t.Cleanup(s.Close)
	return l, newRouter(l), s
}

func testUpAndDown(t *testing.T, newRouter func(*lan) router) {
	_, r, s := begin(t, newRouter)
	set(t, s, sessions(200*ms, 250*ms, 5)...)
	netlab.Eventually(t, "the peer's silence is explained", func() bool {
		for _, st := range s.Status() {
			if st.Problem != "the peer does not listen for BFD (UDP port 3784 unreachable)" {
				return false
			}
		}
		return true
	})
	r.start(params{tx: 300 * ms, rx: 100 * ms, mult: 4})
	all(t, "all are up and agree", s, r, func(st *Status) bool {
		return isUp(st) && st.TxInterval == 200*ms && st.RxInterval == 300*ms && st.DetectionTime == 1200*ms && st.Problem == ""
	}, func(v view) bool { return v.up && v.detection == time.Second })

	// The end is told, and is no failure to this end's next life.
	set(t, s)
	netlab.Eventually(t, "the router hears the end", func() bool {
		for _, v := range r.views() {
			if v.up || v.diag != "" && v.diag != "administratively down" {
				return false
			}
		}
		return true
	})
	set(t, s, sessions(200*ms, 250*ms, 5)...)
	all(t, "all are up again", s, r, isUp, func(v view) bool { return v.up })
	if st := s.Stats(); st.SendErrors != 0 || st.Dropped[packet.Routed] != 0 || st.Dropped[packet.BadVersion] != 0 {
		t.Errorf("%+v", st)
	}
}

func testCut(t *testing.T, newRouter func(*lan) router) {
	l, r, s := begin(t, newRouter)
	r.start(params{tx: 50 * ms, rx: 50 * ms, mult: 3})
	set(t, s, sessions(50*ms, 50*ms, 3)...)
	for _, how := range []struct {
		name        string
		break_, fix func()
		seenByPeer  bool
	}{
		{"link cut", l.cut, l.heal, true},
		{"router frozen", func() { r.signal(syscall.SIGSTOP) }, func() { r.signal(syscall.SIGCONT) }, false},
	} {
		all(t, "all are up at full rate", s, r, func(st *Status) bool { return isUp(st) && st.DetectionTime == 150*ms },
			func(v view) bool { return v.up && v.detection == 150*ms })
		before := time.Now()
		how.break_()
		after := time.Now()
		netlab.Eventually(t, how.name+" is seen", func() bool {
			for _, st := range s.Status() {
				if st.State == packet.Up || !st.Failed {
					return false
				}
			}
			return true
		})
		for _, st := range s.Status() {
			took := st.LastDown.At.Sub(before)
			t.Logf("%s: %s gave %s up after %s to %s (%s)", how.name, "this end", st.Session.Peer, st.LastDown.At.Sub(after).Round(ms), took.Round(ms), st.LastDown.Diag)
			if took > 2*time.Second {
				t.Errorf("%s: %s was noticed after %s", how.name, st.Session.Peer, took)
			}
		}
		if how.seenByPeer {
			netlab.Eventually(t, how.name+" is seen by the router", func() bool {
				views := r.views()
				return !slices.ContainsFunc(locals, func(a netip.Addr) bool { return views[a].up })
			})
			took := time.Since(before)
			t.Logf("%s: %s gave all up after at most %s", how.name, r.name(), took.Round(ms))
			if took > 3*time.Second {
				t.Errorf("%s: %s noticed after %s", how.name, r.name(), took)
			}
		}
		how.fix()
		all(t, "all are up again", s, r, func(st *Status) bool { return isUp(st) && !st.Failed && st.Downs > 0 }, func(v view) bool { return v.up })
	}
}

func testTimers(t *testing.T, newRouter func(*lan) router) {
	_, r, s := begin(t, newRouter)
	now := params{tx: 200 * ms, rx: 200 * ms, mult: 5}
	r.start(now)
	set(t, s, sessions(200*ms, 200*ms, 5)...)
	all(t, "all are up", s, r, isUp, func(v view) bool { return v.up })
	downs := func() (n uint64) {
		for _, st := range s.Status() {
			n += st.Downs
		}
		return n
	}
	before := downs()
	agree := func(tx, rx time.Duration, mult uint8) {
		t.Helper()
		all(t, fmt.Sprintf("all agree on %s %s %d", tx, rx, mult), s, r, func(st *Status) bool {
			return isUp(st) && st.TxInterval == max(tx, now.rx) && st.DetectionTime == time.Duration(now.mult)*max(rx, now.tx)
		}, func(v view) bool { return v.up && v.detection == time.Duration(mult)*max(tx, now.rx) })
	}
	for _, c := range []struct {
		tx, rx time.Duration
		mult   uint8
	}{{600 * ms, 200 * ms, 5}, {200 * ms, 500 * ms, 5}, {400 * ms, 250 * ms, 4}} {
		set(t, s, sessions(c.tx, c.rx, c.mult)...)
		agree(c.tx, c.rx, c.mult)
	}
	for _, c := range []params{{tx: 700 * ms, rx: 200 * ms, mult: 5}, {tx: 300 * ms, rx: 600 * ms, mult: 6}} {
		now = c
		r.configure(c)
		agree(400*ms, 250*ms, 4)
	}
	if downs() != before {
		t.Errorf("sessions went down while timers changed: %+v", s.Status())
	}
}

func testRouterEnds(t *testing.T, newRouter func(*lan) router) {
	_, r, s := begin(t, newRouter)
	p := params{tx: 100 * ms, rx: 100 * ms, mult: 3}
	r.start(p)
	set(t, s, sessions(100*ms, 100*ms, 3)...)
	up := func() {
		t.Helper()
		all(t, "all are up", s, r, isUp, func(v view) bool { return v.up })
	}
	up()
	r.kill()
	netlab.Eventually(t, "the crash is seen", func() bool {
		for _, st := range s.Status() {
			if !st.Failed {
				return false
			}
		}
		return true
	})
	r.start(p)
	up()
	first := s.Status()[0].RemoteDiscriminator
	r.stop() // in order, and back at once
	r.start(p)
	netlab.Eventually(t, "the router is another one", func() bool { return s.Status()[0].RemoteDiscriminator != first })
	up()
}

// ask sends a line to a daemon's socket and returns what comes back up to the end of an answer.
func ask(socket, line string, end func(string) bool) string {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second)) // it may be frozen
	if _, err := conn.Write([]byte(line)); err != nil {
		return ""
	}
	var out strings.Builder
	buf := make([]byte, 4096)
	for !end(out.String()) {
		n, err := conn.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			return ""
		}
	}
	return out.String()
}
