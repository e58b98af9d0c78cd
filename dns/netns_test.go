package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/dns/bind"
	"github.com/seamark-io/seamark/dns/internal/netnstest"
	"github.com/seamark-io/seamark/dns/notrack"
	"github.com/seamark-io/seamark/dns/zone"
)

// source is a Source that tests write to.
type source struct {
	snap    atomic.Pointer[cluster.Snapshot]
	changed chan struct{}
}

func newSource() *source { return &source{changed: make(chan struct{}, 1)} }

func (s *source) Snapshot() *cluster.Snapshot { return s.snap.Load() }
func (s *source) Changed() <-chan struct{}    { return s.changed }

func (s *source) set(snap *cluster.Snapshot) {
	s.snap.Store(snap)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// snapshot has the DNS Service with the given cluster IPs, "web", "many" with 200 endpoints, and an ExternalName.
func snapshot(dnsIPs ...string) *cluster.Snapshot {
	s := cluster.NewSnapshot()
	s.AddNamespace("kube-system")
	s.AddNamespace("test")
	svc := func(ns, name string, v cluster.Service) cluster.Name {
		v.Name = cluster.Name{Namespace: ns, Name: name}
		s.AddService(&v)
		return v.Name
	}
	var ips []netip.Addr
	for _, ip := range dnsIPs {
		ips = append(ips, netip.MustParseAddr(ip))
	}
	svc("kube-system", "kube-dns", cluster.Service{ClusterIPs: ips})
	svc("test", "web", cluster.Service{
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.30")},
		Ports:      []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}},
	})
	svc("test", "outside", cluster.Service{Type: cluster.ExternalName, ExternalName: "www.example.com"})
	many := &cluster.Slice{Name: "many-a", Family: cluster.IPv4, Service: svc("test", "many", cluster.Service{Headless: true})}
	for i := range 200 {
		many.Endpoints = append(many.Endpoints, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}), Ready: true})
	}
	s.AddSlice(many)
	return s.Seal()
}

var zoneConfig = zone.Config{
	Domain:       "cluster.local",
	TTL:          5 * time.Second,
	ReverseCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	Service:      cluster.Name{Namespace: "kube-system", Name: "kube-dns"},
}

// run starts a Server and returns how to end it.
func run(t *testing.T, cfg Config) (*Server, func()) {
	t.Helper()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for range 100 {
		if err = ok(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s: %v", what, err)
}

// upstream is a name server outside the cluster, in the network namespace of the calling goroutine.
func upstream(t *testing.T, addr string) {
	t.Helper()
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch name := strings.ToLower(q.Question[0].Name); {
		case strings.HasSuffix(name, "cluster.local."):
			t.Errorf("upstream was asked for %s", name)
		case name == "www.example.com." && q.Question[0].Qtype == dns.TypeA:
			m.Answer = []dns.RR{mustRR("www.example.com. 300 A 198.51.100.7")}
		case name == "big.example.com.":
			for i := range 40 {
				m.Answer = append(m.Answer, mustRR(fmt.Sprintf(`big.example.com. 300 TXT "%02d %s"`, i, strings.Repeat("x", 60))))
			}
		case name == "slow.example.com.":
			time.Sleep(time.Second)
			m.Answer = []dns.RR{mustRR("slow.example.com. 300 A 198.51.100.8")}
		default:
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{mustRR("example.com. 60 SOA ns.example.com. root.example.com. 1 2 3 4 60")}
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(dns.MinMsgSize)
			if opt := q.IsEdns0(); opt != nil {
				m.Truncate(int(opt.UDPSize()))
			}
		}
		_ = w.WriteMsg(m)
	})
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	for _, srv := range []*dns.Server{{PacketConn: udp, Handler: h}, {Listener: tcp, Handler: h}} {
		ready := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		go func() { _ = srv.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = srv.Shutdown() })
	}
}

func mustRR(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}

func dig(args ...string) string {
	out, err := exec.Command("dig", append([]string{"+time=2", "+tries=1"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return strings.TrimSpace(string(out))
}

// TestServeClusterIPs runs the server as a node does, beside a service proxy that has other plans for the addresses,
// and asks it with dig from the node and from a pod.
func TestServeClusterIPs(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	// What a service proxy does with the cluster IP of a Service whose endpoints are elsewhere, here nowhere.
	netnstest.Exec(t, "nft", `
		table ip proxy {
			chain prerouting { type nat hook prerouting priority dstnat; ip daddr 10.96.0.0/12 meta l4proto { tcp, udp } th dport 53 dnat to 127.0.0.99:5399; }
			chain output { type nat hook output priority -100; ip daddr 10.96.0.0/12 meta l4proto { tcp, udp } th dport 53 dnat to 127.0.0.99:5399; }
			chain tracked { type filter hook input priority filter; th dport 53 ct state new counter; }
		}`)
	pod := newPod(t, 0)
	upstream(t, "127.0.0.1:5300")
	addresses, err := bind.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(addresses.Close)
	src := newSource()
	src.set(snapshot("10.96.0.10", "fd00:10:96::a"))
	cfg := Config{
		Source: src, Zone: zoneConfig, Addresses: addresses, Notrack: &notrack.Driver{},
		Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5300")},
	}
	s, end := run(t, cfg)
	eventually(t, "ready", s.Ready)

	for _, tt := range []struct{ args, want string }{
		{"+short web.test.svc.cluster.local", "10.96.0.30"},
		{"+short +tcp web.test.svc.cluster.local", "10.96.0.30"},
		{"+short _http._tcp.web.test.svc.cluster.local SRV", "0 100 80 web.test.svc.cluster.local."},
		{"+short -x 10.96.0.30", "web.test.svc.cluster.local."},
		{"+short outside.test.svc.cluster.local CNAME", "www.example.com."},
		{"+short outside.test.svc.cluster.local A", "www.example.com.\n198.51.100.7"},
		{"+short +tcp outside.test.svc.cluster.local A", "www.example.com.\n198.51.100.7"},
		{"+short www.example.com A", "198.51.100.7"},
		{"+short +tcp www.example.com A", "198.51.100.7"},
		{"+short dns-version.cluster.local TXT", `"1.1.0"`},
		{"+noall +answer +search +domain=test.svc.cluster.local web A", "web.test.svc.cluster.local. 5\tIN\tA\t10.96.0.30"},
		{"+short +noedns +notcp +ignore nothing.example.com", ""},
	} {
		for _, server := range []string{"@10.96.0.10", "@fd00:10:96::a"} {
			args := append(strings.Fields(tt.args), server)
			if got := dig(args...); got != tt.want {
				t.Errorf("node: dig %s: %s, want %s", strings.Join(args, " "), got, tt.want)
			}
			if got := pod.dig(args...); got != tt.want {
				t.Errorf("pod: dig %s: %s, want %s", strings.Join(args, " "), got, tt.want)
			}
		}
	}
	// Truncation: TC over UDP, and all of it over TCP, which dig uses on its own.
	for _, name := range []string{"many.test.svc.cluster.local A", "big.example.com TXT"} {
		args := append(strings.Fields(name), "@10.96.0.10")
		if got := pod.dig(append(args, "+ignore")...); !strings.Contains(got, "flags: qr aa tc rd ra") && !strings.Contains(got, "flags: qr tc rd") {
			t.Errorf("%s over UDP is not truncated:\n%s", name, got)
		}
		want := 200
		if strings.HasSuffix(name, "TXT") {
			want = 40
		}
		if got := pod.dig(append(args, "+short")...); strings.Count(got, "\n")+1 != want {
			t.Errorf("%s has %d records, want %d", name, strings.Count(got, "\n")+1, want)
		}
	}
	if got := netnstest.Exec(t, "nft", "list", "chain", "ip", "proxy", "tracked"); !strings.Contains(got, "packets 0 ") {
		t.Errorf("queries were tracked:\n%s", got)
	}

	// The Service gets another cluster IP: the old one goes.
	src.set(snapshot("10.96.0.11"))
	eventually(t, "new cluster IP", func() error {
		if got := pod.dig("+short", "web.test.svc.cluster.local", "@10.96.0.11"); got != "10.96.0.30" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if got := netnstest.Exec(t, "ip", "addr", "show", "dev", "lo"); strings.Contains(got, "10.96.0.10/") || strings.Contains(got, "fd00:10:96::a/") {
		t.Errorf("old addresses are still there:\n%s", got)
	}
	// A query that is under way elsewhere is answered before the end.
	slow := make(chan string)
	go func() { slow <- pod.dig("+short", "slow.example.com", "@10.96.0.11") }()
	time.Sleep(300 * time.Millisecond)
	end()
	if got := <-slow; got != "198.51.100.8" {
		t.Errorf("query under way at the end: %s", got)
	}
	// The address stays, so that queries go nowhere else, and the service proxy decides again.
	if got := netnstest.Exec(t, "ip", "addr", "show", "dev", "lo"); !strings.Contains(got, "10.96.0.11/") {
		t.Errorf("the address is not there after the end:\n%s", got)
	}
	if got := netnstest.Exec(t, "nft", "list", "set", "inet", "seamark-dns", "queries4"); strings.Contains(got, "10.96.0.11") {
		t.Errorf("queries are not tracked after the end:\n%s", got)
	}
	// Without the proxy's plans, or with none for this Service, who asks hears nothing: then a resolver asks again, where
	// a refusal would make it give up. From the node it is the same.
	netnstest.Exec(t, "nft", "flush", "table", "ip", "proxy")
	for from, dig := range map[string]func(...string) string{"a pod": pod.dig, "the node": dig} {
		if got := dig("+time=1", "web.test.svc.cluster.local", "@10.96.0.11"); !strings.Contains(got, "timed out") {
			t.Errorf("from %s after the end:\n%s", from, got)
		}
		if got := dig("+tcp", "web.test.svc.cluster.local", "@10.96.0.11"); !strings.Contains(got, "connection refused") {
			t.Errorf("from %s over TCP after the end:\n%s", from, got)
		}
	}
	waiting := make(chan string)
	go func() { waiting <- pod.dig("+short", "+tries=3", "www.example.com", "@10.96.0.11") }()
	time.Sleep(300 * time.Millisecond)

	// The addresses are served again before the API is reachable: SERVFAIL for the cluster's names, and the others as ever.
	src.set(nil)
	_, end = run(t, cfg)
	defer end()
	if got := <-waiting; !strings.HasSuffix(got, "198.51.100.7") {
		t.Errorf("who asked before the next start got: %s", got)
	}
	eventually(t, "names outside the cluster before the first sync", func() error {
		if got := pod.dig("+short", "www.example.com", "@10.96.0.11"); got != "198.51.100.7" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if got := pod.dig("web.test.svc.cluster.local", "@10.96.0.11"); !strings.Contains(got, "status: SERVFAIL") {
		t.Errorf("before the first sync:\n%s", got)
	}
	src.set(snapshot("10.96.0.11"))
	eventually(t, "first sync", func() error {
		if got := pod.dig("+short", "web.test.svc.cluster.local", "@10.96.0.11"); got != "10.96.0.30" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

// TestHandover asks from a pod without a pause while the server starts beside another DNS, to which the service proxy
// sends the queries otherwise, and ends: no query may be lost.
func TestHandover(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	asking, other := newPod(t, 0), newPod(t, 1)
	netnstest.Exec(t, "nft", `
		table ip proxy {
			chain prerouting { type nat hook prerouting priority dstnat; ip daddr 10.96.0.10 udp dport 53 dnat to 10.244.1.2:53; }
		}`)
	other.inside(t, func() {
		conn, err := net.ListenPacket("udp", "10.244.1.2:53")
		if err != nil {
			t.Error(err)
			return
		}
		srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Answer = []dns.RR{mustRR(q.Question[0].Name + " 5 A 192.0.2.99")}
			_ = w.WriteMsg(m)
		})}
		go func() { _ = srv.ActivateAndServe() }()
		t.Cleanup(func() { _ = srv.Shutdown() })
	})
	var stop atomic.Bool
	answers := make(chan string, 1<<20)
	begun, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		asking.inside(t, func() {
			c := &dns.Client{Timeout: time.Second}
			ask := func() string {
				m, _, err := c.Exchange(new(dns.Msg).SetQuestion("web.test.svc.cluster.local.", dns.TypeA), "10.96.0.10:53")
				if err != nil {
					return err.Error()
				}
				return strings.Join(strings.Fields(fmt.Sprint(m.Answer)), " ")
			}
			// The links take a moment to come up.
			for first := ask(); strings.Contains(first, "timeout"); first = ask() {
			}
			close(begun)
			for !stop.Load() {
				answers <- ask()
			}
		})
	}()
	<-begun
	addresses, err := bind.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(addresses.Close)
	src := newSource()
	src.set(snapshot("10.96.0.10"))
	time.Sleep(100 * time.Millisecond)
	for range 3 {
		s, end := run(t, Config{Source: src, Zone: zoneConfig, Addresses: addresses, Notrack: &notrack.Driver{}})
		eventually(t, "ready", s.Ready)
		time.Sleep(100 * time.Millisecond)
		end()
		time.Sleep(100 * time.Millisecond)
	}
	stop.Store(true)
	<-asked
	close(answers)
	turns, last, counts := []string{}, "", map[string]int{}
	for a := range answers {
		if counts[a]++; a != last {
			turns, last = append(turns, a), a
		}
	}
	t.Logf("answers: %v", counts)
	theirs, ours := "[web.test.svc.cluster.local. 5 IN A 192.0.2.99]", "[web.test.svc.cluster.local. 5 IN A 10.96.0.30]"
	if want := []string{theirs, ours, theirs, ours, theirs, ours, theirs}; !slices.Equal(turns, want) {
		t.Errorf("answers %q, want %q", turns, want)
	}
}

// pod is a network namespace behind the node.
type pod struct{ pid string }

func newPod(t *testing.T, n int) pod {
	t.Helper()
	// A process that ends when its input does, and so with the test.
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	p := pod{strconv.Itoa(cmd.Process.Pid)}
	link, v4, v6 := fmt.Sprintf("pod%d", n), fmt.Sprintf("10.244.%d.", n), fmt.Sprintf("fd00:10:244:%d::", n)
	netnstest.Exec(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", p.pid)
	for _, args := range []string{
		"link set " + link + " up", "addr add " + v4 + "1/24 dev " + link, "addr add " + v6 + "1/64 nodad dev " + link,
	} {
		netnstest.Exec(t, "ip", strings.Fields(args)...)
	}
	for _, args := range []string{
		"link set eth0 up", "addr add " + v4 + "2/24 dev eth0", "addr add " + v6 + "2/64 nodad dev eth0",
		"route add default via " + v4 + "1", "-6 route add default via " + v6 + "1",
	} {
		netnstest.Exec(t, "nsenter", append([]string{"-t", p.pid, "-n", "ip"}, strings.Fields(args)...)...)
	}
	return p
}

// inside runs f in the pod's network namespace: sockets that it opens itself are there.
func (p pod) inside(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, and nobody else gets it.
		runtime.LockOSThread()
		ns, err := os.Open("/proc/" + p.pid + "/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ns.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func (p pod) dig(args ...string) string {
	out, err := exec.Command("nsenter", append([]string{"-t", p.pid, "-n", "dig", "+time=2", "+tries=1"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return strings.TrimSpace(string(out))
}

// TestResolvConf follows the file, and leaves out a server that is ourselves.
func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log strings.Builder
	s, err := New(Config{Source: newSource(), Zone: zoneConfig, ResolvConf: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddrPort("10.96.0.10:53")
	s.listeners[own] = &listener{}
	for _, tt := range []struct{ file, want, err, log string }{
		{file: "nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.1\n", want: "[192.0.2.1:53 [2001:db8::1]:53]"},
		{file: "nameserver 10.96.0.10\nnameserver 192.0.2.2\n", want: "[192.0.2.2:53]", err: "10.96.0.10:53 is an address that we listen at"},
		{file: "nameserver fe80::1%eth0\nnameserver 192.0.2.3\n", want: "[192.0.2.3:53]", log: "fe80::1%eth0"},
		{file: "nameserver router\nnameserver 192.0.2.2\n", want: "[192.0.2.2:53]", log: "router"},
		{file: "nameserver fe80::1%eth0\n", want: "[192.0.2.2:53]", err: `has an address without a zone: ["fe80::1%eth0"]`},
		{file: "nameserver 10.96.0.10\n", want: "[]", err: "10.96.0.10:53 is an address that we listen at"},
		{file: "search example.com\n", want: "[]"},
	} {
		write(tt.file)
		log.Reset()
		err := s.updateForwarder(t.Context())
		if warned := strings.Contains(log.String(), "level=WARN"); warned != (tt.log != "") || !strings.Contains(log.String(), tt.log) {
			t.Errorf("%q: log %q, want a warning of %q", tt.file, log.String(), tt.log)
		}
		if got := fmt.Sprint(err); tt.err == "" && err != nil || !strings.Contains(got, tt.err) {
			t.Errorf("%q: error %v, want %q", tt.file, err, tt.err)
		}
		if got := fmt.Sprint(s.handler.forward.Load().upstreams); got != tt.want {
			t.Errorf("%q: upstream servers %s, want %s", tt.file, got, tt.want)
		}
	}
}
