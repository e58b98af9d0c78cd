package l2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// fakeWire notes what is sent, and when.
type fakeWire struct {
	start    time.Time
	gateways int

	mu     sync.Mutex
	got    []string
	frames map[notice]int
}

func (w *fakeWire) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// count returns the frames of some notices.
func (w *fakeWire) count(notices ...notice) (sum int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range notices {
		sum += w.frames[n]
	}
	return sum
}

func (w *fakeWire) prepare(n notice) int {
	return [...]int{toGateways: w.gateways, toAll: 1, asReply: 1, probe: 1}[n]
}

func (w *fakeWire) send(n notice, addrs []netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := [...]string{toGateways: "gw", toAll: "all", asReply: "reply", probe: "probe"}[n]
	for _, a := range addrs {
		w.got = append(w.got, fmt.Sprintf("%s %s@%s", name, a, time.Since(w.start).Round(10*time.Millisecond)))
	}
	frames := len(addrs) * w.prepare(n)
	w.frames[n] += frames
	return frames
}

type announcerTest struct {
	*announcer
	wire     *fakeWire
	owned    atomic.Pointer[respond.Owned]
	doubtful atomic.Pointer[[]netip.Addr]
}

func runAnnouncer(t *testing.T, gateways int, owned respond.Owned) *announcerTest {
	x := &announcerTest{wire: &fakeWire{start: time.Now(), gateways: gateways, frames: map[notice]int{}}}
	x.owned.Store(&owned)
	x.doubtful.Store(&[]netip.Addr{})
	x.announcer = newAnnouncer(func() respond.Owned { return *x.owned.Load() }, x.wire, newBucket(DefaultRate, DefaultBurst), func() []netip.Addr { return *x.doubtful.Load() })
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go x.run(ctx)
	return x
}

func (x *announcerTest) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// An address is announced at once and after 1, 3 and 10 seconds, to the gateways first, then each minute to all, and never after it
// was given up.
func TestAnnouncer(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 1, respond.Owned{a: {}, b: {}})
		x.take([]netip.Addr{a})
		x.sleep(2 * time.Second)
		x.take([]netip.Addr{b})
		x.sleep(2 * time.Second)
		x.owned.Store(&respond.Owned{b: {}}) // a is given up after four seconds
		x.doubtful.Store(&[]netip.Addr{b})
		x.sleep(time.Minute)
		var want []string
		for _, s := range []string{"1@0s", "1@1s", "2@2s", "1@3s", "2@3s", "2@5s", "2@12s"} {
			want = append(want, "gw 192.0.2."+s, "all 192.0.2."+s, "reply 192.0.2."+s)
		}
		want = append(want, "all 192.0.2.2@1m0s", "probe 192.0.2.2@1m0s")
		if !slices.Equal(x.wire.lines(), want) {
			t.Errorf("got  %q\nwant %q", x.wire.lines(), want)
		}
	})
}

// Where many addresses were taken, the form that few need comes a little later, and other addresses before it.
func TestAnnouncerTakesMany(t *testing.T) {
	owned, one := respond.Owned{}, netip.MustParseAddr("192.0.2.1")
	var addrs []netip.Addr
	for a := netip.MustParseAddr("198.51.100.0"); len(addrs) < many+1; a = a.Next() {
		addrs, owned[a] = append(addrs, a), struct{}{}
	}
	owned[one] = struct{}{}
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 1, owned)
		x.take(addrs)
		x.sleep(50 * time.Millisecond)
		if g, a, r := x.wire.count(toGateways), x.wire.count(toAll), x.wire.count(asReply); g != many+1 || a != many+1 || r != 0 {
			t.Errorf("at once: %d, %d and %d", g, a, r)
		}
		x.take([]netip.Addr{one})
		x.sleep(40 * time.Millisecond)
		if got := x.wire.lines()[2*len(addrs):]; !slices.Equal(got, []string{"gw 192.0.2.1@50ms", "all 192.0.2.1@50ms", "reply 192.0.2.1@50ms"}) {
			t.Errorf("meanwhile: %q", got)
		}
		x.sleep(20 * time.Millisecond)
		if r := x.wire.count(asReply); r != len(addrs)+1 {
			t.Errorf("after %v: %d", replyDelay, r)
		}
		x.sleep(time.Second)
		if g, a, r := x.wire.count(toGateways), x.wire.count(toAll), x.wire.count(asReply); g != 2*len(owned) || a != g || r != g {
			t.Errorf("a second later: %d, %d and %d", g, a, r)
		}
	})
}

// Word that an address may be answered for, which comes a moment after it was taken, does not have it announced twice; later it does.
func TestAnnouncerHearsOfTheSameTaking(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 0, respond.Owned{a: {}, b: {}})
		x.take([]netip.Addr{a})
		x.sleep(20 * time.Millisecond)
		x.again([]netip.Addr{a, b})
		x.sleep(180 * time.Millisecond)
		x.again([]netip.Addr{a})
		x.sleep(20 * time.Millisecond)
		x.again([]netip.Addr{a}) // news again, so soon: somebody else may have had it in between
		x.sleep(300 * time.Millisecond)
		want := []string{
			"all 192.0.2.1@0s", "reply 192.0.2.1@0s", "all 192.0.2.2@20ms", "reply 192.0.2.2@20ms", "all 192.0.2.1@200ms", "reply 192.0.2.1@200ms",
			"all 192.0.2.1@220ms", "reply 192.0.2.1@220ms",
		}
		if !slices.Equal(x.wire.lines(), want) {
			t.Errorf("got  %q\nwant %q", x.wire.lines(), want)
		}
	})
}

// Announcing anew starts over, and what was to come of the first time is not sent as well.
func TestAnnouncerStartsOver(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 0, respond.Owned{a: {}})
		x.take([]netip.Addr{a})
		x.sleep(500 * time.Millisecond)
		x.take([]netip.Addr{a})
		x.sleep(20 * time.Second)
		var want []string
		for _, at := range []string{"0s", "500ms", "1.5s", "3.5s", "10.5s"} {
			want = append(want, "all 192.0.2.1@"+at, "reply 192.0.2.1@"+at)
		}
		if !slices.Equal(x.wire.lines(), want) {
			t.Errorf("got  %q\nwant %q", x.wire.lines(), want)
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.newest) > 0 || len(x.batches) > 0 {
			t.Errorf("%d addresses and %d batches are remembered", len(x.newest), len(x.batches))
		}
	})
}

// Probes are spaced as RFC 5227 section 2.1.1 has it.
func TestProbes(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 0, respond.Owned{a: {}})
		var at []time.Duration
		x.probe([]netip.Addr{a})
		for len(at) < len(x.wire.lines()) || time.Since(x.wire.start) < 10*time.Second {
			x.sleep(10 * time.Millisecond)
			if len(x.wire.lines()) > len(at) {
				at = append(at, time.Since(x.wire.start))
			}
		}
		if len(at) != 3 || at[0] > probeWait+20*time.Millisecond {
			t.Fatalf("probes at %v", at)
		}
		for i := range 2 {
			if d := at[i+1] - at[i]; d < probeMin-20*time.Millisecond || d > probeMax+20*time.Millisecond {
				t.Errorf("probes at %v", at)
			}
		}
	})
}

// A thousand addresses are out at once; what follows keeps to the rate, and an address that is taken meanwhile does not wait.
func TestPace(t *testing.T) {
	owned := respond.Owned{}
	var addrs []netip.Addr
	for a := netip.MustParseAddr("10.0.0.1"); len(addrs) < 1000; a = a.Next() {
		addrs = append(addrs, a)
		owned[a] = struct{}{}
	}
	one := netip.MustParseAddr("192.0.2.1")
	owned[one] = struct{}{}
	synctest.Test(t, func(t *testing.T) {
		x := runAnnouncer(t, 2, owned)
		x.take(addrs)
		for _, want := range []struct {
			after   time.Duration
			replies int
		}{{time.Millisecond, 0}, {replyDelay, 1000}} {
			x.sleep(want.after)
			if g, a, r := x.wire.count(toGateways), x.wire.count(toAll), x.wire.count(asReply); g != 2000 || a != 1000 || r != want.replies {
				t.Errorf("after %v more %d frames to gateways, %d to all and %d as replies are sent", want.after, g, a, r)
			}
		}
		order := func(line string) int { return strings.Index("gar", line[:1]) }
		if !slices.IsSortedFunc(x.wire.lines(), func(a, b string) int { return order(a) - order(b) }) {
			t.Error("they are not in the order gateways, all, replies")
		}
		x.sleep(1400 * time.Millisecond) // amid the repeats
		before := len(x.wire.lines())
		x.take([]netip.Addr{one})
		x.sleep(time.Millisecond)
		if got := x.wire.lines()[before:]; !slices.Contains(got, "all 192.0.2.1@1.5s") {
			t.Errorf("an address that was just taken waits: %q", got)
		}
		x.sleep(time.Minute)
		total := x.wire.count(toGateways, toAll, asReply, probe)
		if limit := DefaultBurst + 62*DefaultRate; total > limit {
			t.Errorf("%d frames in a minute, at most %d", total, limit)
		}
	})
}
