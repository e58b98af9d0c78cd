package zone

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/seamark-io/seamark/cluster"
)

// bigSnapshot has a headless Service "big" with n endpoints and a named port.
func bigSnapshot(n int) *cluster.Snapshot {
	s := cluster.NewSnapshot()
	name := cluster.Name{Namespace: "test", Name: "big"}
	s.AddService(&cluster.Service{Name: name, Headless: true})
	slice := &cluster.Slice{Service: name, Family: cluster.IPv4, Ports: []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}}}
	for i := range n {
		slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, byte(i >> 8), byte(i)}), Ready: true})
	}
	s.AddSlice(slice)
	return s.Seal()
}

func TestLimits(t *testing.T) {
	z := Build(testConfig, bigSnapshot(5000), nil)
	edns := func(size uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.SetEdns0(size, false) } }
	for _, tt := range []struct {
		what    string
		with    func(*dns.Msg)
		tcp     bool
		atLeast int
		limit   int
	}{
		{what: "UDP without EDNS", with: func(*dns.Msg) {}, limit: 512, atLeast: 28},
		{what: "UDP with a tiny buffer", with: edns(100), limit: 512, atLeast: 27},
		{what: "UDP with 800", with: edns(800), limit: 800, atLeast: 45},
		{what: "UDP with a huge buffer", with: edns(65535), limit: 1232, atLeast: 72},
		{what: "TCP", with: edns(1232), tcp: true, limit: 65535, atLeast: 4090},
	} {
		for _, query := range []string{"big.test.svc.cluster.local. A", "_http._tcp.big.test.svc.cluster.local. SRV"} {
			m := question(query)
			tt.with(m)
			msg, _ := m.Pack()
			q, _ := ParseQuery(msg)
			limit := q.UDPSize()
			if tt.tcp {
				limit = maxMessage
			}
			if limit != tt.limit {
				t.Errorf("%s: limit %d, want %d", tt.what, limit, tt.limit)
			}
			reply, _ := ask(t, z, m, limit)
			if !reply.Truncated {
				t.Errorf("%s: %s: no TC", tt.what, query)
			}
			if reply.Question[0].Qtype == dns.TypeA && len(reply.Answer) < tt.atLeast {
				t.Errorf("%s: %d records fit, want at least %d", tt.what, len(reply.Answer), tt.atLeast)
			}
			if (reply.IsEdns0() != nil) != (m.IsEdns0() != nil) {
				t.Errorf("%s: OPT record %v", tt.what, reply.IsEdns0())
			}
		}
	}
	// Additional records that do not fit are left out without TC.
	z = Build(testConfig, bigSnapshot(7), nil)
	reply, _ := ask(t, z, question("_http._tcp.big.test.svc.cluster.local. SRV"), 560)
	if reply.Truncated || len(reply.Answer) != 7 || len(reply.Extra) == 0 || len(reply.Extra) == 7 {
		t.Errorf("SRV with additional records that do not all fit: TC %t, %d records, %d additional", reply.Truncated, len(reply.Answer), len(reply.Extra))
	}
}

func TestRotation(t *testing.T) {
	z := Build(testConfig, bigSnapshot(5), nil)
	msg, _ := question("big.test.svc.cluster.local. A").Pack()
	q, _ := ParseQuery(msg)
	first := map[string]int{}
	for turn := range uint32(50) {
		out, _ := z.Answer(nil, &q, 512, turn)
		reply := new(dns.Msg)
		if err := reply.Unpack(out); err != nil || len(reply.Answer) != 5 {
			t.Fatalf("turn %d: %v %v", turn, reply, err)
		}
		first[reply.Answer[0].(*dns.A).A.String()]++
	}
	for addr, n := range first {
		if len(first) != 5 || n != 10 {
			t.Errorf("%s came first %d times in 50, of %d addresses", addr, n, len(first))
		}
	}
}

func TestOddQueries(t *testing.T) {
	z := Build(testConfig, testSnapshot(), nil)
	pack := func(change func(*dns.Msg)) []byte {
		m := question("kubernetes.default.svc.cluster.local. A")
		change(m)
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	opt := func() *dns.OPT { return &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}} }
	ok := pack(func(*dns.Msg) {})
	for _, tt := range []struct {
		what    string
		msg     []byte
		dropped bool
		rcode   int
		check   func(*dns.Msg) bool
	}{
		{what: "a response", msg: pack(func(m *dns.Msg) { m.Response = true }), dropped: true},
		{what: "half a header", msg: ok[:7], dropped: true},
		{what: "header without question", msg: ok[:12], rcode: dns.RcodeFormatError},
		{what: "half a question", msg: ok[:20], rcode: dns.RcodeFormatError},
		{what: "two questions", msg: pack(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), rcode: dns.RcodeFormatError},
		{what: "NOTIFY", msg: pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), rcode: dns.RcodeNotImplemented,
			check: func(m *dns.Msg) bool { return m.Opcode == dns.OpcodeNotify }},
		{what: "class CH", msg: pack(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), rcode: dns.RcodeRefused},
		{what: "compressed question", msg: append(slices.Clone(ok[:12]), 0xc0, 12, 0, 1, 0, 1), rcode: dns.RcodeFormatError},
		{what: "EDNS version 1", msg: pack(func(m *dns.Msg) { o := opt(); o.SetVersion(1); m.Extra = []dns.RR{o} }), rcode: dns.RcodeBadVers,
			check: func(m *dns.Msg) bool { return m.IsEdns0() != nil && m.IsEdns0().Version() == 0 }},
		{what: "two OPT records", msg: pack(func(m *dns.Msg) { m.Extra = []dns.RR{opt(), opt()} }), rcode: dns.RcodeFormatError},
		{what: "OPT record among the answers", msg: pack(func(m *dns.Msg) { m.Answer = []dns.RR{opt()} }), rcode: dns.RcodeFormatError},
		{what: "DO", msg: pack(func(m *dns.Msg) { m.SetEdns0(4096, true) }), rcode: dns.RcodeSuccess,
			check: func(m *dns.Msg) bool {
				return m.IsEdns0().Do() && m.IsEdns0().UDPSize() == MaxUDPSize && len(m.Answer) == 1
			}},
		{what: "RD and CD", msg: pack(func(m *dns.Msg) { m.CheckingDisabled = true; m.AuthenticatedData = true }), rcode: dns.RcodeSuccess,
			check: func(m *dns.Msg) bool {
				return m.RecursionDesired && m.RecursionAvailable && m.CheckingDisabled && !m.AuthenticatedData
			}},
	} {
		q, ok := ParseQuery(tt.msg)
		if ok == tt.dropped {
			t.Errorf("%s: dropped %t, want %t", tt.what, !ok, tt.dropped)
		}
		if !ok {
			continue
		}
		out, _ := z.Answer(nil, &q, q.UDPSize(), 0)
		reply := new(dns.Msg)
		if err := reply.Unpack(out); err != nil {
			t.Errorf("%s: %v", tt.what, err)
			continue
		}
		if reply.Rcode != tt.rcode || tt.check != nil && !tt.check(reply) {
			t.Errorf("%s: want %s\n%v", tt.what, dns.RcodeToString[tt.rcode], reply)
		}
	}
}

func TestValidate(t *testing.T) {
	for domain, ok := range map[string]bool{
		"cluster.local": true, "cluster.local.": true, "Cluster.Example": true, "k8s": true,
		"": false, ".": false, "a..b": false, "white space": false, "\xfcml\xe4ut": false,
	} {
		cfg := testConfig
		cfg.Domain = domain
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
	cfg := testConfig
	cfg.TTL = -1
	cfg.ReverseCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.1/12")}
	if err := cfg.Validate(); err == nil || !bytes.Contains([]byte(err.Error()), []byte("did you mean 10.96.0.0/12")) {
		t.Errorf("wrong TTL and CIDR: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	z := Build(testConfig, testSnapshot(), nil)
	for _, s := range []string{
		"kubernetes.default.svc.cluster.local. A", "_http._tcp.web.test.svc.cluster.local. SRV", "outside.test.svc.cluster.local. A",
		"twice.test.svc.cluster.local. AAAA", "loop.test.svc.cluster.local. A", "1.1.244.10.in-addr.arpa. PTR", "example.com. MX",
		"a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR", "fd00--1.test.pod.cluster.local. AAAA", ". NS",
	} {
		m := question(s)
		plain, _ := m.Pack()
		f.Add(plain, false)
		m.SetEdns0(4096, true)
		edns, _ := m.Pack()
		f.Add(edns, true)
	}
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		q, ok := ParseQuery(msg)
		if !ok {
			return
		}
		limit := q.UDPSize()
		if tcp {
			limit = maxMessage
		}
		before := bytes.Clone(msg)
		out, verdict := z.Answer(nil, &q, limit, binary.BigEndian.Uint32(msg))
		if !bytes.Equal(msg, before) {
			t.Fatal("the query was written to")
		}
		if verdict == Elsewhere {
			return
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(out); err != nil {
			t.Fatalf("% x: reply % x: %v", msg, out, err)
		}
		if len(out) > limit || reply.Id != binary.BigEndian.Uint16(msg) || !reply.Response {
			t.Fatalf("% x: reply % x of %d octets, limit %d", msg, out, len(out), limit)
		}
		if len(reply.Question) == 1 && !bytes.Equal(out[headerLen:headerLen+len(q.question)], msg[headerLen:headerLen+len(q.question)]) {
			t.Fatalf("% x: question not echoed: % x", msg, out)
		}
		if len(reply.Question) == 0 && reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented {
			t.Fatalf("% x: no question in % x", msg, out)
		}
	})
}

func benchmarkSnapshot(services int) *cluster.Snapshot {
	s := cluster.NewSnapshot()
	for i := range services {
		name := cluster.Name{Namespace: fmt.Sprintf("namespace-%d", i%100), Name: fmt.Sprintf("service-%d", i)}
		svc := &cluster.Service{Name: name, Ports: []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}}}
		if svc.Headless = i%10 == 0; !svc.Headless {
			svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}
		}
		s.AddService(svc)
		slice := &cluster.Slice{Service: name, Family: cluster.IPv4, Ports: []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
		for j := range 10 {
			slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(100 + j), byte(i >> 8), byte(i)}), Ready: true})
		}
		s.AddSlice(slice)
	}
	return s.Seal()
}

func BenchmarkAnswer(b *testing.B) {
	z := Build(testConfig, benchmarkSnapshot(10000), nil)
	for _, query := range []string{
		"service-77.namespace-77.svc.cluster.local. A",
		"service-70.namespace-70.svc.cluster.local. A",
		"_http._tcp.service-77.namespace-77.svc.cluster.local. SRV",
		"www.example.com.namespace-77.svc.cluster.local. A",
		"77.0.96.10.in-addr.arpa. PTR",
		"www.example.com. A",
	} {
		m := question(query)
		m.SetEdns0(1232, false)
		msg, _ := m.Pack()
		dst := make([]byte, 0, MaxUDPSize)
		b.Run(query, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				q, _ := ParseQuery(msg)
				z.Answer(dst, &q, q.UDPSize(), uint32(i))
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	snap := benchmarkSnapshot(10000)
	b.Run("10k Services, 100k endpoints", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Build(testConfig, snap, nil)
		}
	})
	b.Run("one changed", func(b *testing.B) {
		b.ReportAllocs()
		prev := Build(testConfig, snap, nil)
		name := cluster.Name{Namespace: "namespace-77", Name: "service-77"}
		for b.Loop() {
			changed := *snap.Services[name]
			snap.Services[name] = &changed
			prev = Build(testConfig, snap, prev)
		}
	})
}

func TestAnswerDoesNotAllocate(t *testing.T) {
	z := Build(testConfig, testSnapshot(), nil)
	dst := make([]byte, 0, MaxUDPSize)
	for _, query := range []string{
		"web.test.svc.cluster.local. A", "db.test.svc.cluster.local. AAAA", "_http._tcp.web.test.svc.cluster.local. SRV",
		"inside.test.svc.cluster.local. A", "www.example.com.test.svc.cluster.local. A", "www.example.com. A",
	} {
		msg, _ := question(query).Pack()
		if n := testing.AllocsPerRun(100, func() {
			q, _ := ParseQuery(msg)
			z.Answer(dst, &q, q.UDPSize(), 1)
		}); n != 0 {
			t.Errorf("%s: %v allocations", query, n)
		}
	}
}
