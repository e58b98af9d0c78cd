package speaker

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go4.org/netipx"
	"k8s.io/client-go/tools/record"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

type source struct {
	snap    atomic.Pointer[cluster.Snapshot]
	changed chan struct{}
}

func (s *source) Snapshot() *cluster.Snapshot { return s.snap.Load() }
func (s *source) Changed() <-chan struct{}    { return s.changed }

func (s *source) set(snap *cluster.Snapshot) {
	s.snap.Store(snap)
	signal(s.changed)
}

// snapshot has node n1 at 10.0.0.1 and fd00::1, and Service default/web at the given VIPs with an endpoint.
func snapshot(vips ...string) *cluster.Snapshot {
	web := cluster.Name{Namespace: "default", Name: "web"}
	svc := &cluster.Service{Name: web, UID: "uid", Type: cluster.LoadBalancer}
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{web: svc},
		Slices:   map[cluster.Name][]*cluster.Slice{web: {{Service: web, Family: cluster.IPv4, Endpoints: []cluster.Endpoint{{Addr: netip.MustParseAddr("10.244.0.1"), Ready: true}}}}},
		Nodes: map[string]*cluster.Node{"n1": {Name: "n1", Ready: true, InternalIPs: []netip.Addr{
			netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"),
		}}},
		Pools: map[string]*cluster.Pool{"pool": {
			Name: "pool", ARP: &cluster.ARPAnnounce{}, BGP: &cluster.BGPAnnounce{},
			Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.100-10.0.0.200"), netipx.MustParseIPRange("fd00::100-fd00::200")},
		}},
		Peers: map[string]*cluster.Peer{"tor": {Name: "tor", Address: netip.MustParseAddrPort("10.0.0.254:179"), PeerASN: 64500, LocalASN: 64512, PasswordSecret: "tor"}},
		VIPs:  map[netip.Addr]*cluster.VIP{},
		Agents: map[string]*cluster.Agent{"n1": {Node: "n1", Interfaces: map[netip.Prefix]string{
			netip.MustParsePrefix("10.0.0.0/24"): "eth0", netip.MustParsePrefix("fd00::/64"): "eth0",
		}}},
		Heartbeat: &cluster.HeartbeatKeys{Send: bytes.Repeat([]byte("k"), 32)},
	}
	for _, v := range vips {
		a := netip.MustParseAddr(v)
		svc.IngressIPs = append(svc.IngressIPs, a)
		s.VIPs[a] = &cluster.VIP{Address: a, Pool: "pool", Services: []cluster.Name{web}}
	}
	return s
}

// The whole speaker on a real kernel: a client finds the VIPs of a Service, pings them, and loses them when the Service
// goes; status, Events and metrics say so.
func TestSpeaker(t *testing.T) {
	here, client := netlab.Here(t), netlab.New(t)
	netlab.Link(here, "eth0", client, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	client.Addr("eth0", "10.0.0.2/24")
	client.Addr("eth0", "fd00::2/64")
	here.Sysctl("ipv4.ip_forward", 1) // as on a node
	here.Sysctl("ipv6.conf.all.forwarding", 1)

	src := &source{changed: make(chan struct{}, 1)}
	api, recorder, registry := &fakeAPI{}, record.NewFakeRecorder(100), prometheus.NewPedanticRegistry()
	s, err := New(Config{
		Node: "n1", Source: src, Seamark: api.client(), Recorder: recorder, Metrics: registry,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	answers := func(vip string) bool {
		out, err := client.Try("ping -n -c 1 -W 1 " + vip)
		return err == nil && strings.Contains(out, "bytes from "+vip+":")
	}
	if s.Ready() == nil || answers("10.0.0.100") {
		t.Fatal("ready, or announcing, before the API was read")
	}
	src.set(snapshot("10.0.0.100", "fd00::100"))
	for _, vip := range []string{"10.0.0.100", "fd00::100"} {
		netlab.Eventually(t, vip+" answers", func() bool { return answers(vip) })
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	var wrote, told []string
	netlab.Eventually(t, "status is written", func() bool { wrote = append(wrote, api.take()...); return len(wrote) >= 3 })
	slices.Sort(wrote)
	check(t, "status", wrote,
		`BGPPeer tor [n1 Idle 0 "Secret \"tor\" in Seamark's namespace does not exist or has no key \"password\""]`,
		"VIP 10.0.0.100 [n1 ARP]", "VIP fd00-0000-0000-0000-0000-0000-0000-0100 [n1 NDP]")
	netlab.Eventually(t, "Events are recorded", func() bool { told = append(told, events(recorder)...); return len(told) >= 2 })
	slices.Sort(told)
	check(t, "Events", told, "Normal Announcing node n1 announces 10.0.0.100 by ARP on eth0", "Normal Announcing node n1 announces fd00::100 by NDP on eth0")
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP seamark_speaker_announced_vips VIPs that this node is to announce.
# TYPE seamark_speaker_announced_vips gauge
seamark_speaker_announced_vips{via="arp"} 1
seamark_speaker_announced_vips{via="bgp"} 0
seamark_speaker_announced_vips{via="ndp"} 1
`), "seamark_speaker_announced_vips"); err != nil {
		t.Error(err)
	}

	// The carrier goes and comes: what a neighbour got wrong meanwhile is put right without being asked.
	client.Run("ip link set eth0 down")
	const six = "VIP fd00-0000-0000-0000-0000-0000-0000-0100 "
	written := func(what string, lines ...string) {
		t.Helper()
		wrote = nil
		netlab.Eventually(t, what, func() bool {
			wrote = append(wrote, api.take()...)
			return !slices.ContainsFunc(lines, func(l string) bool { return !slices.Contains(wrote, l) })
		})
	}
	written("the announcement ends with the carrier", "VIP 10.0.0.100 []", six+"[]")
	client.Run("ip link set eth0 up")
	client.Run("ip neigh replace 10.0.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud reachable")
	netlab.Eventually(t, "the neighbour entry is corrected", func() bool {
		return strings.Contains(client.Run("ip neigh show 10.0.0.100"), here.MAC("eth0"))
	})
	netlab.Eventually(t, "it answers again", func() bool { return answers("10.0.0.100") })

	// The Service goes.
	written("status is written anew", "VIP 10.0.0.100 [n1 ARP]", six+"[n1 NDP]")
	src.set(snapshot("fd00::100"))
	netlab.Eventually(t, "the VIP is silent", func() bool { client.Run("ip neigh flush dev eth0"); return !answers("10.0.0.100") })

	written("its status says so", "VIP 10.0.0.100 []")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
	client.Run("ip neigh flush dev eth0")
	if answers("fd00::100") {
		t.Error("it answers after the end")
	}
	if wrote := api.take(); len(wrote) > 0 {
		t.Errorf("status at the end: %q", wrote) // a restart is not to be seen
	}
	if err := Cleanup(t.Context()); err != nil || here.Run("nft list tables") != "" {
		t.Errorf("after Cleanup (%v): %s", err, here.Run("nft list tables"))
	}
}

// stuck is a source that may let nobody go on.
type stuck struct {
	source
	hold chan struct{}
}

func (s *stuck) Snapshot() *cluster.Snapshot {
	<-s.hold
	return nil
}

// A loop that hangs is found out; one that takes its time, or waits for something to do, is well.
func TestAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &stuck{hold: make(chan struct{})}
		s, err := New(Config{Node: "n1", Source: src, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.loop(ctx); close(done) }()
		time.Sleep(pace.Hang)
		if err := s.Alive(); err != nil {
			t.Errorf("as long as it may take: %v", err)
		}
		time.Sleep(time.Millisecond)
		if s.Alive() == nil {
			t.Error("longer: nothing")
		}
		close(src.hold)
		for range 3 {
			synctest.Wait()
			if err := s.Alive(); err != nil {
				t.Errorf("when it goes on: %v", err)
			}
			time.Sleep(2 * pace.Hang)
		}
		cancel()
		<-done
	})
}

// A Service whose pods take longer than its address counts as young: whether the address is free is asked all the same when it
// is taken.
func TestProbesWhenPodsAreLate(t *testing.T) {
	here, stranger := netlab.Here(t), netlab.New(t)
	netlab.Link(here, "eth0", stranger, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	stranger.Addr("eth0", "10.0.0.100/24")
	src := &source{changed: make(chan struct{}, 1)}
	s, err := New(Config{Node: "n1", Source: src, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	given := time.Now().Add(-55 * time.Second)
	with := func(pods bool) {
		snap := snapshot("10.0.0.100")
		for _, v := range snap.VIPs {
			v.Created = given
		}
		if !pods {
			clear(snap.Slices)
		}
		src.set(snap)
	}
	with(false)
	netlab.Eventually(t, "the address is seen", func() bool { return s.Ready() == nil })
	time.Sleep(time.Until(given.Add(61 * time.Second)))
	with(true)
	netlab.Eventually(t, "the stranger is found", func() bool { return len(s.l2.Duplicates()) == 1 })
}
