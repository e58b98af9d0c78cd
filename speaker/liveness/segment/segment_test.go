package segment

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

func TestMain(m *testing.M) { netlab.Main(m) }

var vip = netip.MustParseAddr("10.0.0.100")

func keysOf(t testing.TB, send string, accept ...string) *wire.Keys {
	t.Helper()
	secret := func(s string) []byte { return bytes.Repeat([]byte(s), 16) }
	var others [][]byte
	for _, a := range accept {
		others = append(others, secret(a))
	}
	k, err := wire.NewKeys("10.0.0.0/24", secret(send), others...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// lan is as many interfaces of this host as there are nodes, eth0 and so on, on one switch.
type lan struct {
	t        testing.TB
	host, sw *netlab.Host
	segments []*Segment
	cancel   []context.CancelFunc
	ended    []chan error
}

func newLAN(t testing.TB, nodes int, change ...func(*Config)) *lan {
	t.Helper()
	l := &lan{t: t, host: netlab.Here(t), sw: netlab.New(t)}
	l.sw.Run("ip link add br0 type bridge")
	l.sw.Run("ip link set br0 up")
	for i := range nodes {
		name := fmt.Sprintf("eth%d", i)
		netlab.Link(l.host, name, l.sw, name)
		l.sw.Run("ip link set " + name + " master br0")
		c := l.config(i)
		for _, f := range change {
			f(&c)
		}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.SetMembers(l.names(nodes))
		l.segments = append(l.segments, s)
		l.cancel, l.ended = append(l.cancel, nil), append(l.ended, nil)
	}
	return l
}

func (l *lan) config(i int) Config {
	l.t.Helper()
	ifi, err := net.InterfaceByName(fmt.Sprintf("eth%d", i))
	if err != nil {
		l.t.Fatal(err)
	}
	loop, err := NewLoop(slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- loop.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Error(err)
		}
	})
	return Config{
		Loop:      loop,
		Member:    liveness.Config{Segment: "10.0.0.0/24", Node: fmt.Sprintf("node%d", i)},
		Interface: ifi, Keys: keysOf(l.t, "k"), Log: slog.New(slog.DiscardHandler),
	}
}

func (l *lan) names(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("node%d", i))
	}
	return out
}

// start runs a node until the test ends, or stop.
func (l *lan) start(i int) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.cancel[i], l.ended[i] = cancel, ended
	go func() { ended <- l.segments[i].Run(ctx) }()
	l.t.Cleanup(func() { l.stop(i) })
}

func (l *lan) stop(i int) {
	if l.cancel[i] == nil {
		return
	}
	l.cancel[i]()
	l.cancel[i] = nil
	if err := <-l.ended[i]; err != nil {
		l.t.Errorf("node%d: %v", i, err)
	}
}

// owners are the nodes that may answer. They are asked one after the other, so two of them is a violation only if the
// first still may.
func (l *lan) owners() []int {
	var out []int
	for i, s := range l.segments {
		if s.MayAnswer(vip) {
			out = append(out, i)
		}
	}
	if len(out) > 1 {
		still := slices.DeleteFunc(slices.Clone(out), func(i int) bool { return !l.segments[i].MayAnswer(vip) })
		if len(still) > 1 {
			l.t.Errorf("owners %v", out)
		}
	}
	return out
}

func (l *lan) ownedBy(i int) {
	l.t.Helper()
	netlab.Eventually(l.t, fmt.Sprintf("node%d holds the address", i), func() bool { return slices.Equal(l.owners(), []int{i}) })
}

func want(addrs ...netip.Addr) []liveness.Want {
	var out []liveness.Want
	for _, a := range addrs {
		out = append(out, liveness.Want{Addr: a})
	}
	return out
}

func aliveAre(names ...string) func(*liveness.View) bool {
	return func(v *liveness.View) bool { return slices.Equal(v.Alive(), names) }
}

// Three nodes hear each other; the address goes from one to the next when the first is stopped, and the View says so.
func TestThreeNodes(t *testing.T) {
	l := newLAN(t, 3)
	for i := range 3 {
		l.start(i)
	}
	for _, s := range l.segments {
		netlab.Eventually(t, "all are alive", func() bool { return aliveAre("node0", "node1", "node2")(s.View()) })
	}
	select {
	case <-l.segments[0].Changed():
	default:
		t.Error("nobody was told of the View")
	}
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	l.segments[1].Set(want(vip))
	netlab.Eventually(t, "the holder knows who waits", func() bool {
		a, _ := l.segments[0].View().Address(vip)
		return a.Contender == "node1"
	})
	l.segments[0].Set(nil)
	if l.segments[0].MayAnswer(vip) {
		t.Error("answers after it was let go")
	}
	l.ownedBy(1)
	// It says that it goes: nobody waits for the detection time.
	l.segments[2].Set(want(vip))
	l.stop(1)
	if l.segments[1].MayAnswer(vip) {
		t.Error("answers after its end")
	}
	l.ownedBy(2)
	netlab.Eventually(t, "it is not alive any more", func() bool { return aliveAre("node0", "node2")(l.segments[0].View()) })
	st := l.segments[0].Stats()
	if st.Sent == 0 || st.Dropped[liveness.Used] == 0 || st.SentBytes < 100*st.Sent {
		t.Errorf("stats %+v", st)
	}
	// Back as another incarnation.
	l.start(1)
	netlab.Eventually(t, "it is alive again", func() bool { return aliveAre("node0", "node1", "node2")(l.segments[0].View()) })
}

// A process that was stopped does not answer when it goes on, and another has taken over meanwhile.
func TestPause(t *testing.T) {
	l := newLAN(t, 3)
	for i := range 3 {
		l.start(i)
	}
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	// What a stopped process does not do: read frames, or send any.
	l.segments[0].mu.Lock()
	l.segments[1].Set(want(vip))
	l.ownedBy(1)
	if l.segments[0].MayAnswer(vip) {
		t.Error("may answer while it cannot hear")
	}
	time.Sleep(300 * time.Millisecond)
	l.segments[0].mu.Unlock()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if l.owners(); l.segments[0].MayAnswer(vip) {
			t.Fatal("answers after it went on")
		}
	}
	netlab.Eventually(t, "it knows who has it", func() bool {
		a, _ := l.segments[0].View().Address(vip)
		return a.Holder == "node1"
	})
}

// The owner's link is cut at the switch; it comes back and hears that another has the address.
func TestLinkCut(t *testing.T) {
	l := newLAN(t, 3)
	for i := range 3 {
		l.start(i)
	}
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	heals := l.segments[1].View().Heals
	l.sw.Run("ip link set eth0 down")
	l.segments[1].Set(want(vip))
	l.ownedBy(1)
	netlab.Eventually(t, "who is cut off says so", func() bool {
		return slices.ContainsFunc(l.segments[0].View().Problems, func(p liveness.Problem) bool {
			_, ok := p.(liveness.NoMajority)
			return ok
		})
	})
	l.sw.Run("ip link set eth0 up")
	netlab.Eventually(t, "it is heard again", func() bool { return aliveAre("node0", "node1", "node2")(l.segments[1].View()) })
	if got := l.segments[1].View().Heals; got == heals {
		t.Error("nobody was told to announce again")
	}
	l.ownedBy(1)
}

// Of two nodes one is cut off: without the lock nobody answers, with it the node that has it does.
func TestTwoNodes(t *testing.T) {
	l := newLAN(t, 2)
	l.start(0)
	l.start(1)
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	l.sw.Run("ip link set eth1 down")
	netlab.Eventually(t, "nobody holds the address", func() bool { return len(l.owners()) == 0 })
	l.segments[0].LockedUntil(Now().Add(time.Minute))
	l.ownedBy(0)
}

// Keys are rotated under a held address: every heartbeat is taken. Whether the address stayed held is not asked: beside other tests
// a node may have to wait for a processor for longer than the others wait for it.
func TestRotation(t *testing.T) {
	l := newLAN(t, 3)
	for i := range 3 {
		l.start(i)
	}
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	heard := func() (out []uint64) {
		for _, s := range l.segments {
			out = append(out, s.Stats().Opened[wire.Opened])
		}
		return out
	}
	for _, k := range []*wire.Keys{keysOf(t, "k", "n"), keysOf(t, "n", "k"), keysOf(t, "n")} {
		for i, s := range l.segments { // one after the other, as a Secret reaches nodes
			if err := s.SetKeys(k); err != nil {
				t.Fatal(err)
			}
			before := heard()
			netlab.Eventually(t, fmt.Sprintf("all hear the others after node%d", i), func() bool {
				now := heard()
				return !slices.ContainsFunc([]int{0, 1, 2}, func(j int) bool { return now[j] < before[j]+6 })
			})
		}
		l.ownedBy(0)
	}
	for i, s := range l.segments {
		for result, n := range s.Stats().Opened {
			if n > 0 && wire.Result(result) != wire.Opened {
				t.Errorf("node%d: %d heartbeats came to the result %d", i, n, result)
			}
		}
	}
}

// A node with another key is not heard, and counted.
func TestOtherKey(t *testing.T) {
	l := newLAN(t, 2)
	if err := l.segments[1].SetKeys(keysOf(t, "x")); err != nil {
		t.Fatal(err)
	}
	l.start(0)
	l.start(1)
	netlab.Eventually(t, "frames are counted", func() bool { return l.segments[0].Stats().Opened[wire.UnknownKey] > 3 })
	if got := l.segments[0].View().Alive(); !slices.Equal(got, []string{"node0"}) {
		t.Errorf("alive: %v", got)
	}
}

// A second process of the same node waits for the end of the first.
func TestOneOfANode(t *testing.T) {
	l := newLAN(t, 1)
	l.start(0)
	l.segments[0].Set(want(vip))
	l.ownedBy(0)
	second, err := New(l.config(0))
	if err != nil {
		t.Fatal(err)
	}
	second.SetMembers(l.names(1))
	second.Set(want(vip))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- second.Run(ctx) }()
	time.Sleep(400 * time.Millisecond)
	if second.MayAnswer(vip) {
		t.Error("both answer")
	}
	l.stop(0)
	netlab.Eventually(t, "the second takes over", func() bool { return second.MayAnswer(vip) })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Run ends with an error when the interface goes.
func TestInterfaceGone(t *testing.T) {
	l := newLAN(t, 2)
	l.start(0)
	l.start(1)
	netlab.Eventually(t, "both are alive", func() bool { return aliveAre("node0", "node1")(l.segments[0].View()) })
	l.segments[1].Set(want(vip))
	l.ownedBy(1)
	l.host.Run("ip link del eth1")
	select {
	case err := <-l.ended[1]:
		if err == nil {
			t.Error("no error")
		}
		l.cancel[1] = nil
	case <-time.After(10 * time.Second):
		t.Error("goes on without an interface")
	}
	if v, holders := l.segments[1].Holders(); v.Majority || len(v.Nodes) > 0 || len(v.Addresses) > 0 || len(holders) > 0 {
		t.Errorf("after its end it knows of %v, of addresses %v and of holders %v", v.Alive(), v.Addresses, holders)
	}
}

// The filter keeps out what is not a heartbeat. (Tags of VLANs and packet types are not in the bytes.)
func TestFilter(t *testing.T) {
	prompt, steady := "Sm\x81T", "Sm\x01T"
	for _, isPrompt := range []bool{true, false} {
		vm, err := bpf.NewVM(ours('T', isPrompt)[5:])
		if err != nil {
			t.Fatal(err)
		}
		for _, frame := range []string{prompt, steady, "Sn\x01T", "Sn\x81T", "Sm\x01U", "Sm\x81U", "Sm\x01", "Sm\x81", ""} {
			want := frame == prompt && isPrompt || frame == steady && !isPrompt
			if n, _ := vm.Run([]byte(frame)); n > 0 != want {
				t.Errorf("prompt %v: %q: %d", isPrompt, frame, n)
			}
		}
	}
}

func TestMayAnswerDoesNotAllocate(t *testing.T) {
	s := &Segment{}
	s.leases.Store(&liveness.Leases{})
	if allocs := testing.AllocsPerRun(100, func() { s.MayAnswer(vip) }); allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkMayAnswer(b *testing.B) {
	s := &Segment{}
	s.leases.Store(&liveness.Leases{})
	for b.Loop() {
		s.MayAnswer(vip)
	}
}
