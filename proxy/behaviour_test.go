package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

var node1 = Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64")

// served returns a Snapshot with one Service whose endpoints are given, of both families.
func served(change func(*cluster.Service), v4 string, v6 string) *cluster.Snapshot {
	return Snapshot(node1, Service("web", "10.96.0.1 fd00:96::1", webPorts, loadBalancer("192.0.2.1 2001:db8::1"), change),
		Slice("web", webSlice, strings.Fields(v4)...), Slice("web", webSlice, strings.Fields(v6)...))
}

func TestAffinity(t *testing.T) {
	l := newLab(t)
	l.start()
	sticky := func(s *cluster.Service) { s.Affinity = 2 * time.Second }
	all4, all6 := "10.244.1.2@n1 10.244.1.3@n1 10.244.2.2@n2", "fd00:244:1::2@n1 fd00:244:1::3@n1 fd00:244:2::2@n2"
	addresses := map[string]string{"pod1": "10.244.1.2@n1 fd00:244:1::2@n1", "pod2": "10.244.1.3@n1 fd00:244:1::3@n1", "far": "10.244.2.2@n2 fd00:244:2::2@n2"}
	for _, to := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(to+"/"+network, func(t *testing.T) {
				l.sync(served(sticky, all4, all6))
				server := func() string {
					name, _, _ := strings.Cut(l.ask(l.client, network, to), " ")
					return name
				}
				seen := map[string]bool{}
				first := server()
				for range 15 {
					seen[server()] = true
				}
				if len(seen) != 1 || !seen[first] {
					t.Fatalf("the client was at %s, then at %v", first, seen)
				}
				// It stays when another endpoint goes, and moves when its own does.
				for name, eps := range addresses {
					if name != first {
						v4, v6, _ := strings.Cut(eps, " ")
						l.sync(served(sticky, strings.ReplaceAll(all4, v4, ""), strings.ReplaceAll(all6, v6, "")))
						if now := server(); now != first {
							t.Errorf("%s went, and the client moved from %s to %s", name, first, now)
						}
					}
				}
				v4, v6, _ := strings.Cut(addresses[first], " ")
				l.sync(served(sticky, strings.ReplaceAll(all4, v4, ""), strings.ReplaceAll(all6, v6, "")))
				second := server()
				if second == first || addresses[second] == "" {
					t.Fatalf("%s went, and the client is at %q", first, second)
				}
				l.sync(served(sticky, all4, all6))
				for range 5 {
					if now := server(); now != second {
						t.Errorf("%s came back, and the client moved from %s to %s", first, second, now)
					}
				}
				if network == "udp" {
					return // expiry takes time, and knows no protocols
				}
				// After the timeout any endpoint may be chosen again: that it always is the same has a chance of 3^-9.
				seen = map[string]bool{}
				for range 10 {
					time.Sleep(2200 * time.Millisecond)
					seen[server()] = true
					if len(seen) > 1 {
						return
					}
				}
				t.Errorf("after the timeout the client still is at %v", seen)
			})
		}
	}
}

// TestSpread: without affinity all endpoints are used, about equally often.
func TestSpread(t *testing.T) {
	l := newLab(t)
	l.start()
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1 10.244.1.3@n1 10.244.2.2@n2", "fd00:244:1::2@n1"))
	seen := map[string]int{}
	for range 300 {
		name, _, _ := strings.Cut(l.ask(l.client, "tcp", "192.0.2.1:80"), " ")
		seen[name]++
	}
	for _, name := range []string{"pod1", "pod2", "far"} {
		// The expected number is 100, with a standard deviation of 8.
		if seen[name] < 50 || seen[name] > 150 {
			t.Errorf("%v", seen)
		}
	}
}

// TestUDPFlows: a client that keeps its port follows its Service to other endpoints.
func TestUDPFlows(t *testing.T) {
	l := newLab(t)
	l.start()
	same := func(*cluster.Service) {}
	for _, to := range []string{"10.96.0.1:80", "192.0.2.1:80", "10.0.0.1:30080", "[fd00:96::1]:80", "[2001:db8::1]:80"} {
		t.Run(to, func(t *testing.T) {
			var c net.Conn
			var err error
			l.client.Do(func() { c, err = net.Dial("udp", to) })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ask := func() string {
				answer, err := exchange(c, "udp")
				if err != nil {
					return "none"
				}
				name, _, _ := strings.Cut(answer, " ")
				return name
			}
			for _, step := range []struct{ v4, v6, want string }{
				{"10.244.1.2@n1", "fd00:244:1::2@n1", "pod1"},
				{"10.244.1.3@n1", "fd00:244:1::3@n1", "pod2"},
				{"", "", "none"},
				{"10.244.2.2@n2", "fd00:244:2::2@n2", "far"},
			} {
				l.sync(served(same, step.v4, step.v6))
				// The first answer may be the refusal of an earlier packet.
				got := ask()
				if got != step.want {
					got = ask()
				}
				if got != step.want {
					t.Errorf("with the endpoint %s the answer is from %q, want %q", step.v4, got, step.want)
				}
			}
		})
	}
}

// TestUDPFlowsFollowRules: as long as the rules cannot be changed, packets make flows by the old ones. They end when the
// new rules are in force.
func TestUDPFlowsFollowRules(t *testing.T) {
	l := newLab(t)
	l.start()
	same := func(*cluster.Service) {}
	l.sync(served(same, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	// Nobody but the process that made it can change a table that has an owner.
	l.stop()
	rules := strings.Replace(l.run(l.node, "nft list table ip seamark"), "table ip seamark {", "table ip seamark {\nflags owner;", 1)
	owner := exec.Command("nft", "-i")
	stdin, err := owner.StdinPipe()
	if err == nil {
		l.node.Do(func() { err = owner.Start() })
	}
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { stdin.Close(); owner.Wait() })
	defer release()
	l.run(l.node, "nft delete table ip seamark")
	file := filepath.Join(t.TempDir(), "owned.nft")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(stdin, "include %q\n", file)
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(l.run(l.node, "nft list ruleset"), "flags owner"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no table with an owner")
		}
	}

	l.start()
	var c net.Conn
	l.client.Do(func() { c, err = net.Dial("udp", "10.96.0.1:80") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() string {
		answer, err := exchange(c, "udp")
		if err != nil {
			return err.Error()
		}
		name, _, _ := strings.Cut(answer, " ")
		return name
	}
	// The proxy knows of the new endpoint, and the rules do not.
	l.sync(served(same, "10.244.1.3@n1", "fd00:244:1::3@n1"))
	if got := ask(); got != "pod1" {
		t.Fatalf("by the old rules: %q", got)
	}
	release()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := ask()
		if got == "pod2" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("10 s after the rules could be changed: %q", got)
		}
	}
}

// TestRestart: while one proxy ends and the next begins, with other endpoints and again, every connection works.
func TestRestart(t *testing.T) {
	l := newLab(t)
	l.start()
	same := func(*cluster.Service) {}
	l.sync(served(same, "10.244.1.2@n1 10.244.2.2@n2", "fd00:244:1::2@n1"))

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var asked, failed int
	var bad string
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			asked++
			if answer := l.ask(l.client, "tcp", "192.0.2.1:80"); answer != "pod1 169.254.1.1" && !strings.HasPrefix(answer, "pod1 10.") && !strings.HasPrefix(answer, "far ") && !strings.HasPrefix(answer, "pod2 ") {
				failed, bad = failed+1, answer
			}
		}
	})
	for i := range 5 {
		l.stop()
		time.Sleep(20 * time.Millisecond)
		l.start()
		l.sync(served(same, []string{"10.244.1.2@n1 10.244.2.2@n2", "10.244.1.2@n1 10.244.1.3@n1 10.244.2.2@n2"}[i%2], "fd00:244:1::2@n1"))
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if asked < 50 {
		t.Errorf("only %d connections were tried", asked)
	}
	if failed > 0 {
		t.Errorf("%d of %d connections failed, the last with %q", failed, asked, bad)
	}
	t.Logf("%d connections during five restarts", asked)
}

// TestRepair: a table that somebody deletes is there again soon.
func TestRepair(t *testing.T) {
	l := newLab(t)
	reg := prometheus.NewRegistry()
	l.start(func(c *Config) { c.Metrics = reg })
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	l.run(l.node, "nft flush ruleset")
	for deadline := time.Now().Add(5 * time.Second); ; {
		got := l.ask(l.client, "tcp", "192.0.2.1:80")
		if matches(got, "pod1 NODE") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing was repaired within 5 s: %q", got)
		}
	}
	if n := testutil.ToFloat64(l.proxy.metrics.drift); n != 1 {
		t.Errorf("seamark_proxy_drift_total is %v", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

// TestRepairFlows: what went untranslated while the rules were gone does not stay so for ever.
func TestRepairFlows(t *testing.T) {
	l := newLab(t)
	l.start(func(c *Config) { c.CheckInterval = 300 * time.Millisecond })
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	// Somebody else's rules have flows tracked also while ours are gone.
	l.run(l.node, "nft add table inet other { chain c { type filter hook prerouting priority 0 ; ct state established accept ; } ; }")
	for _, c := range []struct{ what, gone, to string }{
		{"a table", "nft delete table ip seamark", "192.0.2.1:80"},
		{"a table of IPv6", "nft delete table ip6 seamark", "[2001:db8::1]:80"},
		{"the elements of sets", "nft flush map ip seamark services ; flush set ip seamark vips", "192.0.2.1:80"},
	} {
		t.Run(c.what, func(t *testing.T) {
			var conn net.Conn
			var err error
			l.client.Do(func() { conn, err = net.Dial("udp", c.to) })
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			l.run(l.node, c.gone)
			if _, err := conn.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); ; {
				got, err := exchange(conn, "udp")
				if strings.HasPrefix(got, "pod1 ") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("5 s later: %q %v", got, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// TestLocalDNS: while the node's own DNS server listens, packets to it reach it, whatever the DNS Service's endpoints are.
// When it has stopped, its address stays on the node: the Service's endpoints answer if there are any, and else whoever
// asks is told at once that nobody does.
func TestLocalDNS(t *testing.T) {
	l := newLab(t)
	l.start(func(c *Config) { c.Rules.LocalDNS = Name("dns") })
	l.run(l.node, "ip addr add 10.96.0.10/32 dev lo")
	// As the DNS part does. A reply to the node itself then has no connection, and goes to the address that it comes from.
	l.run(l.node, "nft add table ip dns { chain output { type filter hook output priority raw ; udp dport 53 notrack ; udp sport 53 notrack ; } ; chain prerouting { type filter hook prerouting priority raw ; udp dport 53 notrack ; udp sport 53 notrack ; } ; }")
	var u net.PacketConn
	var err error
	l.node.Do(func() { u, err = net.ListenPacket("udp", "10.96.0.10:53") })
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo([]byte("own "+netip.MustParseAddrPort(from.String()).Addr().String()), from)
		}
	}()
	ports := []cluster.ServicePort{{Name: "udp", Protocol: cluster.UDP, Port: 53}, {Name: "tcp", Protocol: cluster.TCP, Port: 9153}}
	dns := Service("dns", "10.96.0.10", ports)
	elsewhere := Service("dns", "10.96.0.10", ports, func(s *cluster.Service) { s.InternalLocal = true })
	cases := []struct {
		name string
		snap *cluster.Snapshot
		// stopped is what is heard from a pod once the server has stopped, nodeStopped what from the node.
		stopped, nodeStopped string
	}{
		{"with endpoints", Snapshot(node1, dns, Slice("dns", webSlice, "10.244.1.2@n1")), "pod1 10.244.1.3", "pod1 NODE"},
		{"with endpoints on another node only", Snapshot(node1, dns, Slice("dns", webSlice, "10.244.2.2@n2")), "far 10.244.1.3", "far NODE"},
		{"with endpoints that a policy excludes", Snapshot(node1, elsewhere, Slice("dns", webSlice, "10.244.2.2@n2")), "refused", "refused"},
		{"without endpoints", Snapshot(node1, dns), "refused", "refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l.sync(c.snap)
			if got := l.ask(l.pod2, "udp", "10.96.0.10:53"); got != "own 10.244.1.3" {
				t.Errorf("from a pod: %q", got)
			}
			if got := l.ask(l.node, "udp", "10.96.0.10:53"); got != "own 10.96.0.10" {
				t.Errorf("from the node: %q", got)
			}
			if got := l.ask(l.pod2, "tcp", "10.96.0.10:80"); got != "refused" {
				t.Errorf("another port: %q", got)
			}
		})
	}
	u.Close()
	l.run(l.node, "nft delete table ip dns")
	for _, c := range cases {
		t.Run(c.name+", stopped", func(t *testing.T) {
			l.sync(c.snap)
			if got := l.ask(l.pod2, "udp", "10.96.0.10:53"); got != c.stopped {
				t.Errorf("from a pod: %q, want %q", got, c.stopped)
			}
			if got := l.ask(l.node, "udp", "10.96.0.10:53"); !matches(got, c.nodeStopped) {
				t.Errorf("from the node: %q, want %q", got, c.nodeStopped)
			}
		})
	}
}

// TestStrayPackets: what goes to a cluster IP that no Service has leaves the node by no route. The default route leads to the
// client.
func TestStrayPackets(t *testing.T) {
	l := newLab(t)
	l.start()
	l.sync(Clone(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"), ServiceCIDRs("10.96.0.0/16 fd00:96::/108")))
	l.run(l.client, "nft add table inet seen { chain in { type filter hook prerouting priority raw ; ip daddr 10.96.0.0/16 counter ; ip6 daddr fd00:96::/108 counter ; } ; }")
	for _, to := range []string{"10.96.9.9:80", "[fd00:96::99]:80"} {
		for _, network := range []string{"tcp", "udp"} {
			if got := l.ask(l.pod1, network, to); got != "timeout" {
				t.Errorf("from a pod, %s %s: %q", network, to, got)
			}
			l.ask(l.node, network, to)
		}
	}
	if got := l.run(l.client, "nft list table inet seen"); strings.Count(got, "packets 0 ") != 2 {
		t.Errorf("packets left the node:\n%s", got)
	}
	// An address of the range that somebody has put on the node works.
	l.run(l.node, "ip addr add 10.96.9.9/32 dev lo")
	serve(t, l.node, "node")
	for _, from := range []*nstest.Host{l.pod1, l.node} {
		if got := l.ask(from, "tcp", "10.96.9.9:8080"); !strings.HasPrefix(got, "node ") {
			t.Errorf("an address of this node: %q", got)
		}
	}
}

// TestPingIsNotRoutedOn: an echo request to a VIP that nobody on this node answers goes nowhere. The node's default route
// leads to the client.
func TestPingIsNotRoutedOn(t *testing.T) {
	l := newLab(t)
	l.start()
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	l.run(l.client, "nft add table inet seen { chain in { type filter hook prerouting priority raw ; icmp type echo-request counter ; icmpv6 type echo-request counter ; } ; }")
	for _, vip := range []string{"192.0.2.1", "2001:db8::1"} {
		var err error
		l.pod1.Do(func() { err = exec.Command("ping", "-c1", "-W1", vip).Run() })
		if err == nil {
			t.Errorf("%s answers", vip)
		}
	}
	if got := l.run(l.client, "nft list table inet seen"); strings.Count(got, "packets 0 ") != 2 {
		t.Errorf("the pings were routed on:\n%s", got)
	}
}

// TestProblemsOnce: a Problem is told when it begins, not with every sync.
func TestProblemsOnce(t *testing.T) {
	l := newLab(t)
	var mu sync.Mutex
	var told []string
	l.start(func(c *Config) {
		c.Problem = func(p ruleset.Problem) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, p.Service.Name+" "+p.Reason)
		}
	})
	conflict := func(names ...string) *cluster.Snapshot {
		s := Snapshot(node1)
		for i, name := range names {
			Service(name, fmt.Sprintf("10.96.0.%d", i+1), noNodePorts()[:1], loadBalancer("192.0.2.1"))(s)
		}
		return s
	}
	for range 3 {
		l.sync(conflict("a", "b"))
	}
	l.sync(conflict("a"))
	l.sync(conflict("a", "b"))
	mu.Lock()
	defer mu.Unlock()
	if want := "[b FrontendConflict b FrontendConflict]"; fmt.Sprint(told) != want {
		t.Errorf("told %v, want %s", told, want)
	}
}

// TestKernelProblems: a node that cannot do its part says so, once for each family that is used.
func TestKernelProblems(t *testing.T) {
	root := t.TempDir()
	write := func(name, value string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	both, _ := ruleset.Build(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"), ruleset.Config{Node: "n1"})
	v4, _ := ruleset.Build(Snapshot(node1, Service("web", "10.96.0.1", webPorts)), ruleset.Config{Node: "n1"})
	check := func(what string, rs ruleset.Ruleset, want ...string) {
		t.Helper()
		problems := kernelProblems(root, families(root), &rs)
		ok := len(problems) == len(want)
		for i := range want {
			ok = ok && strings.Contains(problems[i].Reason+" "+problems[i].Message, want[i])
		}
		if !ok {
			t.Errorf("%s: %v, want %q", what, problems, want)
		}
	}
	check("a kernel without IPv6", both, "NoIPv6")
	check("a kernel without IPv6, and no Service with it", v4)
	write("net/ipv4/ip_forward", "0")
	write("net/ipv6/conf/all/forwarding", "0")
	check("no forwarding", both, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	check("no forwarding, IPv4 only", v4, "NotForwarding")
	write("net/ipv4/ip_forward", "1")
	write("net/ipv6/conf/all/forwarding", "1")
	check("all right", both)
}

// TestWithoutIPv6: on a kernel without IPv6 the rest works.
func TestWithoutIPv6(t *testing.T) {
	l := newLab(t)
	l.start(func(c *Config) { c.SysctlRoot = t.TempDir() })
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	if got := l.ask(l.client, "tcp", "192.0.2.1:80"); !matches(got, "pod1 NODE") {
		t.Errorf("IPv4: %q", got)
	}
	if got := l.run(l.node, "nft list tables"); strings.Contains(got, "ip6") {
		t.Errorf("tables:\n%s", got)
	}
	if err := l.proxy.Ready(); err != nil {
		t.Error(err)
	}
}

// TestNodePortPrefixes: node ports are served at the addresses that prefixes choose, also at one that the node gets later.
func TestNodePortPrefixes(t *testing.T) {
	l := newLab(t)
	l.run(l.node, "ip addr add 172.16.0.1/32 dev lan")
	l.start(func(c *Config) {
		c.Rules.NodePortPrefixes = []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	})
	l.sync(served(func(*cluster.Service) {}, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	for to, want := range map[string]string{
		"172.16.0.1:30080": "pod1 NODE",
		"10.0.0.1:30080":   "refused",
		"[fd00::1]:30080":  "pod1 NODE", // no prefix of this family: its primary address
	} {
		if got := l.ask(l.client, "tcp", to); !matches(got, want) {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
	if got := l.ask(l.node, "tcp", "127.0.0.1:30080"); got != "refused" {
		t.Errorf("loopback: %q", got)
	}
	l.run(l.node, "ip addr add 172.16.0.2/32 dev lan")
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := l.ask(l.client, "tcp", "172.16.0.2:30080")
		if matches(got, "pod1 NODE") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("an address that came later: %q", got)
		}
	}
}

// TestHealth: the kubelet and load balancers get an answer, and a port that is taken stops nothing.
func TestHealth(t *testing.T) {
	l := newLab(t)
	at := netip.MustParseAddrPort("10.0.0.1:10256")
	var taken net.Listener
	var err error
	l.node.Do(func() { taken, err = net.Listen("tcp", at.String()) })
	if err != nil {
		t.Fatal(err)
	}
	l.start(func(c *Config) { c.HealthAddress = at })
	if l.proxy.Ready() == nil {
		t.Error("ready before there is a Snapshot")
	}
	l.sync(served(externalLocal, "10.244.1.2@n1", "fd00:244:1::2@n1"))
	if err := l.proxy.Ready(); err != nil {
		t.Errorf("not ready after the first sync: %v", err)
	}
	if got := l.ask(l.client, "tcp", "192.0.2.1:80"); got != "pod1 10.0.0.9" {
		t.Errorf("with the health port taken: %q", got)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		code := 0
		l.client.Do(func() { code = status(at.String(), "/healthz") })
		if code == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("/healthz answers %d", code)
		}
	}
	// A node that is about to go gets no more traffic from load balancers, and is alive.
	leaving := *l.source.Snapshot().Nodes["n1"]
	leaving.Leaving = true
	l.sync(Clone(l.source.Snapshot(), func(s *cluster.Snapshot) { s.Nodes["n1"] = &leaving }))
	l.client.Do(func() {
		if healthz, livez := status(at.String(), "/healthz"), status(at.String(), "/livez"); healthz != 503 || livez != 200 {
			t.Errorf("on a node that is leaving /healthz answers %d, /livez %d", healthz, livez)
		}
	})
}

// status asks over a connection that is opened in this goroutine, and so in this network namespace.
func status(address, path string) (code int) {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return 0
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: test\r\n\r\n", path)
	fmt.Fscanf(c, "HTTP/1.0 %d", &code)
	return code
}
