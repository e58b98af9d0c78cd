package bgp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

const frrDir = "/usr/lib/frr/" // where Debian has the daemons

// frr is a host with FRR, with the addresses of connected.
type frr struct {
	*netlab.Host
	t   *testing.T
	dir string
}

func connectedFRR(t *testing.T) *frr {
	t.Helper()
	netlab.Require(t)
	if _, err := exec.LookPath(frrDir + "bgpd"); err != nil {
		t.Fatal("needs FRR (Debian package frr; hack/install-packages)")
	}
	dir, err := os.MkdirTemp("", "seamark-frr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	chownFRR(t, dir)
	here, r := netlab.Here(t), &frr{Host: netlab.New(t), t: t, dir: dir}
	here.Sysctl("ipv6.conf.default.dad_transmits", 0)
	r.Sysctl("ipv6.conf.default.dad_transmits", 0)
	netlab.Link(here, "eth0", r.Host, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	r.Addr("eth0", "10.0.0.254/24")
	r.Addr("eth0", "fd00::fe/64")
	return r
}

func chownFRR(t *testing.T, path string) {
	t.Helper()
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// start runs zebra and bgpd, the latter with what the body says of AS 64500.
func (r *frr) start(body string) {
	r.t.Helper()
	r.daemon("zebra", "")
	r.daemon("bgpd", "-p 179", "debug bgp neighbor-events\nrouter bgp 64500\n bgp router-id 10.255.0.1\n no bgp ebgp-requires-policy\n"+body)
}

func (r *frr) daemon(name, args string, config ...string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path+".conf", []byte("log file "+path+".log\n"+strings.Join(config, "\n")), 0o600); err != nil {
		r.t.Fatal(err)
	}
	chownFRR(r.t, path+".conf")
	cmd := r.Command(fmt.Sprintf("%s -f %s.conf -i %s.pid -z %s/zserv --vty_socket %s -P 0 %s", frrDir+name, path, path, r.dir, r.dir, args))
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if log, err := os.ReadFile(path + ".log"); err == nil && r.t.Failed() {
			r.t.Logf("%s's log:\n%s", name, log)
		}
	})
	netlab.Eventually(r.t, name+" answers", func() bool {
		_, err := r.Try("vtysh --vty_socket " + r.dir + " -d " + name + " -c quit")
		return err == nil
	})
}

// load has the daemons read what may be in /etc/frr/frr.conf: each takes what is for it.
func (r *frr) load(config string) {
	r.t.Helper()
	path := filepath.Join(r.dir, "frr.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.Run("vtysh --vty_socket " + r.dir + " -f " + path)
}

// vtysh has a daemon run one command; blanks in it are part of it.
func (r *frr) vtysh(daemon, command string) string {
	cmd := r.Command("vtysh --vty_socket " + r.dir + " -d " + daemon + " -c")
	cmd.Args = append(cmd.Args, command)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// routes returns the valid routes that the router learned, sorted, each as "prefix via nexthop".
func (r *frr) routes() []string {
	var out []string
	for _, family := range []string{"ipv4", "ipv6"} {
		var table struct {
			Routes map[string][]struct {
				Valid    bool
				Nexthops []struct{ IP string }
			}
		}
		if json.Unmarshal([]byte(r.vtysh("bgpd", "show bgp "+family+" unicast json")), &table) != nil {
			continue
		}
		for prefix, paths := range table.Routes {
			for _, p := range paths {
				if p.Valid && len(p.Nexthops) > 0 {
					out = append(out, prefix+" via "+p.Nexthops[0].IP)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func (r *frr) has(want ...string) {
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

// shows waits until the router shows all words for a prefix.
func (r *frr) shows(prefix string, words ...string) {
	r.t.Helper()
	family, out := "ipv4", ""
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	defer func() {
		if r.t.Failed() {
			r.t.Logf("wanted %q in\n%s", words, out)
		}
	}()
	netlab.Eventually(r.t, "the router shows the attributes", func() bool {
		out = r.vtysh("bgpd", "show bgp "+family+" unicast "+prefix)
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) })
	})
}

const frrNeighbor = ` neighbor 10.0.0.1 remote-as 64512
 %s
 address-family ipv4 unicast
  neighbor 10.0.0.1 activate
 address-family ipv6 unicast
  neighbor 10.0.0.1 activate
`

func frrPeer() plan.Peer {
	p := peerOf("tor", "10.0.0.254:179")
	p.NextHop6 = netip.MustParseAddr("fd00::1")
	return p
}

// Both families with each of the ways to secure or place the session.
func TestFRRSessions(t *testing.T) {
	for name, tt := range map[string]struct {
		neighbor string
		change   func(p *plan.Session)
	}{
		"plain":                    {"", func(*plan.Session) {}},
		"MD5":                      {"neighbor 10.0.0.1 password secret", func(p *plan.Session) { p.Password = "secret" }},
		"GTSM":                     {"neighbor 10.0.0.1 ttl-security hops 1", func(p *plan.Session) { p.MinTTL = 255 }},
		"GTSM at the router alone": {"neighbor 10.0.0.1 ttl-security hops 1", func(*plan.Session) {}},
		"multihop":                 {"neighbor 10.0.0.1 ebgp-multihop 3", func(p *plan.Session) { p.MultihopTTL = 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			r := connectedFRR(t)
			r.start(fmt.Sprintf(frrNeighbor, tt.neighbor))
			s := newSpeaker(t)
			p := frrPeer()
			tt.change(&p.Session)
			set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
			established(t, s, "tor")
			r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
		})
	}
}

// A router that does not send with TTL 255 is not spoken to where that is asked for.
func TestFRRWithoutGTSM(t *testing.T) {
	r := connectedFRR(t)
	r.start(fmt.Sprintf(frrNeighbor, ""))
	s := newSpeaker(t)
	p := frrPeer()
	p.Session.MinTTL, p.Session.ConnectRetryTime = 255, 2
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32"))
	says(t, s, "tor", "does not send an OPEN: check that it sends with TTL 255")
}

func TestFRRAttributes(t *testing.T) {
	r := connectedFRR(t)
	r.start(fmt.Sprintf(frrNeighbor, ""))
	s := newSpeaker(t)
	w := wanted([]plan.Peer{frrPeer()})
	w.Routes = routesTo([]string{"tor"}, everyAttribute(), "192.0.2.1/32", "2001:db8::1/128")
	set(t, s, w)
	for _, prefix := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
		r.shows(prefix, "64512 64512 64512\n", "metric 30", "Community: 64512:100 no-export", "Large Community: 4200000000:1:2",
			"RT:64512:7", "SoO:192.0.2.1:8", "RT:4200000000:9", "LB:64512:125000000")
	}
}

// everyAttribute has one or more of each.
func everyAttribute() *cluster.Attributes {
	med, pref := uint32(30), uint32(250)
	return &cluster.Attributes{
		Communities:      []cluster.Community{64512<<16 | 100, 0xffffff01},
		LargeCommunities: []cluster.LargeCommunity{{Admin: 4200000000, Local1: 1, Local2: 2}},
		ExtCommunities: []cluster.ExtCommunity{
			{Kind: "rt", ASN: 64512, Number: 7}, {Kind: "soo", Addr: netip.MustParseAddr("192.0.2.1"), Number: 8},
			{Kind: "rt", ASN: 4200000000, Number: 9}, {Kind: "lb", ASN: 64512, Number: 125000000},
		},
		LocalPref: &pref, MED: &med, Prepend: 2,
	}
}

// IPv4 routes with IPv6 next hops, over a session between global addresses: with a router that can, and with one that was told
// not to, which gets none.
func TestFRRExtendedNextHop(t *testing.T) {
	for name, tt := range map[string]struct {
		capability string
		want       []string
	}{
		"with":    {"neighbor fd00::1 capability extended-nexthop", []string{"192.0.2.1/32 via fd00::1", "2001:db8::1/128 via fd00::1"}},
		"without": {"no neighbor fd00::1 capability extended-nexthop", []string{"2001:db8::1/128 via fd00::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := connectedFRR(t)
			r.start(" neighbor fd00::1 remote-as 64512\n " + tt.capability + `
 address-family ipv4 unicast
  neighbor fd00::1 activate
 address-family ipv6 unicast
  neighbor fd00::1 activate
`)
			s := newSpeaker(t)
			p := peerOf("tor", "[fd00::fe]:179")
			p.Session.ExtendedNextHop = true
			p.Session.Source = netip.MustParseAddr("fd00::1") // FRR sends router advertisements: there is another address
			set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
			established(t, s, "tor")
			r.has(tt.want...)
			if st := statusOf(s, "tor"); st.IPv4 != (len(tt.want) == 2) || st.PrefixesSent != len(tt.want) {
				t.Errorf("status %+v", st)
			}
			set(t, s, wanted([]plan.Peer{p}, "2001:db8::1/128"))
			r.has("2001:db8::1/128 via fd00::1")
		})
	}
}

// killable is a speaker that a test can end like a process: by cutting its connections.
func (r *frr) stale() bool {
	return strings.Contains(r.vtysh("bgpd", "show bgp ipv4 unicast 192.0.2.1/32"), "stale")
}

// An agent that restarts keeps its routes at the router, and those that are not wanted any more go when it is back. One that
// is closed takes them along.
func TestFRRGracefulRestart(t *testing.T) {
	r := connectedFRR(t)
	r.start(fmt.Sprintf(frrNeighbor, "bgp graceful-restart"))
	p := frrPeer()
	p.Session.RestartTime = 60
	first := newSpeaker(t)
	set(t, first, wanted([]plan.Peer{p}, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"))
	established(t, first, "tor")
	all := []string{"192.0.2.1/32 via 10.0.0.1", "192.0.2.2/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1"}
	r.has(all...)
	first.Suspend()
	netlab.Eventually(t, "the router marks the routes stale", r.stale)
	r.has(all...)

	watched := watchRoutes(r.routes)
	second := newSpeaker(t)
	set(t, second, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
	established(t, second, "tor")
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	if r.stale() {
		t.Error("still stale")
	}
	for _, seen := range watched() {
		if !slices.Contains(seen, "192.0.2.1/32 via 10.0.0.1") {
			t.Errorf("the router was without the route: %v", seen)
		}
	}
	second.Close()
	r.has()
}

// watchRoutes looks at the routes again and again until the returned function is called, which tells what was seen.
func watchRoutes(routes func() []string) func() [][]string {
	stop, done := make(chan struct{}), make(chan [][]string)
	go func() {
		var seen [][]string
		for {
			select {
			case <-stop:
				done <- seen
				return
			case <-time.After(10 * time.Millisecond):
				seen = append(seen, routes())
			}
		}
	}()
	return func() [][]string { close(stop); return <-done }
}

// FRR prefers other paths to one with GRACEFUL_SHUTDOWN by itself. After the leave time there are no routes, and there is
// still a session.
func TestFRRLeaving(t *testing.T) {
	r := connectedFRR(t)
	r.start(fmt.Sprintf(frrNeighbor, ""))
	s := newSpeaker(t)
	s.leaveTime = 3 * time.Second
	w := wanted([]plan.Peer{frrPeer()}, "192.0.2.1/32", "2001:db8::1/128")
	set(t, s, w)
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	since := statusOf(s, "tor").Since
	w.Leaving = true
	w.Routes = append(w.Routes, routesTo([]string{"tor"}, &cluster.Attributes{}, "2001:db8::2/128")...) // too late
	set(t, s, w)
	r.shows("192.0.2.1/32", "graceful-shutdown", "localpref 0")
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1")
	r.has()
	set(t, s, w) // still nothing
	if st := statusOf(s, "tor"); !st.Established() || st.Since != since || st.PrefixesSent != 0 {
		t.Errorf("status %+v", st)
	}
	w.Leaving = false
	set(t, s, w)
	r.has("192.0.2.1/32 via 10.0.0.1", "2001:db8::1/128 via fd00::1", "2001:db8::2/128 via fd00::1")
	r.shows("192.0.2.1/32", "best")
	if strings.Contains(r.vtysh("bgpd", "show bgp ipv4 unicast 192.0.2.1/32"), "graceful-shutdown") {
		t.Error("the community is still there")
	}
}

// Ten thousand routes come, change and go.
func TestFRRTenThousandRoutes(t *testing.T) {
	r := connectedFRR(t)
	r.start(fmt.Sprintf(frrNeighbor, ""))
	s := newSpeaker(t)
	w := wanted([]plan.Peer{frrPeer()}, hostRoutes(10000)...)
	set(t, s, w)
	established(t, s, "tor")
	count := func(n int) func() bool {
		return func() bool {
			return strings.Contains(r.vtysh("bgpd", "show bgp ipv4 unicast summary json"), fmt.Sprintf(`"pfxRcd":%d,`, n))
		}
	}
	netlab.Eventually(t, "the router has all", count(10000))
	w.Routes = w.Routes[5000:]
	set(t, s, w)
	netlab.Eventually(t, "the router has half", count(5000))
	if st := statusOf(s, "tor"); st.PrefixesSent != 5000 {
		t.Errorf("status %+v", st)
	}
}

func hostRoutes(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("198.18.%d.%d/32", i/256, i%256)
	}
	return out
}
