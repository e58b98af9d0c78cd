package segments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestMain(m *testing.M) { netlab.Main(m) }

var (
	lan  = netip.MustParsePrefix("10.0.0.0/24")
	vip1 = netip.MustParseAddr("10.0.0.100")
	vip2 = netip.MustParseAddr("10.0.0.101")
)

func secret(c byte) []byte { return bytes.Repeat([]byte{c}, 32) }

// agent is a Driver that runs, by an interface of its own.
type agent struct {
	*Driver
	name   string
	link   plan.Link
	cancel context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	gained []netip.Addr
	settle func()
}

// agents are as many nodes, n0 and so on, with interfaces of this host on one switch.
func agents(t *testing.T, count int) (*netlab.Host, []*agent) {
	t.Helper()
	host, sw := netlab.Here(t), netlab.New(t)
	sw.Run("ip link add br0 type bridge")
	sw.Run("ip link set br0 up")
	var out []*agent
	for i := range count {
		name := fmt.Sprintf("eth%d", i)
		netlab.Link(host, name, sw, name)
		sw.Run("ip link set " + name + " master br0")
		a := &agent{name: fmt.Sprintf("n%d", i), ended: make(chan error, 1)}
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		a.link = plan.Link{Name: name, Index: ifi.Index, MAC: plan.MAC(ifi.HardwareAddr)}
		d, err := New(Config{Node: a.name, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Gained: func(addrs ...netip.Addr) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.gained = append(a.gained, addrs...)
		}, Settle: func() {
			if a.settle != nil {
				a.settle()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		a.Driver = d
		ctx, cancel := context.WithCancel(t.Context())
		a.cancel = cancel
		go func() { a.ended <- a.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-a.ended; err != nil {
				t.Error(err)
			}
		})
		out = append(out, a)
	}
	return host, out
}

// want sets the agent's segment, which has as many members, and what it wants there.
func (a *agent) want(t *testing.T, members int, keys *cluster.HeartbeatKeys, vips ...netip.Addr) {
	t.Helper()
	if err := a.set(members, keys, vips...); err != nil {
		t.Error(err)
	}
}

func (a *agent) set(members int, keys *cluster.HeartbeatKeys, vips ...netip.Addr) error {
	l := plan.LAN{Subnet: lan, Link: a.link}
	for i := range members {
		l.Members = append(l.Members, plan.LANMember{Node: fmt.Sprintf("n%d", i), Interface: fmt.Sprintf("eth%d", i)})
	}
	var wanted []plan.L2
	for _, v := range vips {
		wanted = append(wanted, plan.L2{Addr: v, Link: a.link, Subnet: lan})
	}
	return a.Set([]plan.LAN{l}, wanted, keys)
}

func (a *agent) hasGained(v netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.gained, v)
}

// Three nodes know each other; one has an address until its link is cut, when another that wants it gets it.
func TestFailover(t *testing.T) {
	host, a := agents(t, 3)
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 3, keys, vip1)
	a[1].want(t, 3, keys)
	a[2].want(t, 3, keys)
	netlab.Eventually(t, "n0 has the address", func() bool { return a[0].MayAnswer(vip1) && a[0].hasGained(vip1) })
	vips := map[netip.Addr]*cluster.VIP{vip1: {Address: vip1}, vip2: {Address: vip2}}
	netlab.Eventually(t, "all know of it", func() bool {
		for _, x := range a {
			f := x.Facts(vips)[lan]
			if len(f.Members) != 3 || f.Holders[vip1] != "n0" || f.Holders[vip2] != "" {
				return false
			}
			for i, other := range a {
				m := f.Members[fmt.Sprintf("n%d", i)]
				if !m.Alive || m.Interface != other.link.Name || x != other && m.MAC != other.link.MAC {
					return false
				}
			}
		}
		return true
	})

	// A node that wants what another has waits, and the other is told.
	a[1].want(t, 3, keys, vip1)
	netlab.Eventually(t, "n0 hears of the contender", func() bool { return a[0].Facts(vips)[lan].Contenders[vip1] == "n1" })
	if g := a[1].Grants()[vip1]; g.Held || g.Holder != "n0" {
		t.Errorf("n1 was told %+v", g)
	}
	host.Run("ip link set eth0 down")
	netlab.Eventually(t, "n1 has the address", func() bool { return a[1].MayAnswer(vip1) && a[1].hasGained(vip1) })
	if a[0].MayAnswer(vip1) {
		t.Error("two may answer")
	}
	netlab.Eventually(t, "n0 says why not", func() bool {
		g := a[0].Grants()[vip1]
		return !g.Held && strings.Contains(g.Why, "1 of 3")
	})
	if held := a[1].Holds(); !slices.Equal(held, []netip.Addr{vip1}) {
		t.Errorf("n1 holds %v", held)
	}

	// One that drains is not reckoned with.
	a[2].SetDraining(true)
	netlab.Eventually(t, "n2 drains", func() bool { return !a[1].Facts(vips)[lan].Members["n2"].Alive })

	// What is no segment any more is left at once.
	if err := a[1].Set(nil, nil, keys); err != nil || a[1].MayAnswer(vip1) || len(a[1].Status()) != 0 {
		t.Errorf("after the end of the segment: %v, %v", err, a[1].Status())
	}
}

// Of an address that is let go of nobody hears before nothing is said of it any more: that is waited for with the gate closed.
func TestLetGo(t *testing.T) {
	_, a := agents(t, 2)
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 2, keys, vip1, vip2)
	a[1].want(t, 2, keys)
	netlab.Eventually(t, "n0 has the addresses", func() bool { return a[0].MayAnswer(vip1) && a[0].MayAnswer(vip2) })
	a[1].want(t, 2, keys, vip1)
	netlab.Eventually(t, "n0 hears of the contender", func() bool {
		return a[0].Facts(map[netip.Addr]*cluster.VIP{vip1: {Address: vip1}})[lan].Contenders[vip1] == "n1"
	})
	waits := 0
	a[0].settle = func() {
		waits++
		if a[0].MayAnswer(vip1) || !a[0].MayAnswer(vip2) {
			t.Error("the gate is not as it should be")
		}
		time.Sleep(5 * liveness.DefaultInterval)
		if g := a[1].Grants()[vip1]; g.Held || g.Holder != "n0" {
			t.Errorf("n1 was told %+v while something may still be said of the address", g)
		}
	}
	a[0].want(t, 2, keys, vip2)
	netlab.Eventually(t, "n1 has the address", func() bool { return a[1].MayAnswer(vip1) })
	if a[0].want(t, 2, keys, vip2); waits != 1 {
		t.Errorf("waited %d times", waits)
	}
	if !a[0].MayAnswer(vip2) {
		t.Error("n0 lost what it had kept")
	}
}

// Without a key a node takes part nowhere; keys are replaced one after the other while all go on hearing each other; and
// the Secret's loss changes nothing.
func TestKeys(t *testing.T) {
	_, a := agents(t, 2)
	set := func(i int, keys *cluster.HeartbeatKeys) { a[i].want(t, 2, keys, []netip.Addr{vip1, vip2}[i]) }
	set(0, nil)
	if len(a[0].Status()) != 0 {
		t.Error("takes part without a key")
	}
	old, rotation, reversed, fresh := &cluster.HeartbeatKeys{Send: secret(1)}, &cluster.HeartbeatKeys{Send: secret(1), Accept: [][]byte{secret(2)}},
		&cluster.HeartbeatKeys{Send: secret(2), Accept: [][]byte{secret(1)}}, &cluster.HeartbeatKeys{Send: secret(2)}
	set(0, old)
	set(1, old)
	both := func() bool { return a[0].MayAnswer(vip1) && a[1].MayAnswer(vip2) }
	netlab.Eventually(t, "both have their addresses", both)
	takes := func() (n uint64) {
		for i, v := range []netip.Addr{vip1, vip2} {
			view, _ := a[i].Status()[0].View.Address(v)
			n += view.Generation
		}
		return n
	}
	before := takes()
	for _, keys := range []*cluster.HeartbeatKeys{rotation, reversed, fresh, nil} {
		for i := range a {
			set(i, keys)
			netlab.Eventually(t, "both still have them", both)
		}
	}
	if after := takes(); after != before {
		t.Errorf("addresses were lost and taken again: %d, then %d", before, after)
	}
	if err := a[0].Set([]plan.LAN{{Subnet: lan, Link: a[0].link}}, nil, &cluster.HeartbeatKeys{Send: []byte("short")}); err == nil {
		t.Error("a short key was taken")
	}
}

// An interface that is renamed is still the same, and is told of by its new name.
func TestRenamed(t *testing.T) {
	_, a := agents(t, 1)
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 1, keys, vip1)
	netlab.Eventually(t, "n0 has the address", func() bool { return a[0].MayAnswer(vip1) })
	a[0].link.Name = "lan0"
	a[0].want(t, 1, keys, vip1)
	if s := a[0].Status(); len(s) != 1 || s[0].Interface != "lan0" || !a[0].MayAnswer(vip1) {
		t.Errorf("after it was renamed: %+v, may answer: %v", s, a[0].MayAnswer(vip1))
	}
}

// lock is one lock, which both nodes of a segment want when they lose each other.
type lock struct {
	mu       sync.Mutex
	holder   string
	unlocked int
}

type lockOf struct {
	*lock
	node string
}

func (l lockOf) Lock(context.Context, netip.Prefix) (liveness.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder != "" && l.holder != l.node {
		return liveness.Never, errors.New("somebody else has it")
	}
	l.holder = l.node
	return segment.Now().Add(10 * time.Second), nil
}

func (l lockOf) Unlock(context.Context, netip.Prefix) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == l.node {
		l.holder = ""
		l.unlocked++
	}
	return nil
}

// Of two nodes that lose each other the one that gets the lock goes on, until they hear each other again.
func TestLock(t *testing.T) {
	host, a := agents(t, 2)
	shared := &lock{}
	for _, x := range a {
		x.cfg.Locker = lockOf{shared, x.name}
	}
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 2, keys, vip1)
	a[1].want(t, 2, keys, vip1)
	one := func() bool { return a[0].MayAnswer(vip1) != a[1].MayAnswer(vip1) }
	together := func() bool {
		return one() && a[0].Status()[0].View.Majority && a[1].Status()[0].View.Majority && !a[0].Status()[0].View.Tie && !a[1].Status()[0].View.Tie
	}
	netlab.Eventually(t, "one has it", together)
	host.Run("ip link set eth0 down")
	netlab.Eventually(t, "one has it alone", func() bool {
		return one() && a[0].Status()[0].View.Tie && a[1].Status()[0].View.Tie
	})
	shared.mu.Lock()
	holder := shared.holder
	shared.mu.Unlock()
	for _, x := range a {
		if x.MayAnswer(vip1) != (x.name == holder) {
			t.Errorf("%s may answer: %v; the lock is %s's", x.name, x.MayAnswer(vip1), holder)
		}
	}
	host.Run("ip link set eth0 up")
	t.Cleanup(func() {
		if t.Failed() {
			for _, x := range a {
				t.Logf("%s may answer: %v, %+v %+v", x.name, x.MayAnswer(vip1), *x.Status()[0].View, x.Status()[0].Stats)
			}
		}
	})
	netlab.Eventually(t, "they are together again", together)
	netlab.Eventually(t, "the lock is given up", func() bool {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		return shared.holder == "" && shared.unlocked > 0
	})
}

// slow is a lock that takes its time to be given up, as one does that is asked for over a network.
type slow struct {
	mu     sync.Mutex
	events []string
}

func (l *slow) note(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event)
}

// since returns the events after as many.
func (l *slow) since(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events[n:])
}

func (l *slow) Lock(context.Context, netip.Prefix) (liveness.Time, error) {
	l.note("taken")
	return segment.Now().Add(10 * time.Second), nil
}

func (l *slow) Unlock(context.Context, netip.Prefix) error {
	l.note("to be given up")
	time.Sleep(lockTimeout / 2)
	l.note("given up")
	return nil
}

// A part that takes the place of another while the lock decides takes the lock after the other has given it up, not before.
func TestLockInTurn(t *testing.T) {
	_, a := agents(t, 3)
	l := &slow{}
	a[0].cfg.Locker = l
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 2, keys, vip1) // the other does not take part
	netlab.Eventually(t, "n0 has it by the lock", func() bool { return a[0].MayAnswer(vip1) })
	n := len(l.since(0))
	netlab.Eventually(t, "it is renewed, and will not be for a while", func() bool { return len(l.since(n)) > 0 })

	n = len(l.since(0))
	a[0].link = a[2].link // made anew
	a[0].want(t, 2, keys, vip1)
	netlab.Eventually(t, "n0 has it again", func() bool { return a[0].MayAnswer(vip1) && len(l.since(n)) >= 3 })
	if got, want := l.since(n)[:3], []string{"to be given up", "given up", "taken"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
