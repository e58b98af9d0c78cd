package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// fakeSource is a Source whose Snapshot tests set.
type fakeSource struct {
	snap    atomic.Pointer[cluster.Snapshot]
	changed chan struct{}
}

func newSource() *fakeSource { return &fakeSource{changed: make(chan struct{}, 1)} }

func (s *fakeSource) Snapshot() *cluster.Snapshot { return s.snap.Load() }
func (s *fakeSource) Changed() <-chan struct{}    { return s.changed }

func (s *fakeSource) set(snap *cluster.Snapshot) {
	s.snap.Store(snap)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// lab is a node with two pods, a pod of another node behind it, and a client on the node's LAN that has the node for
// its router:
//
//	client 10.0.0.9 -- 10.0.0.1 node -- pod1 10.244.1.2, pod2 10.244.1.3 (this node's), far 10.244.2.2 (another node's)
//
// and the same with fd00:0::, fd00:244:1:: and fd00:244:2::.
type lab struct {
	t                             *testing.T
	node, client, pod1, pod2, far *nstest.Host
	source                        *fakeSource
	proxy                         *Proxy
	stop                          func()
}

func newLab(t *testing.T) *lab {
	l := &lab{
		t: t, node: nstest.New(t), client: nstest.New(t), pod1: nstest.New(t), pod2: nstest.New(t), far: nstest.New(t),
		source: newSource(),
	}
	nstest.Connect(l.node, "lan", []string{"10.0.0.1/24", "fd00::1/64"}, l.client, "eth0", []string{"10.0.0.9/24", "fd00::9/64"})
	nstest.Connect(l.node, "pod1", []string{"169.254.1.1/32", "fe80::1/64"}, l.pod1, "eth0", []string{"10.244.1.2/32", "fd00:244:1::2/128"})
	nstest.Connect(l.node, "pod2", []string{"169.254.1.1/32", "fe80::1/64"}, l.pod2, "eth0", []string{"10.244.1.3/32", "fd00:244:1::3/128"})
	nstest.Connect(l.node, "far", []string{"169.254.1.1/32", "fe80::1/64"}, l.far, "eth0", []string{"10.244.2.2/32", "fd00:244:2::2/128"})
	l.node.Do(func() {
		l.node.Sysctl("net/ipv4/ip_forward", "1")
		l.node.Sysctl("net/ipv6/conf/all/forwarding", "1")
		// Many refusals in a row are part of the tests.
		l.node.Sysctl("net/ipv4/icmp_ratelimit", "0")
		l.node.Sysctl("net/ipv6/icmp/ratelimit", "0")
	})
	for _, p := range []struct {
		pod          *nstest.Host
		link, v4, v6 string
	}{
		{l.pod1, "pod1", "10.244.1.2", "fd00:244:1::2"},
		{l.pod2, "pod2", "10.244.1.3", "fd00:244:1::3"},
		{l.far, "far", "10.244.2.2", "fd00:244:2::2"},
	} {
		l.run(l.node, "ip route add "+p.v4+" dev "+p.link)
		l.run(l.node, "ip route add "+p.v6+" dev "+p.link)
		l.run(p.pod, "ip route add 169.254.1.1 dev eth0")
		l.run(p.pod, "ip route add default via 169.254.1.1 src "+p.v4)
		l.run(p.pod, "ip -6 route add default via fe80::1 dev eth0 src "+p.v6)
	}
	l.run(l.node, "ip route add default via 10.0.0.9")
	l.run(l.node, "ip -6 route add default via fd00::9")
	l.run(l.client, "ip route add default via 10.0.0.1")
	l.run(l.client, "ip -6 route add default via fd00::1")
	serve(t, l.pod1, "pod1")
	serve(t, l.pod2, "pod2")
	serve(t, l.far, "far")
	return l
}

func (l *lab) run(h *nstest.Host, command string) string {
	l.t.Helper()
	args := strings.Fields(command)
	var out []byte
	var err error
	h.Do(func() { out, err = exec.Command(args[0], args[1:]...).CombinedOutput() })
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// serve answers every TCP connection and UDP packet to port 8080 with "NAME CLIENT-ADDRESS".
func serve(t *testing.T, h *nstest.Host, name string) {
	var l net.Listener
	var u net.PacketConn
	var err1, err2 error
	h.Do(func() {
		l, err1 = net.Listen("tcp", ":8080")
		u, err2 = net.ListenPacket("udp", ":8080")
	})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	answer := func(a net.Addr) []byte {
		return []byte(name + " " + netip.MustParseAddrPort(a.String()).Addr().Unmap().String())
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write(answer(c.RemoteAddr()))
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(answer(from), from)
		}
	}()
}

// ask connects to an address, "tcp" or "udp", and returns the answer: "SERVER CLIENT", "refused", "timeout".
func (l *lab) ask(h *nstest.Host, network, address string) (answer string) {
	h.Do(func() {
		c, err := net.DialTimeout(network, address, 300*time.Millisecond)
		if err == nil {
			defer c.Close()
			answer, err = exchange(c, network)
		}
		switch {
		case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM):
			// EPERM: a local sender of UDP gets it at once, when its own packet is refused.
			answer = "refused"
		case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
			answer = "timeout"
		case err != nil:
			answer = err.Error()
		}
	})
	return answer
}

func exchange(c net.Conn, network string) (string, error) {
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return string(b[:n]), err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// start runs the proxy on the node; stop ends it.
func (l *lab) start(change ...func(*Config)) {
	l.t.Helper()
	cfg := Config{
		Rules: ruleset.Config{Node: "n1"}, Source: l.source, Log: slog.New(slog.DiscardHandler),
		MinInterval: time.Millisecond, CheckInterval: 20 * time.Millisecond,
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		// Run opens its sockets itself, so it needs a thread in the node's namespace.
		l.node.Run(func() { done <- p.Run(ctx) })
	}()
	var once sync.Once
	l.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				l.t.Errorf("Run: %v", err)
			}
		})
	}
	l.t.Cleanup(l.stop)
}

// sync sets the Snapshot and waits until the rules follow.
func (l *lab) sync(snap *cluster.Snapshot) {
	l.t.Helper()
	l.source.set(snap)
	deadline := time.Now().Add(5 * time.Second)
	for l.proxy.synced.Load() != snap {
		if time.Now().After(deadline) {
			l.t.Fatal("the rules were not changed within 5 s")
		}
		time.Sleep(time.Millisecond)
	}
}

var (
	webPorts = []cluster.ServicePort{{Name: "tcp", Protocol: cluster.TCP, Port: 80, NodePort: 30080}, {Name: "udp", Protocol: cluster.UDP, Port: 80, NodePort: 30080}}
	webSlice = []cluster.SlicePort{{Name: "tcp", Protocol: cluster.TCP, Port: 8080}, {Name: "udp", Protocol: cluster.UDP, Port: 8080}}
)

func loadBalancer(vips string) func(*cluster.Service) {
	return func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs(vips) }
}

func externalLocal(s *cluster.Service) { s.ExternalLocal = true }

func TestTraffic(t *testing.T) {
	l := newLab(t)
	l.start()
	node := Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64")
	l.sync(Snapshot(node,
		Service("one", "10.96.0.1 fd00:96::1", webPorts, loadBalancer("192.0.2.1 2001:db8::1")),
		Slice("one", webSlice, "10.244.1.2@n1"), Slice("one", webSlice, "fd00:244:1::2@n1"),
		Service("far", "10.96.0.2 fd00:96::2", noNodePorts(), loadBalancer("192.0.2.2 2001:db8::2"), externalLocal),
		Slice("far", webSlice, "10.244.2.2@n2"), Slice("far", webSlice, "fd00:244:2::2@n2"),
		Service("near", "10.96.0.3 fd00:96::3", noNodePorts(), loadBalancer("192.0.2.3 2001:db8::3"), externalLocal),
		Slice("near", webSlice, "10.244.1.3@n1", "10.244.2.2@n2"), Slice("near", webSlice, "fd00:244:1::3@n1", "fd00:244:2::2@n2"),
		Service("none", "10.96.0.4 fd00:96::4", noNodePorts(), loadBalancer("192.0.2.4 2001:db8::4")),
		Service("guarded", "10.96.0.5 fd00:96::5", noNodePorts(), loadBalancer("192.0.2.5 2001:db8::5"), func(s *cluster.Service) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.244.1.2/31"), netip.MustParsePrefix("10.244.1.0/30"), netip.MustParsePrefix("fd00:244:1::2/128")}
		}),
		Slice("guarded", webSlice, "10.244.1.2@n1"), Slice("guarded", webSlice, "fd00:244:1::2@n1"),
	))
	v6 := strings.NewReplacer("10.0.0.", "fd00::", "10.96.0.", "fd00:96::", "10.244.1.", "fd00:244:1::", "10.244.2.", "fd00:244:2::", "192.0.2.", "2001:db8::")
	for _, c := range []struct {
		name string
		from *nstest.Host
		to   string
		want string
	}{
		{"pod to cluster IP keeps its address", l.pod2, "10.96.0.1:80", "pod1 10.244.1.3"},
		{"hairpin", l.pod1, "10.96.0.1:80", "pod1 SELF"},
		{"outside to cluster IP is masqueraded", l.client, "10.96.0.1:80", "pod1 NODE"},
		{"node to cluster IP", l.node, "10.96.0.1:80", "pod1 NODE"},
		{"client to VIP is masqueraded", l.client, "192.0.2.1:80", "pod1 NODE"},
		{"node to VIP", l.node, "192.0.2.1:80", "pod1 NODE"},
		{"pod to VIP is masqueraded", l.pod2, "192.0.2.1:80", "pod1 NODE"},
		{"hairpin by VIP", l.pod1, "192.0.2.1:80", "pod1 NODE"},
		{"client to node port", l.client, "10.0.0.1:30080", "pod1 NODE"},
		{"pod to node port", l.pod2, "10.0.0.1:30080", "pod1 NODE"},
		{"node to its own node port", l.node, "10.0.0.1:30080", "pod1 NODE"},
		{"Local: client's address is kept", l.client, "192.0.2.3:80", "pod2 10.0.0.9"},
		{"Local without local endpoints: dropped", l.client, "192.0.2.2:80", "timeout"},
		{"Local without local endpoints: a pod gets through", l.pod1, "192.0.2.2:80", "far 10.244.1.2"},
		{"Local without local endpoints: the node gets through", l.node, "192.0.2.2:80", "far NODE"},
		{"Local has no meaning for the cluster IP", l.pod1, "10.96.0.2:80", "far 10.244.1.2"},
		{"no endpoints: cluster IP", l.pod1, "10.96.0.4:80", "refused"},
		{"no endpoints: VIP", l.client, "192.0.2.4:80", "refused"},
		{"no endpoints: from the node", l.node, "192.0.2.4:80", "refused"},
		{"wrong port of a cluster IP", l.pod1, "10.96.0.1:81", "refused"},
		{"wrong port of a VIP", l.client, "192.0.2.1:81", "refused"},
		{"wrong port of a VIP from the node", l.node, "192.0.2.1:81", "refused"},
		{"source range: not in it", l.client, "192.0.2.5:80", "timeout"},
		{"source range: in it", l.pod1, "192.0.2.5:80", "pod1 NODE"},
		{"source range: not for the cluster IP", l.client, "10.96.0.5:80", "pod1 NODE"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
				to, want := c.to, c.want
				if f == cluster.IPv6 {
					host, port, _ := strings.Cut(to, ":")
					to, want = "["+v6.Replace(host)+"]:"+port, v6.Replace(want)
				}
				t.Run(fmt.Sprintf("%s/%s/%s", c.name, network, f), func(t *testing.T) {
					got := l.ask(c.from, network, to)
					if !matches(got, want) {
						t.Errorf("%s answered %q, want %q", to, got, want)
					}
				})
			}
		}
	}
}

func noNodePorts() []cluster.ServicePort {
	ports := append([]cluster.ServicePort(nil), webPorts...)
	for i := range ports {
		ports[i].NodePort = 0
	}
	return ports
}

// matches compares an answer with the wanted one, in which NODE is any address of the node, and SELF one of the node or
// whatever a hairpin is masqueraded with.
func matches(got, want string) bool {
	name, addr, _ := strings.Cut(want, " ")
	gotName, gotAddr, _ := strings.Cut(got, " ")
	if addr == "NODE" || addr == "SELF" {
		nodes := "10.0.0.1 169.254.1.1 fd00::1"
		return name == gotName && strings.Contains(" "+nodes+" ", " "+gotAddr+" ")
	}
	return got == want
}
