package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

// shows waits until the router shows all words for a prefix.
func (r *router) shows(prefix string, words ...string) {
	r.t.Helper()
	out := ""
	defer func() {
		if r.t.Failed() {
			r.t.Logf("wanted %q in\n%s", words, out)
		}
	}()
	netlab.Eventually(r.t, "the router shows the attributes", func() bool {
		out = r.birdc("show route "+prefix+" all") + "\n"
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) })
	})
}

// Every attribute, as an eBGP and as an iBGP router sees it.
func TestEveryAttribute(t *testing.T) {
	for name, tt := range map[string]struct {
		localASN uint32
		want     []string
	}{
		"eBGP": {64512, []string{"BGP.as_path: 64512 64512 64512\n"}},
		"iBGP": {64500, []string{"BGP.as_path: \n", "BGP.local_pref: 250"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := connected(t, 0)
			r.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "64512", fmt.Sprint(tt.localASN)))
			s := newSpeaker(t)
			p := peerOf("tor", "10.0.0.254:179")
			p.Session.LocalASN = tt.localASN
			w := wanted([]plan.Peer{p})
			w.Routes = routesTo([]string{"tor"}, everyAttribute(), "192.0.2.1/32")
			set(t, s, w)
			r.shows("192.0.2.1/32", append(tt.want, "BGP.med: 30", "BGP.community: (64512,100) (65535,65281)",
				"BGP.large_community: (4200000000, 1, 2)", "(rt, 64512, 7)", "(ro, 192.0.2.1, 8)", "(rt, 4200000000, 9)")...)
		})
	}
}

// The edges: a LOCAL_PREF and a MED of 0, and what iBGP gets if nothing is said.
func TestZeroAttributes(t *testing.T) {
	r := connected(t, 0)
	r.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "64512", "64500"))
	s := newSpeaker(t)
	p := peerOf("tor", "10.0.0.254:179")
	p.Session.LocalASN = 64500
	w := wanted([]plan.Peer{p}, "192.0.2.2/32")
	w.Routes = append(w.Routes, routesTo([]string{"tor"}, &cluster.Attributes{LocalPref: new(uint32), MED: new(uint32)}, "192.0.2.1/32")...)
	set(t, s, w)
	r.shows("192.0.2.1/32", "BGP.local_pref: 0\n", "BGP.med: 0\n")
	r.shows("192.0.2.2/32", "BGP.local_pref: 100\n")
	if out := r.birdc("show route 192.0.2.2/32 all"); strings.Contains(out, "med") {
		t.Errorf("a MED that nobody asked for:\n%s", out)
	}
}

// One route goes to two routers with different attributes. They change, for one and for both, and the sessions stay.
func TestOtherAttributesForOtherPeers(t *testing.T) {
	a, b := connected(t, 0), connected(t, 1)
	a.start(fmt.Sprintf(birdSession, ""))
	b.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "10.0.0.1", "10.1.0.1"))
	s := newSpeaker(t)
	peers := []plan.Peer{peerOf("a", "10.0.0.254:179"), peerOf("b", "10.1.0.254:179")}
	w := wanted(peers)
	with := func(forA, forB cluster.Community) {
		t.Helper()
		w.Routes = []plan.Route{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Exports: []plan.Export{
			{Peer: "a", Attributes: &cluster.Attributes{Communities: []cluster.Community{forA}}},
			{Peer: "b", Attributes: &cluster.Attributes{Communities: []cluster.Community{forB}}},
		}}}
		set(t, s, w)
		a.shows("192.0.2.1/32", fmt.Sprintf("BGP.community: (0,%d)\n", forA))
		b.shows("192.0.2.1/32", fmt.Sprintf("BGP.community: (0,%d)\n", forB))
	}
	with(1, 2)
	since := []Status{statusOf(s, "a"), statusOf(s, "b")}
	with(1, 3)
	with(4, 4)
	with(2, 1)
	w.Routes[0].Exports = w.Routes[0].Exports[1:]
	w.Routes = slices.Clone(w.Routes)
	set(t, s, w)
	a.has()
	b.shows("192.0.2.1/32", "BGP.community: (0,1)\n")
	for _, was := range since {
		if now := statusOf(s, was.Peer); now.Since != was.Since {
			t.Errorf("%s was reset", was.Peer)
		}
	}
	if n := len(s.statements); n != 2 {
		t.Errorf("%d statements are left in the policy, for one route to one peer", n)
	}
}

// GTSM in all combinations: a router that checks, this side that checks, both.
func TestGTSM(t *testing.T) {
	for name, tt := range map[string]struct {
		bird   string
		minTTL uint8
		works  bool
	}{
		"the router checks":                    {"ttl security on;", 0, true},
		"both check":                           {"ttl security on;", 255, true},
		"this side checks a router without it": {"", 255, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := connected(t, 0)
			r.start(fmt.Sprintf(birdSession, tt.bird))
			s := newSpeaker(t)
			p := peerOf("tor", "10.0.0.254:179")
			p.Session.MinTTL = tt.minTTL
			set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
			if !tt.works {
				netlab.Eventually(t, "the status says what is wrong", func() bool { return statusOf(s, "tor").LastError != "" })
				return
			}
			r.has("192.0.2.1/32 via 10.0.0.1")
		})
	}
}

// A router behind a router: the session over three hops has no TTL of 1, and none of 255 is asked for.
func TestExtendedNextHop(t *testing.T) {
	for name, tt := range map[string]struct {
		option string
		want   []string
	}{
		"with":    {"extended next hop;", []string{"192.0.2.1/32 via fd00:0::1", "2001:db8::1/128 via fd00::1"}},
		"without": {"", []string{"2001:db8::1/128 via fd00::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := connected(t, 0)
			r.start(`protocol bgp node {
				local as 64500; neighbor fd00::1 as 64512;
				ipv4 { import all; export none; ` + tt.option + ` };
				ipv6 { import all; export none; };
			}`)
			s := newSpeaker(t)
			p := peerOf("tor", "[fd00::fe]:179")
			p.Session.ExtendedNextHop = true
			set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
			established(t, s, "tor")
			want := slices.Clone(tt.want)
			for i := range want {
				want[i] = strings.ReplaceAll(want[i], "fd00:0::", "fd00::")
			}
			r.has(want...)
			if log := r.birdc("show protocols all node"); strings.Contains(log, "Invalid") {
				t.Errorf("BIRD complains: %s", log)
			}
		})
	}
}

const birdRestart = "graceful restart on;"

// As TestFRRGracefulRestart; besides, the session is lost as by a crash, and nothing was told.
func TestGracefulRestart(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, birdRestart))
	p := peerOf("tor", "10.0.0.254:179")
	p.NextHop6 = netip.MustParseAddr("fd00::1")
	p.Session.RestartTime = 60
	first := newSpeaker(t)
	set(t, first, wanted([]plan.Peer{p}, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"))
	established(t, first, "tor")
	all := []string{"192.0.2.1/32 via 10.0.0.1", "192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1"}
	r.has(all...)
	first.Suspend()
	netlab.Eventually(t, "the router waits for the restart", func() bool {
		return strings.Contains(r.birdc("show protocols all node"), "Neighbor graceful restart active")
	})
	r.has(all...)
	watched := watchRoutes(r.routes)
	second := newSpeaker(t)
	set(t, second, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
	established(t, second, "tor")
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	for _, seen := range watched() {
		if !slices.Contains(seen, "192.0.2.1/32 via 10.0.0.1") || !slices.Contains(seen, "2001:db8::1/128 via fd00::1") {
			t.Errorf("the router was without a route: %v", seen)
		}
	}
	second.Close()
	r.has()
}

// A router that is found later than others, as an unnumbered one is, keeps the routes over a restart too. A session that begins
// anew for another reason is no restart.
func TestGracefulRestartOfALaterPeer(t *testing.T) {
	a, b := connected(t, 0), connected(t, 1)
	a.start(fmt.Sprintf(birdSession, birdRestart))
	b.start(strings.ReplaceAll(fmt.Sprintf(birdSession, birdRestart), "10.0.0.1", "10.1.0.1"))
	pa, pb := peerOf("a", "10.0.0.254:179"), peerOf("b", "10.1.0.254:179")
	pa.Session.RestartTime, pb.Session.RestartTime = 60, 60
	both := wanted([]plan.Peer{pa, pb}, "192.0.2.1/32")
	one := both
	one.Peers = both.Peers[:1]
	first := newSpeaker(t)
	set(t, first, both)
	established(t, first, "a", "b")
	b.has("192.0.2.1/32 via 10.1.0.1")
	first.Suspend()

	watched := watchRoutes(b.routes)
	second := newSpeaker(t)
	set(t, second, one)
	established(t, second, "a")
	set(t, second, both)
	established(t, second, "b")
	if !b.sawRestart() {
		t.Error("the router was not told of a restart")
	}
	time.Sleep((deferral + 1) * time.Second)
	for _, seen := range watched() {
		if !slices.Equal(seen, []string{"192.0.2.1/32 via 10.1.0.1"}) {
			t.Errorf("the router had %v", seen)
		}
	}

	set(t, second, one)
	b.has()
	set(t, second, both)
	established(t, second, "b")
	if b.sawRestart() {
		t.Error("the router was told of a restart that there was none of")
	}
}

// sawRestart reports whether the node said in its OPEN that it has restarted and that forwarding went on.
func (r *router) sawRestart() bool {
	_, neighbor, _ := strings.Cut(r.birdc("show protocols all node"), "Neighbor capabilities")
	return strings.Contains(neighbor, "Restart recovery") && strings.Contains(neighbor, "AF preserved: ipv4 ipv6")
}

// After the time for which routers keep routes there is nothing to tell them of a restart.
func TestRestarted(t *testing.T) {
	for name, tt := range map[string]struct {
		age         time.Duration
		restartTime uint16
		met         bool
		want        bool
	}{
		"just begun":          {time.Second, 60, false, true},
		"after that time":     {61 * time.Second, 60, false, false},
		"no graceful restart": {0, 0, false, false},
		"met before":          {time.Second, 60, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietSpeaker(t)
			s.begun = s.begun.Add(-tt.age)
			s.met["tor"] = tt.met
			p := peerOf("tor", "10.0.0.254:179")
			p.Session.RestartTime = tt.restartTime
			if got := s.restarted(&peer{Peer: p}); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// A router that is down, or slow, does not keep an agent that restarts from its other routers.
func TestGracefulRestartBesideADeadRouter(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, birdRestart))
	p, dead := peerOf("tor", "10.0.0.254:179"), peerOf("dead", "10.0.0.250:179")
	p.Session.RestartTime, dead.Session.RestartTime = 60, 60
	first := newSpeaker(t)
	set(t, first, wanted([]plan.Peer{p, dead}, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.1")
	first.Suspend()
	second := newSpeaker(t)
	w := wanted([]plan.Peer{p, dead}, "192.0.2.1/32", "192.0.2.2/32")
	set(t, second, w)
	established(t, second, "tor")
	r.has("192.0.2.1/32 via 10.0.0.1", "192.0.2.2/32 via 10.0.0.1")
	w.Routes = w.Routes[1:]
	set(t, second, w)
	r.has("192.0.2.2/32 via 10.0.0.1")
}

// A router that was not asked to keep the routes hears that they are gone.
func TestSuspendWithoutGracefulRestart(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, "graceful restart off;"))
	s := newSpeaker(t)
	p := peerOf("tor", "10.0.0.254:179")
	p.Session.RestartTime = 60
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.1")
	s.Suspend()
	r.has()
}

// What an iBGP router sees of a node that leaves, and that Leave waits until it may go.
func TestLeave(t *testing.T) {
	r := connected(t, 0)
	r.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "64512", "64500"))
	s := newSpeaker(t)
	s.leaveTime = 2 * time.Second
	p := peerOf("tor", "10.0.0.254:179")
	p.Session.LocalASN = 64500
	w := wanted([]plan.Peer{p})
	w.Routes = routesTo([]string{"tor"}, &cluster.Attributes{Communities: []cluster.Community{7}}, "192.0.2.1/32")
	set(t, s, w)
	r.has("192.0.2.1/32 via 10.0.0.1")
	left := make(chan error, 1)
	start := time.Now()
	go func() { left <- s.Leave(t.Context()) }()
	r.shows("192.0.2.1/32", "BGP.community: (0,7) (65535,0)\n", "BGP.local_pref: 0\n")
	if err := <-left; err != nil || time.Since(start) < s.leaveTime {
		t.Errorf("left after %s with %v", time.Since(start), err)
	}
	r.has()

	// Where no router has a route there is nothing to wait for.
	s.Close()
	s.leaveTime = time.Hour
	set(t, s, w)
	if err := s.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// BFD's word that a path went down ends the session at once, and only that one; BGP comes back by itself.
func TestPathDown(t *testing.T) {
	r, other := connected(t, 0), connected(t, 1)
	r.start(fmt.Sprintf(birdSession, ""))
	other.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "10.0.0.1", "10.1.0.1"))
	s := newSpeaker(t)
	p, q := peerOf("tor", "10.0.0.254:179"), peerOf("other", "10.1.0.254:179")
	p.BFD = cluster.BFD{Enabled: true}
	set(t, s, wanted([]plan.Peer{p, q}, "192.0.2.1/32"))
	established(t, s, "tor", "other")
	r.has("192.0.2.1/32 via 10.0.0.1")
	otherSince := statusOf(s, "other").Since
	router := p.Session.Address.Addr()

	s.SetPath(router, PathDown) // as before BFD is up for the first time
	if st := statusOf(s, "tor"); !st.Established() {
		t.Errorf("a path that was never up ended the session: %+v", st)
	}
	s.SetPath(router, PathUp)
	s.SetPath(router, PathUnknown) // the router switched BFD off
	s.SetPath(router, PathDown)
	if st := statusOf(s, "tor"); !st.Established() {
		t.Errorf("AdminDown ended the session: %+v", st)
	}
	since := statusOf(s, "tor").Since
	for range 3 {
		s.SetPath(router, PathUp)
		s.SetPath(router, PathDown)
		s.SetPath(router, PathDown)
		if st := statusOf(s, "tor"); st.Established() || !strings.Contains(st.LastError, "BFD") {
			t.Errorf("after the path went down: %+v", st)
		}
		established(t, s, "tor")
		r.has("192.0.2.1/32 via 10.0.0.1")
	}
	if now := statusOf(s, "tor").Since; !now.After(since) {
		t.Error("the session was not reset")
	}
	if statusOf(s, "other").Since != otherSince {
		t.Error("the other session was reset")
	}
	if n := s.Failures()["tor"][FailedPath]; n != 3 {
		t.Errorf("%d failures are counted", n)
	}
	// No flapping afterwards.
	last := statusOf(s, "tor").Since
	time.Sleep(3 * time.Second)
	if st := statusOf(s, "tor"); st.Since != last {
		t.Errorf("it flaps: %+v", st)
	}
}

// With strict BFD there is no attempt before the path is up, and none after it is down.
func TestStrictPath(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, ""))
	s := newSpeaker(t)
	p := peerOf("tor", "10.0.0.254:179")
	p.BFD = cluster.BFD{Enabled: true, Strict: true}
	w := wanted([]plan.Peer{p}, "192.0.2.1/32")
	set(t, s, w)
	silent := func() {
		t.Helper()
		time.Sleep(3 * time.Second)
		if st := statusOf(s, "tor"); st.State != "Idle" || !strings.Contains(st.LastError, "BFD") {
			t.Errorf("without a path: %+v", st)
		}
	}
	silent()
	s.SetPath(p.Session.Address.Addr(), PathUp)
	established(t, s, "tor")
	s.SetPath(p.Session.Address.Addr(), PathDown)
	silent()
	set(t, s, w)
	r.has()
	p.BFD.Strict = false
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.1")
}

// With strict BFD, which session waits for BFD's word, and for which its last word still holds because its BFD session is the
// same. What is to be told of a BFD session that goes on is told once.
func TestStrictPathOfAnotherSession(t *testing.T) {
	netlab.Here(t)
	p := peerOf("tor", "192.0.2.1:179")
	p.BFD = cluster.BFD{Enabled: true, Strict: true}
	p.Session.Source = netip.MustParseAddr("192.0.2.9")
	other := peerOf("other", "192.0.2.2:179")
	for name, tt := range map[string]struct {
		change func(s *Speaker, p *plan.Peer)
		waits  bool
	}{
		"nothing":         {func(*Speaker, *plan.Peer) {}, false},
		"hold time":       {func(_ *Speaker, p *plan.Peer) { p.Session.HoldTime++ }, false},
		"name":            {func(_ *Speaker, p *plan.Peer) { p.Name = "another" }, false},
		"source":          {func(_ *Speaker, p *plan.Peer) { p.Session.Source = netip.MustParseAddr("192.0.2.8") }, true},
		"router":          {func(_ *Speaker, p *plan.Peer) { p.Session.Address = netip.MustParseAddrPort("192.0.2.3:179") }, true},
		"gone and back":   {func(s *Speaker, _ *plan.Peer) { set(t, s, wanted([]plan.Peer{other})) }, true},
		"all gone before": {func(s *Speaker, _ *plan.Peer) { set(t, s, plan.BGP{}) }, true},
		"router ID": {func(s *Speaker, p *plan.Peer) {
			w := wanted([]plan.Peer{*p})
			w.RouterID = netip.MustParseAddr("10.0.0.7")
			set(t, s, w)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietSpeaker(t)
			set(t, s, wanted([]plan.Peer{p}))
			s.SetPath(p.Session.Address.Addr(), PathUp)
			now := p
			tt.change(s, &now)
			set(t, s, wanted([]plan.Peer{now, other}))
			s.mu.Lock()
			defer s.mu.Unlock()
			if waits := !s.peers[now.Name].open; waits != tt.waits {
				t.Errorf("waits for BFD: %v", waits)
			}
		})
	}
}
