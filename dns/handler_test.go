package dns

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seamark-io/seamark/dns/zone"
)

// newTestHandler has a synced zone and the given upstream servers.
func newTestHandler(t testing.TB, reg prometheus.Registerer, maxForwards int, upstreams ...netip.AddrPort) *handler {
	t.Helper()
	m, err := newMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForwarder(upstreams, maxForwards)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	h := &handler{slots: make(chan struct{}, maxForwards), metrics: m}
	h.zone.Store(zone.Build(zoneConfig, snapshot("10.96.0.10"), nil))
	h.forward.Store(f)
	return h
}

var testClient = client{local: &net.UDPAddr{IP: net.IPv4(10, 96, 0, 10), Port: 53}, remote: &net.UDPAddr{IP: net.IPv4(10, 244, 0, 2), Port: 5353}}

// answer passes a message through the handler; nil if it is dropped.
func answer(t testing.TB, h *handler, msg []byte) *dns.Msg {
	t.Helper()
	q, ok := h.fromZone(msg, nil, udp4)
	if !ok {
		return nil
	}
	out := q.reply
	if q.verdict != zone.Answered {
		q.own()
		var err error
		if out, err = h.elsewhere(context.Background(), q, testClient); err != nil {
			t.Fatalf("%s: %v", q.msg, err)
		}
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(out); err != nil {
		t.Fatalf("% x: reply % x: %v", msg, out, err)
	}
	return reply
}

func pack(t testing.TB, name string, typ uint16) []byte {
	t.Helper()
	msg, err := new(dns.Msg).SetQuestion(name, typ).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestNoUpstream(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := newTestHandler(t, reg, 10)
	for _, name := range []string{"www.example.com.", "outside.test.svc.cluster.local."} {
		begin := time.Now()
		reply := answer(t, h, pack(t, name, dns.TypeA))
		if reply.Rcode != dns.RcodeServerFailure || len(reply.Question) != 1 || time.Since(begin) > time.Second {
			t.Errorf("%s: after %s\n%v", name, time.Since(begin), reply)
		}
	}
	if reply := answer(t, h, pack(t, "outside.test.svc.cluster.local.", dns.TypeA)); len(reply.Answer) != 1 {
		t.Errorf("the CNAME record is not in the reply:\n%v", reply)
	}
	want := `
		# HELP seamark_dns_forward_failures_total Queries for names outside the cluster without an answer: no_upstream, limit (too many under way), upstream (none answered).
		# TYPE seamark_dns_forward_failures_total counter
		seamark_dns_forward_failures_total{reason="limit"} 0
		seamark_dns_forward_failures_total{reason="no_upstream"} 3
		seamark_dns_forward_failures_total{reason="upstream"} 0
	`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "seamark_dns_forward_failures_total"); err != nil {
		t.Error(err)
	}
}

func TestForwardLimitAndMetrics(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	reg := prometheus.NewRegistry()
	h := newTestHandler(t, reg, 2, silent.LocalAddr().(*net.UDPAddr).AddrPort())
	under := make(chan *dns.Msg, 2)
	for i := range 2 {
		go func() { under <- answer(t, h, pack(t, fmt.Sprintf("%d.example.com.", i), dns.TypeA)) }()
	}
	for len(h.slots) < 2 {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	if reply := answer(t, h, pack(t, "www.example.com.", dns.TypeA)); reply.Rcode != dns.RcodeServerFailure || time.Since(begin) > time.Second {
		t.Errorf("beyond the limit: after %s\n%v", time.Since(begin), reply)
	}
	if reply := answer(t, h, pack(t, "web.test.svc.cluster.local.", dns.TypeA)); reply.Rcode != dns.RcodeSuccess {
		t.Errorf("the limit concerns the cluster's names:\n%v", reply)
	}
	for range 2 {
		if reply := <-under; reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("upstream server does not answer:\n%v", reply)
		}
	}
	if took := time.Since(begin); took > 7*time.Second {
		t.Errorf("gave up after %s", took)
	}
	got := map[string]bool{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, name := range []string{
		"seamark_dns_requests_total", "seamark_dns_responses_total", "seamark_dns_request_duration_seconds", "seamark_dns_zone_records",
		"seamark_dns_forward_failures_total", "seamark_dns_forward_conn_cache_misses_total", "seamark_dns_forward_healthcheck_broken_total",
		"seamark_dns_cache_requests_total",
	} {
		if !got[name] {
			t.Errorf("no metric %s in %v", name, got)
		}
	}
	if n := testutil.ToFloat64(h.metrics.requests[udp4][dns.TypeA]); n != 4 {
		t.Errorf("%v requests counted, want 4", n)
	}
	if n := testutil.ToFloat64(h.metrics.responses[dns.RcodeServerFailure]); n != 3 {
		t.Errorf("%v SERVFAIL counted, want 3", n)
	}
}

// afterwards is a plugin whose work goes on after its reply.
type afterwards struct{ ctx context.Context }

func (a *afterwards) Name() string { return "afterwards" }

func (a *afterwards) ServeDNS(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
	a.ctx = ctx
	return dns.RcodeSuccess, w.WriteMsg(new(dns.Msg).SetReply(q))
}

// What plugins do after the reply, such as to fetch a name again before it expires, is not ended by it.
func TestWorkAfterReply(t *testing.T) {
	h, p := newTestHandler(t, nil, 10), &afterwards{}
	h.forward.Store(&forwarder{chain: p})
	answer(t, h, pack(t, "www.example.com.", dns.TypeA))
	if err := p.ctx.Err(); err != nil {
		t.Error(err)
	}
}

// TestCache asks the upstream server once, and gives each client the case that it asked with.
func TestCache(t *testing.T) {
	asked := make(chan string, 10)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{mustRR(q.Question[0].Name + " 300 A 198.51.100.7")}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = srv.ActivateAndServe() }()
	defer func() { _ = srv.Shutdown() }()
	h := newTestHandler(t, nil, 10, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	for _, name := range []string{"www.example.com.", "WWW.example.com.", "www.EXAMPLE.com."} {
		reply := answer(t, h, pack(t, name, dns.TypeA))
		if len(reply.Answer) != 1 || reply.Question[0].Name != name || reply.Answer[0].Header().Ttl > 30 {
			t.Errorf("%s:\n%v", name, reply)
		}
	}
	if len(asked) != 1 {
		t.Errorf("upstream server was asked %d times", len(asked))
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		change func(*Config)
		err    string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.Zone.Domain = "" }, `domain ""`},
		{func(c *Config) { c.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")} }, "name one address"},
		{func(c *Config) {
			c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
			c.Upstreams = c.Listen
		}, "round in circles"},
		{func(c *Config) { c.MaxForwards = -1 }, "limits must be positive"},
	} {
		cfg := Config{Source: newSource(), Zone: zoneConfig, Log: slog.New(slog.DiscardHandler)}
		tt.change(&cfg)
		_, err := New(cfg)
		if got := fmt.Sprint(err); (err == nil) != (tt.err == "") || !strings.Contains(got, tt.err) && tt.err != "" {
			t.Errorf("error %v, want %q", err, tt.err)
		}
	}
}

// TestPortTaken serves what it can, and the rest as soon as it can.
func TestPortTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	busy := taken.LocalAddr().(*net.UDPAddr).AddrPort()
	free := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), busy.Port())
	src := newSource()
	src.set(snapshot())
	s, end := run(t, Config{Source: src, Zone: zoneConfig, Listen: []netip.AddrPort{busy, free}})
	defer end()
	ask := func(server netip.AddrPort) error {
		_, _, err := (&dns.Client{Timeout: time.Second}).Exchange(new(dns.Msg).SetQuestion("web.test.svc.cluster.local.", dns.TypeA), server.String())
		return err
	}
	eventually(t, "the free address", func() error { return ask(free) })
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), busy.String()) {
		t.Errorf("Ready: %v, want an error that names %s", err, busy)
	}
	_ = taken.Close()
	eventually(t, "the address that became free", func() error { return ask(busy) })
	eventually(t, "Ready", s.Ready)
}

func FuzzHandler(f *testing.F) {
	h := newTestHandler(f, nil, 10)
	f.Add(pack(f, "web.test.svc.cluster.local.", dns.TypeA))
	f.Add(pack(f, "outside.test.svc.cluster.local.", dns.TypeA))
	f.Add(pack(f, "www.example.com.", dns.TypeHTTPS))
	edns, _ := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).SetEdns0(4096, true).Pack()
	f.Add(edns)
	f.Fuzz(func(t *testing.T, msg []byte) {
		reply := answer(t, h, msg)
		if reply == nil {
			return
		}
		if reply.Id != binary.BigEndian.Uint16(msg) || !reply.Response {
			t.Fatalf("% x: %v", msg, reply)
		}
	})
}

// BenchmarkUDP asks over loopback, with many queries under way.
func BenchmarkUDP(b *testing.B) {
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := probe.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = probe.Close()
	l, err := listen(addr, newTestHandler(b, nil, 10), 1)
	if err != nil {
		b.Fatal(err)
	}
	l.start(make(chan struct{}, 1))
	defer l.close()
	msg := pack(b, "web.test.svc.cluster.local.", dns.TypeA)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		if err != nil {
			b.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		in := make([]byte, zone.MaxUDPSize)
		for pb.Next() {
			if _, err := c.Write(msg); err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Read(in); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
