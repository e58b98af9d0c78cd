package speaker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
	"github.com/seamark-io/seamark/speaker/segments"
)

// Whether the end of an agent is that of its routes.
func TestDrainPolicy(t *testing.T) {
	for name, tt := range map[string]struct {
		node *cluster.Node
		want bool
	}{
		"in service": {&cluster.Node{Ready: true}, false},
		"cordoned":   {&cluster.Node{Ready: true, Unschedulable: true}, true},
		"excluded":   {&cluster.Node{Ready: true, Excluded: true}, true},
		"shuts down": {&cluster.Node{}, true},
		"not known":  {nil, false},
	} {
		if got := DrainAuto.drains(tt.node); got != tt.want {
			t.Errorf("auto, %s: %v", name, got)
		}
		if !DrainAlways.drains(tt.node) || DrainNever.drains(tt.node) {
			t.Errorf("always and never depend on the node that is %s", name)
		}
	}
	if _, err := ParseDrainPolicy("maybe"); err == nil {
		t.Error("maybe is a policy")
	}
}

// estate is what is handed over: the addresses that are held before each Set, by a letter each: a for one that nobody else
// could have, k for one that another is to have and has not asked for, l for one that is let go of.
type estate struct {
	rounds        []string
	round         int
	failure       error
	draining      bool
	changed, lost chan struct{}
}

func (e *estate) now() string { return e.rounds[min(e.round, len(e.rounds)-1)] }

func (e *estate) plan() (p plan.Plan, _ *cluster.HeartbeatKeys, ok bool) {
	kinds := map[rune]plan.Kind{'a': plan.Alone, 'k': plan.Keep}
	for i, r := range e.now() {
		if kind, wanted := kinds[r]; wanted {
			p.L2 = append(p.L2, plan.L2{Addr: address(i), Kind: kind})
		}
	}
	return p, nil, true
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func (e *estate) SetDraining(draining bool) { e.draining = draining }

// Set, of the segments, has the others ask for what the next round has less.
func (e *estate) Set([]plan.LAN, []plan.L2, *cluster.HeartbeatKeys) error {
	if e.round++; e.round < len(e.rounds) {
		signal(e.changed)
	}
	return e.failure
}

func (e *estate) Holds() (out []netip.Addr) {
	for i := range e.now() {
		out = append(out, address(i))
	}
	return out
}

func (e *estate) Changed() <-chan struct{} { return e.changed }
func (e *estate) Lost() <-chan struct{}    { return e.lost }

type mute struct{ failure error }

func (m mute) Set(context.Context, []plan.L2, plan.Neighbours) error { return m.failure }

// How long an agent that ends answers for what it has: until the others have all that they could have, whatever fails
// meanwhile, and not for what they could not.
func TestHandOver(t *testing.T) {
	const wait = minInterval // between two rounds
	failed := errors.New("a further key for heartbeats is left out")
	for name, tt := range map[string]struct {
		rounds       []string
		segments, l2 error
		want         time.Duration
		warnings     int
	}{
		"it has nothing":                      {rounds: []string{""}},
		"no other could have them":            {rounds: []string{"aaa"}},
		"all are asked for":                   {rounds: []string{"kk", "lk", "k", ""}, want: 3 * wait},
		"what others could have is asked for": {rounds: []string{"kak", "ka", "la", "a"}, want: 3 * wait},
		"nobody asks":                         {rounds: []string{"ak"}, want: handOverTime, warnings: 1},
		"an error each time":                  {rounds: []string{"kk", "lk", "k", ""}, segments: failed, want: 3 * wait, warnings: 1},
		"an error of who answers":             {rounds: []string{"kk", "lk", "k", ""}, l2: failed, want: 3 * wait, warnings: 1},
		"an error each time, and nobody asks": {rounds: []string{"k"}, segments: failed, l2: failed, want: handOverTime, warnings: 2},
		"what is let go of is waited for":     {rounds: []string{"l", "l", ""}, want: 2 * wait},
		"another could have it no longer":     {rounds: []string{"k", "a"}, want: wait},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &estate{rounds: tt.rounds, failure: tt.segments, changed: make(chan struct{}, 1)}
				var log strings.Builder
				h := handOver{segments: e, l2: mute{tt.l2}, plan: e.plan, log: slog.New(slog.NewTextHandler(&log, nil))}
				start := time.Now()
				h.run(t.Context())
				if took := time.Since(start); took != tt.want {
					t.Errorf("it took %s, want %s", took, tt.want)
				}
				if n := strings.Count(log.String(), "level=WARN"); n != tt.warnings || !e.draining {
					t.Errorf("draining %v, %d warnings, want %d:\n%s", e.draining, n, tt.warnings, log.String())
				}
			})
		})
	}
}

// What changes in the cluster counts to the end: a pod that goes takes its node out of the way of the address.
func TestHandOverFollowsTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &estate{rounds: []string{"k"}, changed: make(chan struct{}, 1)}
		changed := make(chan struct{}, 1)
		h := handOver{segments: e, l2: mute{}, plan: e.plan, changed: changed, log: slog.New(slog.DiscardHandler)}
		done := make(chan time.Duration)
		start := time.Now()
		go func() { h.run(t.Context()); done <- time.Since(start) }()
		synctest.Wait()
		e.rounds = []string{"a"}
		changed <- struct{}{}
		if took := <-done; took != minInterval {
			t.Errorf("it took %s", took)
		}
	})
}

// An agent that ends hands over what the other node asks for, and does not wait for one that lives but has no pod of a Service
// with externalTrafficPolicy Local.
func TestEndsInTime(t *testing.T) {
	for name, pods := range map[string][]string{"the other has a pod": {"n1", "n2"}, "it has none": {"n1"}} {
		t.Run(name, func(t *testing.T) {
			vip, snap := netip.MustParseAddr("10.0.0.100"), twoNodes(pods...)
			log := slog.New(slog.NewTextHandler(t.Output(), nil))
			other := neighbour(t, log)
			want := []plan.L2{{Addr: vip, Link: other.lan.Link, Subnet: other.lan.Subnet}}
			if len(pods) == 1 {
				want = nil
			}
			if err := other.Set([]plan.LAN{other.lan}, nil, snap.Heartbeat); err != nil {
				t.Fatal(err)
			}
			src := &source{changed: make(chan struct{}, 1)}
			s, err := New(Config{Node: "n1", Source: src, Log: log})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			src.set(snap)
			netlab.Eventually(t, "n1 has the address, and n2 knows", func() bool {
				return s.segments.MayAnswer(vip) && other.Facts(snap.VIPs)[other.lan.Subnet].Holders[vip] == "n1"
			})
			if err := other.Set([]plan.LAN{other.lan}, want, snap.Heartbeat); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > handOverTime/2 {
				t.Errorf("it ended after %s", took)
			}
			if want != nil {
				netlab.Eventually(t, "n2 has the address", func() bool { return other.MayAnswer(vip) })
			}
		})
	}
}

// When another node is lost what can wait is put off, and it is told for how long.
func TestTakeoverIsTold(t *testing.T) {
	vip, snap := netip.MustParseAddr("10.0.0.100"), twoNodes("n1", "n2")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	other := neighbour(t, log)
	if err := other.Set([]plan.LAN{other.lan}, nil, snap.Heartbeat); err != nil {
		t.Fatal(err)
	}
	src, told := &source{changed: make(chan struct{}, 1)}, make(chan time.Duration, 100)
	s, err := New(Config{Node: "n1", Source: src, Log: log, Takeover: func(d time.Duration) { told <- d }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	src.set(snap)
	netlab.Eventually(t, "n1 has the address, and n2 knows", func() bool {
		return s.segments.MayAnswer(vip) && other.Facts(snap.VIPs)[other.lan.Subnet].Holders[vip] == "n1"
	})
	netlab.Eventually(t, "n1 has heard of n2", func() bool { return len(told) > 0 })
	for len(told) > 0 {
		<-told
	}
	if err := other.Set(nil, nil, snap.Heartbeat); err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-told:
		if d != takeover {
			t.Errorf("told to wait for %s", d)
		}
	case <-time.After(10 * time.Second):
		t.Error("n2 is lost, and nothing is told")
	}
}

// twoNodes is a cluster of n1 and n2 with a Service at 10.0.0.100 that has pods on some of them, and goes nowhere else.
func twoNodes(pods ...string) *cluster.Snapshot {
	snap, subnet := snapshot("10.0.0.100"), netip.MustParsePrefix("10.0.0.0/24")
	for name, svc := range snap.Services {
		svc.ExternalLocal = true
		slice := snap.Slices[name][0]
		slice.Endpoints = nil
		for _, n := range pods {
			slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: n, Ready: true})
		}
	}
	snap.Nodes["n2"] = &cluster.Node{Name: "n2", Ready: true, InternalIPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}
	snap.Agents = map[string]*cluster.Agent{}
	for node, iface := range map[string]string{"n1": "eth0", "n2": "eth1"} {
		snap.AddAgent(&cluster.Agent{Node: node, Interfaces: map[netip.Prefix]string{subnet: iface}})
	}
	return snap
}

// station is n2 as far as n1 hears of it.
type station struct {
	*segments.Driver
	lan plan.LAN
}

// neighbour puts eth0, with the address of n1, and eth1 on one switch, and runs n2 at the latter until the test ends.
func neighbour(t *testing.T, log *slog.Logger) station {
	t.Helper()
	here, sw := netlab.Here(t), netlab.New(t)
	sw.Run("ip link add br0 type bridge")
	sw.Run("ip link set br0 up")
	for _, name := range []string{"eth0", "eth1"} {
		netlab.Link(here, name, sw, name)
		sw.Run("ip link set " + name + " master br0")
	}
	here.Addr("eth0", "10.0.0.1/24")
	eth1, err := net.InterfaceByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	d, err := segments.New(segments.Config{Node: "n2", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return station{d, plan.LAN{
		Subnet: netip.MustParsePrefix("10.0.0.0/24"), Link: plan.Link{Name: "eth1", Index: eth1.Index, MAC: plan.MAC(eth1.HardwareAddr)},
		Members: []plan.LANMember{{Node: "n1", Interface: "eth0"}, {Node: "n2", Interface: "eth1"}},
	}}
}
