package bgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// router is a host with BIRD 2, the other side of the tests: what it shows is what a network would see.
type router struct {
	*netlab.Host
	t       *testing.T
	dir     string
	process *exec.Cmd
}

// connected makes this host (10.0.0.1, fd00::1) and a router (10.0.0.254, fd00::fe) on one link. With another number, the
// addresses are 10.N.0.… and fd00:N::….
func connected(t *testing.T, n int) *router {
	t.Helper()
	netlab.Require(t)
	if _, err := exec.LookPath("bird"); err != nil {
		t.Fatal("BIRD is not installed: run hack/install-packages (Debian package bird2)")
	}
	here, r := netlab.Here(t), &router{Host: netlab.New(t), t: t, dir: t.TempDir()}
	iface := fmt.Sprintf("eth%d", n)
	netlab.Link(here, iface, r.Host, "eth0")
	here.Addr(iface, fmt.Sprintf("10.%d.0.1/24", n))
	here.Addr(iface, fmt.Sprintf("fd00:%d::1/64", n))
	r.Addr("eth0", fmt.Sprintf("10.%d.0.254/24", n))
	r.Addr("eth0", fmt.Sprintf("fd00:%d::fe/64", n))
	return r
}

// start runs BIRD with a configuration to which the usual head is added.
func (r *router) start(config string) {
	r.t.Helper()
	r.run("router id 10.255.0.1;\nprotocol device {}\nprotocol direct { ipv4; ipv6; }\n" + config)
}

// run runs BIRD with a configuration.
func (r *router) run(config string) {
	r.t.Helper()
	log := "log \"" + filepath.Join(r.dir, "log") + "\" all;\n"
	path := filepath.Join(r.dir, "bird.conf")
	if err := os.WriteFile(path, []byte(log+config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.process = r.Command("bird -f -c " + path + " -s " + r.socket() + " -P " + filepath.Join(r.dir, "pid"))
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	process := r.process
	r.t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if log, err := os.ReadFile(filepath.Join(r.dir, "log")); err == nil && r.t.Failed() {
			r.t.Logf("BIRD's log:\n%s", log)
		}
	})
	netlab.Eventually(r.t, "BIRD answers", func() bool { _, err := r.Try("birdc -s " + r.socket() + " show status"); return err == nil })
}

func (r *router) socket() string { return filepath.Join(r.dir, "ctl") }

func (r *router) birdc(command string) string {
	out, _ := r.Try("birdc -r -s " + r.socket() + " " + command)
	return out
}

// routes returns the host routes that the router learned by BGP, sorted, each as "prefix via nexthop".
func (r *router) routes() []string {
	var out []string
	for _, table := range []string{"master4", "master6"} {
		prefix := ""
		for line := range strings.Lines(r.birdc("show route table " + table + " all")) {
			f := strings.Fields(line)
			switch {
			case strings.Contains(line, "unicast [node "), strings.Contains(line, "unicast [dynbgp"):
				prefix = f[0]
			case prefix != "" && len(f) > 1 && f[0] == "via":
				out = append(out, prefix+" via "+f[1])
				prefix = ""
			}
		}
	}
	slices.Sort(out)
	return out
}

const birdSession = `protocol bgp node {
	local as 64500; neighbor 10.0.0.1 as 64512; error wait time 1, 1; %s
	ipv4 { import all; export none; };
	ipv6 { import all; export all; };
}`

// peerOf is the BGPPeer for the router of connected, with timers that let tests be short.
func peerOf(name, address string) plan.Peer {
	p := plan.Peer{Name: name, Session: plan.Session{
		Address: netip.MustParseAddrPort(address), PeerASN: 64500, LocalASN: 64512,
		HoldTime: 9, KeepaliveTime: 3, ConnectRetryTime: 1, IPv4: true, IPv6: true,
	}}
	return p
}

func wanted(peers []plan.Peer, prefixes ...string) plan.BGP {
	w := plan.BGP{RouterID: netip.MustParseAddr("10.0.0.1"), Peers: peers}
	var names []string
	for _, p := range peers {
		names = append(names, p.Name)
	}
	w.Routes = routesTo(names, &cluster.Attributes{}, prefixes...)
	return w
}

// routesTo are routes to prefixes, all for the same peers with the same attributes.
func routesTo(peers []string, a *cluster.Attributes, prefixes ...string) []plan.Route {
	var exports []plan.Export
	for _, p := range peers {
		exports = append(exports, plan.Export{Peer: p, Attributes: a})
	}
	var out []plan.Route
	for _, p := range prefixes {
		out = append(out, plan.Route{Prefix: netip.MustParsePrefix(p), Exports: exports})
	}
	return out
}

func newSpeaker(t *testing.T) *Speaker {
	s := New(Config{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})), LeaveTime: DefaultLeaveTime})
	t.Cleanup(s.Close)
	return s
}

func set(t *testing.T, s *Speaker, w plan.BGP) {
	t.Helper()
	if err := s.Set(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

func statusOf(s *Speaker, peer string) Status {
	for _, st := range s.Status() {
		if st.Peer == peer {
			return st
		}
	}
	return Status{}
}

func established(t *testing.T, s *Speaker, peers ...string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("status %+v", s.Status())
		}
	}()
	for _, p := range peers {
		netlab.Eventually(t, "the session with "+p+" is established", func() bool { st := statusOf(s, p); return st.Established() })
	}
}

func (r *router) has(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	var got []string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("the router has %v, wanted %v", got, want)
		}
	}()
	netlab.Eventually(r.t, "the router has the routes", func() bool { got = r.routes(); return slices.Equal(got, want) })
}

func TestRoutesComeAndGo(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, ""))
	s := newSpeaker(t)
	tor := peerOf("tor", "10.0.0.254:179")
	tor.NextHop6 = netip.MustParseAddr("fd00::1")
	peers := []plan.Peer{tor}
	set(t, s, wanted(peers, "192.0.2.1/32", "2001:db8::1/128"))
	established(t, s, "tor")
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	st := statusOf(s, "tor")
	if st.PrefixesSent != 2 || st.LastError != "" || !st.IPv4 || !st.IPv6 {
		t.Errorf("status %+v", st)
	}

	// Services come, change and go; the session stays.
	set(t, s, wanted(peers, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128", "2001:db8::2/128"))
	r.has("192.0.2.1/32 via 10.0.0.1", "192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1", "2001:db8::2/128 via fd00::1")
	set(t, s, wanted(peers, "2001:db8::2/128"))
	r.has("2001:db8::2/128 via fd00::1")
	set(t, s, wanted(peers))
	r.has()
	set(t, s, wanted(peers, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.1")
	if got := statusOf(s, "tor"); got.Since != st.Since || got.PrefixesSent != 1 {
		t.Errorf("the session was reset: %+v, before %+v", got, st)
	}
	if log := r.birdc("show protocols all node"); strings.Contains(log, "Last error") {
		t.Errorf("BIRD saw an error: %s", log)
	}

	// The speaker dials only: nothing listens, neither for BGP nor for gobgp's gRPC or BFD.
	if out := netlab.Here(t).Run("ss -Hlntu"); out != "" {
		t.Errorf("the speaker listens:\n%s", out)
	}

	// Closing sends a Cease; the router drops the routes at once.
	s.Close()
	r.has()
	netlab.Eventually(t, "BIRD got a NOTIFICATION Cease", func() bool {
		return strings.Contains(r.birdc("show protocols all node"), "Received: Peer de-configured")
	})
}

// withNextHop makes a session over which a route goes by fd00::1, on a host that has fd00::7 as well.
func withNextHop(t *testing.T) (*router, *Speaker, plan.Peer) {
	t.Helper()
	r := connected(t, 0)
	netlab.Here(t).Addr("eth0", "fd00::7/64")
	r.start(fmt.Sprintf(birdSession, ""))
	s := newSpeaker(t)
	tor := peerOf("tor", "10.0.0.254:179")
	tor.NextHop6 = netip.MustParseAddr("fd00::1")
	set(t, s, wanted([]plan.Peer{tor}, "2001:db8::1/128"))
	established(t, s, "tor")
	r.has("2001:db8::1/128 via fd00::1")
	return r, s, tor
}

func TestNextHopChangeResetsNothing(t *testing.T) {
	r, s, tor := withNextHop(t)
	since := statusOf(s, "tor").Since
	tor.NextHop6 = netip.MustParseAddr("fd00::7")
	set(t, s, wanted([]plan.Peer{tor}, "2001:db8::1/128"))
	r.has("2001:db8::1/128 via fd00::7")
	if statusOf(s, "tor").Since != since {
		t.Error("the session was reset")
	}
}

// The new next hop is sent also when the routes could not all be set at first.
func TestNextHopChangeAfterAnError(t *testing.T) {
	r, s, tor := withNextHop(t)
	tor.NextHop6 = netip.MustParseAddr("fd00::7")
	w := wanted([]plan.Peer{tor}, "2001:db8::1/128")
	bad := w
	bad.Routes = append(routesTo([]string{"tor"}, &cluster.Attributes{}, "192.0.2.1/32"), w.Routes...)
	bad.Routes[0].Prefix = netip.Prefix{}
	if err := s.Set(t.Context(), bad); err == nil {
		t.Fatal("a route that is none is no error")
	}
	set(t, s, w)
	r.has("2001:db8::1/128 via fd00::7")
}

// Attributes: what the pool says, LOCAL_PREF for iBGP only, and none of our tags.
func TestAttributes(t *testing.T) {
	pref := uint32(250)
	for name, tt := range map[string]struct {
		localASN uint32
		want     []string
		not      string
	}{
		"eBGP":                {64512, []string{"BGP.as_path: 64512", "BGP.community: (64512,7)"}, "local_pref: 250"},
		"iBGP":                {64500, []string{"BGP.as_path: \n", "BGP.community: (64512,7)", "BGP.local_pref: 250"}, "none"},
		"four-octet local AS": {4200000001, []string{"BGP.as_path: 4200000001", "BGP.community: (64512,7)"}, "local_pref: 250"},
	} {
		t.Run(name, func(t *testing.T) {
			r := connected(t, 0)
			r.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "64512", fmt.Sprint(tt.localASN)))
			s := newSpeaker(t)
			p := peerOf("tor", "10.0.0.254:179")
			p.Session.LocalASN = tt.localASN
			w := wanted([]plan.Peer{p}, "192.0.2.1/32")
			w.Routes = routesTo([]string{"tor"}, &cluster.Attributes{Communities: []cluster.Community{64512<<16 | 7}, LocalPref: &pref}, "192.0.2.1/32")
			set(t, s, w)
			r.has("192.0.2.1/32 via 10.0.0.1")
			route := r.birdc("show route 192.0.2.1/32 all") + "\n"
			for _, attr := range tt.want {
				if !strings.Contains(route, attr) {
					t.Errorf("no %q in\n%s", attr, route)
				}
			}
			if strings.Contains(route, "large_community") || strings.Contains(route, tt.not) {
				t.Errorf("attributes that do not belong there:\n%s", route)
			}
		})
	}
}

// replaceRoute puts a route in place of that with its prefix.
func replaceRoute(w *plan.BGP, r plan.Route) {
	w.Routes = slices.Clone(w.Routes)
	for i := range w.Routes {
		if w.Routes[i].Prefix == r.Prefix {
			w.Routes[i] = r
		}
	}
}

// A route goes only to the peers that its pool allows, and moves when that changes; a peer that changes leaves the other
// alone. One peer has an IPv6 session with another local AS.
func TestTwoPeers(t *testing.T) {
	a, b := connected(t, 0), connected(t, 1)
	a.start(fmt.Sprintf(birdSession, ""))
	b.start(`protocol bgp node {
		local as 64501; neighbor fd00:1::1 as 64777;
		ipv4 { import all; export none; }; ipv6 { import all; export none; };
	}`)
	s := newSpeaker(t)
	pa, pb := peerOf("a", "10.0.0.254:179"), peerOf("b", "[fd00:1::fe]:179")
	pa.NextHop6 = netip.MustParseAddr("fd00::1")
	pb.NextHop4 = netip.MustParseAddr("10.1.0.1")
	pb.Session.PeerASN, pb.Session.LocalASN = 64501, 64777
	w := wanted([]plan.Peer{pa, pb}, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "2001:db8::1/128")
	only := func(prefix string, peers ...string) {
		replaceRoute(&w, routesTo(peers, &cluster.Attributes{}, prefix)[0])
	}
	only("192.0.2.2/32", "a")
	only("192.0.2.3/32", "b")
	set(t, s, w)
	established(t, s, "a", "b")
	a.has("192.0.2.1/32 via 10.0.0.1", "192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	b.has("192.0.2.1/32 via 10.1.0.1", "192.0.2.3/32 via 10.1.0.1", "2001:db8::1/128 via fd00:1::1")
	since := statusOf(s, "a").Since

	only("192.0.2.1/32", "b")
	only("192.0.2.2/32", "a", "b")
	only("2001:db8::1/128", "a")
	set(t, s, w)
	a.has("192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	b.has("192.0.2.1/32 via 10.1.0.1", "192.0.2.2/32 via 10.1.0.1", "192.0.2.3/32 via 10.1.0.1")
	if got := statusOf(s, "b").PrefixesSent; got != 3 {
		t.Errorf("%d prefixes sent to b", got)
	}

	pb.Session.KeepaliveTime = 2
	w.Peers = []plan.Peer{pa, pb}
	set(t, s, w)
	established(t, s, "b")
	b.has("192.0.2.1/32 via 10.1.0.1", "192.0.2.2/32 via 10.1.0.1", "192.0.2.3/32 via 10.1.0.1")
	w.Peers = []plan.Peer{pa}
	set(t, s, w)
	b.has()
	a.has("192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	if statusOf(s, "a").Since != since {
		t.Error("a was reset by a change of b")
	}
	if len(s.Status()) != 1 {
		t.Errorf("status of a peer that is gone: %+v", s.Status())
	}
}

func TestPassword(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, `password "right";`))
	s := newSpeaker(t)
	p := peerOf("tor", "10.0.0.254:179")
	p.Session.Password = "wrong"
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	says(t, s, "tor", "no answer on TCP port 179 of 10.0.0.254: check the address, the route and the password")
	p.Session.Password = "right"
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.1")
	if st := statusOf(s, "tor"); st.LastError != "" {
		t.Errorf("error of an established session: %q", st.LastError)
	}
}

func TestMultihopAndSource(t *testing.T) {
	r := connected(t, 0)
	here := netlab.Here(t)
	r.Run("ip addr add 203.0.113.1/32 dev lo")
	here.Run("ip route add 203.0.113.1/32 via 10.0.0.254")
	here.Addr("eth0", "10.0.0.9/24")
	r.start(strings.ReplaceAll(fmt.Sprintf(birdSession, "multihop 2; local 203.0.113.1;"), "neighbor 10.0.0.1", "neighbor 10.0.0.9"))
	s := newSpeaker(t)
	p := peerOf("far", "203.0.113.1:179")
	p.Session.MultihopTTL, p.Session.Source = 2, netip.MustParseAddr("10.0.0.9")
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	r.has("192.0.2.1/32 via 10.0.0.9")
}

// says waits for an error that contains words.
func says(t *testing.T, s *Speaker, peer, words string) {
	t.Helper()
	var st Status
	defer func() {
		if t.Failed() {
			t.Logf("status %+v\nwanted %q", st, words)
		}
	}()
	netlab.Eventually(t, "the status says what is wrong", func() bool { st = statusOf(s, peer); return strings.Contains(st.LastError, words) })
}

// What a person did wrong is said in words, and a peer that works is not touched by one that does not.
func TestErrorsAreToldInWords(t *testing.T) {
	good, bad := connected(t, 0), connected(t, 1)
	good.start(fmt.Sprintf(birdSession, ""))
	bad.start(strings.ReplaceAll(fmt.Sprintf(birdSession, ""), "10.0.0.1", "10.1.0.1"))
	s := newSpeaker(t)
	gp := peerOf("good", "10.0.0.254:179")
	set(t, s, wanted([]plan.Peer{gp}, "192.0.2.1/32"))
	established(t, s, "good")
	since := statusOf(s, "good").Since

	for name, tt := range map[string]struct {
		change func(p *plan.Session)
		words  string
	}{
		"the router's ASN":    {func(p *plan.Session) { p.PeerASN = 64999 }, "wrong ASN: the router is not in AS 64999"},
		"our ASN":             {func(p *plan.Session) { p.LocalASN = 64999 }, "does not expect AS 64999"},
		"not a neighbor":      {func(p *plan.Session) { p.Source = netip.MustParseAddr("10.1.0.2") }, "accepted the connection and closed it at once"},
		"port":                {func(p *plan.Session) { p.Address = netip.MustParseAddrPort("10.1.0.254:180") }, "10.1.0.254 refuses connections to TCP port 180"},
		"nobody there":        {func(p *plan.Session) { p.Address = netip.MustParseAddrPort("10.1.0.250:179") }, "10.1.0.250"},
		"no route":            {func(p *plan.Session) { p.Address = netip.MustParseAddrPort("198.51.100.1:179") }, "no route to 198.51.100.1"},
		"source not ours":     {func(p *plan.Session) { p.Source = netip.MustParseAddr("10.1.0.77") }, "cannot dial from 10.1.0.77"},
		"password not wanted": {func(p *plan.Session) { p.Password = "x" }, "no answer on TCP port 179"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "not a neighbor" {
				netlab.Here(t).Addr("eth1", "10.1.0.2/24")
			}
			bp := peerOf("bad", "10.1.0.254:179")
			tt.change(&bp.Session)
			set(t, s, wanted([]plan.Peer{gp, bp}, "192.0.2.1/32"))
			says(t, s, "bad", tt.words)
		})
	}
	if st := statusOf(s, "good"); st.Since != since || !st.Established() {
		t.Errorf("the good peer suffered: %+v", st)
	}
	good.has("192.0.2.1/32 via 10.0.0.1")
}

// A router that goes away is told apart from one that closes the session, and comes back by itself.
func TestLostRouter(t *testing.T) {
	r := connected(t, 0)
	r.start(fmt.Sprintf(birdSession, ""))
	s := newSpeaker(t)
	p := peerOf("tor", "10.0.0.254:179")
	p.Session.HoldTime, p.Session.KeepaliveTime = 3, 1
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	established(t, s, "tor")
	r.birdcWrite("disable node")
	says(t, s, "tor", "the router closed the session: NOTIFICATION Cease/Administrative Shutdown")
	r.birdcWrite("enable node")
	established(t, s, "tor")
	r.has("192.0.2.1/32 via 10.0.0.1")

	r.Run("ip link set eth0 down")
	says(t, s, "tor", "hold timer expired")
	r.Run("ip link set eth0 up")
	established(t, s, "tor")
}

func (r *router) birdcWrite(command string) {
	r.t.Helper()
	r.Run("birdc -s " + r.socket() + " " + command)
}
