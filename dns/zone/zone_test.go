package zone

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/seamark-io/seamark/cluster"
)

// ask sends a query made by the DNS library through Answer and returns the reply as the library reads it.
func ask(t testing.TB, z *Zone, m *dns.Msg, limit int) (*dns.Msg, Verdict) {
	t.Helper()
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, ok := ParseQuery(msg)
	if !ok {
		t.Fatalf("query %v not taken", m)
	}
	out, verdict := z.Answer(nil, &q, limit, 0)
	if verdict == Elsewhere {
		return nil, verdict
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(out); err != nil {
		t.Fatalf("reply to %s: %v\n% x", m.Question[0].String(), err, out)
	}
	if len(out) > limit {
		t.Errorf("reply to %s has %d octets, limit %d", m.Question[0].String(), len(out), limit)
	}
	return reply, verdict
}

// question parses "name TYPE".
func question(s string) *dns.Msg {
	name, typ, _ := strings.Cut(s, " ")
	return new(dns.Msg).SetQuestion(name, dns.StringToType[typ])
}

// text returns records as in a zone file: name TTL TYPE data.
func text(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, strings.Join(strings.Fields(strings.Replace(rr.String(), "\tIN\t", "\t", 1)), " "))
		}
	}
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func ready(addr, host string) cluster.Endpoint {
	return cluster.Endpoint{Addr: netip.MustParseAddr(addr), Hostname: host, Ready: true, Serving: true}
}

var testConfig = Config{
	Domain:       "cluster.local",
	TTL:          5 * time.Second,
	ReverseCIDRs: prefixes("10.96.0.0/12", "10.244.0.0/16", "fd00:10:96::/112", "fd00:10:244::/56"),
	Service:      cluster.Name{Namespace: "kube-system", Name: "kube-dns"},
	Serial:       7,
}

// testSnapshot has one Service of each kind.
func testSnapshot() *cluster.Snapshot {
	s := cluster.NewSnapshot()
	for _, ns := range []string{"default", "kube-system", "test", "empty"} {
		s.AddNamespace(ns)
	}
	tcp := func(name string, port uint16) cluster.ServicePort {
		return cluster.ServicePort{Name: name, Protocol: cluster.TCP, Port: port}
	}
	add := func(ns, name string, svc cluster.Service, all ...cluster.Slice) {
		svc.Name = cluster.Name{Namespace: ns, Name: name}
		s.AddService(&svc)
		for i := range all {
			all[i].Service = svc.Name
			all[i].Name = name + "-" + string(rune('a'+i))
			all[i].Family = cluster.FamilyOf(all[i].Endpoints[0].Addr)
			s.AddSlice(&all[i])
		}
	}
	add("default", "kubernetes", cluster.Service{ClusterIPs: addrs("10.96.0.1"), Ports: []cluster.ServicePort{tcp("https", 443)}})
	add("kube-system", "kube-dns", cluster.Service{
		ClusterIPs: addrs("10.96.0.10", "fd00:10:96::a"),
		Ports:      []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}, tcp("dns-tcp", 53)},
	})
	add("test", "1unnamed", cluster.Service{ClusterIPs: addrs("10.96.0.20"), Ports: []cluster.ServicePort{tcp("", 80)}})
	add("test", "web", cluster.Service{ClusterIPs: addrs("10.96.0.30"), Ports: []cluster.ServicePort{tcp("http", 80)}},
		cluster.Slice{
			Ports:     []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}},
			Endpoints: []cluster.Endpoint{ready("10.244.1.1", ""), ready("10.244.1.2", "named")},
		})
	add("test", "db", cluster.Service{Headless: true, Ports: []cluster.ServicePort{tcp("pg", 5432), tcp("metrics", 9187)}},
		cluster.Slice{
			Ports:     []cluster.SlicePort{{Name: "pg", Protocol: cluster.TCP, Port: 5432}, {Name: "metrics", Protocol: cluster.TCP, Port: 9187}},
			Endpoints: []cluster.Endpoint{ready("10.244.1.1", "db-0"), ready("10.244.2.1", "db-1"), {Addr: netip.MustParseAddr("10.244.3.1"), Hostname: "db-2", Serving: true, Terminating: true}},
		},
		cluster.Slice{
			// Headless slices of hand-made Services are excluded from proxying, not from DNS. One pod moves between slices.
			Headless:  true,
			Ports:     []cluster.SlicePort{{Name: "pg", Protocol: cluster.TCP, Port: 5432}},
			Endpoints: []cluster.Endpoint{ready("10.244.2.1", "db-1"), ready("10.244.4.1", "")},
		},
		cluster.Slice{
			Ports:     []cluster.SlicePort{{Name: "pg", Protocol: cluster.TCP, Port: 5432}},
			Endpoints: []cluster.Endpoint{ready("fd00:10:244:1::1", "db-0"), ready("fd00:10:244:2::", "")},
		})
	add("test", "portless", cluster.Service{Headless: true}, cluster.Slice{Endpoints: []cluster.Endpoint{ready("192.0.2.1", "")}})
	add("test", "down", cluster.Service{Headless: true, Ports: []cluster.ServicePort{tcp("http", 80)}},
		cluster.Slice{
			Ports:     []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}},
			Endpoints: []cluster.Endpoint{{Addr: netip.MustParseAddr("10.244.9.9"), Serving: true}},
		})
	alias := func(name, target string) {
		add("test", name, cluster.Service{Type: cluster.ExternalName, ExternalName: target})
	}
	alias("outside", "foo.example.com")
	alias("inside", "Web.test.svc.cluster.local.")
	alias("twice", "inside.test.svc.cluster.local")
	alias("pod", "10-244-1-1.test.pod.cluster.local")
	alias("dangling", "nothing.test.svc.cluster.local")
	alias("loop", "loop.test.svc.cluster.local")
	alias("literal", "192.0.2.7")
	return s.Seal()
}

const soa = " 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5"

func TestAnswer(t *testing.T) {
	z := Build(testConfig, testSnapshot(), nil)
	const (
		nxdomain = dns.RcodeNameError
		servfail = dns.RcodeServerFailure
		apex     = "cluster.local."
	)
	for _, tt := range []struct {
		query  string
		rcode  int
		answer []string
		extra  []string
		// soa is the zone that a negative answer names.
		soa     string
		verdict Verdict
	}{
		// Cluster IPs.
		{query: "kubernetes.default.svc.cluster.local. A", answer: []string{"kubernetes.default.svc.cluster.local. 5 A 10.96.0.1"}},
		{query: "kubernetes.default.svc.cluster.local. AAAA", soa: apex},
		{query: "kubernetes.default.svc.cluster.local. HTTPS", soa: apex},
		{query: "kube-dns.kube-system.svc.cluster.local. A", answer: []string{"kube-dns.kube-system.svc.cluster.local. 5 A 10.96.0.10"}},
		{query: "kube-dns.kube-system.svc.cluster.local. AAAA", answer: []string{"kube-dns.kube-system.svc.cluster.local. 5 AAAA fd00:10:96::a"}},
		{query: "1unnamed.test.svc.cluster.local. A", answer: []string{"1unnamed.test.svc.cluster.local. 5 A 10.96.0.20"}},
		{query: "WEB.Test.SVC.Cluster.Local. A", answer: []string{"WEB.Test.SVC.Cluster.Local. 5 A 10.96.0.30"}},
		{query: "web.test.svc.cluster.local. ANY", answer: []string{"web.test.svc.cluster.local. 5 A 10.96.0.30"}},

		// Named ports.
		{query: "_dns._udp.kube-dns.kube-system.svc.cluster.local. SRV",
			answer: []string{"_dns._udp.kube-dns.kube-system.svc.cluster.local. 5 SRV 0 100 53 kube-dns.kube-system.svc.cluster.local."},
			extra:  []string{"kube-dns.kube-system.svc.cluster.local. 5 A 10.96.0.10", "kube-dns.kube-system.svc.cluster.local. 5 AAAA fd00:10:96::a"}},
		{query: "_HTTP._tcp.web.test.svc.cluster.local. SRV",
			answer: []string{"_HTTP._tcp.web.test.svc.cluster.local. 5 SRV 0 100 80 web.test.svc.cluster.local."},
			extra:  []string{"web.test.svc.cluster.local. 5 A 10.96.0.30"}},
		{query: "_http._tcp.web.test.svc.cluster.local. A", soa: apex},
		{query: "_tcp.web.test.svc.cluster.local. SRV", soa: apex},
		{query: "_http._udp.web.test.svc.cluster.local. SRV", rcode: nxdomain, soa: apex},
		{query: "_udp.web.test.svc.cluster.local. SRV", rcode: nxdomain, soa: apex},
		{query: "_tcp.1unnamed.test.svc.cluster.local. SRV", rcode: nxdomain, soa: apex},
		{query: "1unnamed.test.svc.cluster.local. SRV",
			answer: []string{"1unnamed.test.svc.cluster.local. 5 SRV 0 100 80 1unnamed.test.svc.cluster.local."},
			extra:  []string{"1unnamed.test.svc.cluster.local. 5 A 10.96.0.20"}},

		// Endpoints of a Service with a cluster IP.
		{query: "named.web.test.svc.cluster.local. A", answer: []string{"named.web.test.svc.cluster.local. 5 A 10.244.1.2"}},
		{query: "10-244-1-1.web.test.svc.cluster.local. A", answer: []string{"10-244-1-1.web.test.svc.cluster.local. 5 A 10.244.1.1"}},
		{query: "10-244-1-2.web.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},

		// Headless Services.
		{query: "db.test.svc.cluster.local. A", answer: []string{
			"db.test.svc.cluster.local. 5 A 10.244.1.1", "db.test.svc.cluster.local. 5 A 10.244.2.1", "db.test.svc.cluster.local. 5 A 10.244.4.1"}},
		{query: "db.test.svc.cluster.local. AAAA", answer: []string{
			"db.test.svc.cluster.local. 5 AAAA fd00:10:244:1::1", "db.test.svc.cluster.local. 5 AAAA fd00:10:244:2::"}},
		{query: "db-0.db.test.svc.cluster.local. A", answer: []string{"db-0.db.test.svc.cluster.local. 5 A 10.244.1.1"}},
		{query: "db-0.db.test.svc.cluster.local. AAAA", answer: []string{"db-0.db.test.svc.cluster.local. 5 AAAA fd00:10:244:1::1"}},
		{query: "db-2.db.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "fd00-10-244-2--0.db.test.svc.cluster.local. AAAA", answer: []string{"fd00-10-244-2--0.db.test.svc.cluster.local. 5 AAAA fd00:10:244:2::"}},
		{query: "_metrics._tcp.db.test.svc.cluster.local. SRV",
			answer: []string{
				"_metrics._tcp.db.test.svc.cluster.local. 5 SRV 0 50 9187 db-0.db.test.svc.cluster.local.",
				"_metrics._tcp.db.test.svc.cluster.local. 5 SRV 0 50 9187 db-1.db.test.svc.cluster.local."},
			extra: []string{
				"db-0.db.test.svc.cluster.local. 5 A 10.244.1.1", "db-0.db.test.svc.cluster.local. 5 AAAA fd00:10:244:1::1",
				"db-1.db.test.svc.cluster.local. 5 A 10.244.2.1"}},
		{query: "portless.test.svc.cluster.local. A", answer: []string{"portless.test.svc.cluster.local. 5 A 192.0.2.1"}},
		{query: "portless.test.svc.cluster.local. SRV", soa: apex},
		{query: "down.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "_http._tcp.down.test.svc.cluster.local. SRV", rcode: nxdomain, soa: apex},

		// ExternalName.
		{query: "outside.test.svc.cluster.local. CNAME", answer: []string{"outside.test.svc.cluster.local. 5 CNAME foo.example.com."}},
		{query: "outside.test.svc.cluster.local. A", verdict: Chase, answer: []string{"outside.test.svc.cluster.local. 5 CNAME foo.example.com."}},
		{query: "inside.test.svc.cluster.local. A", answer: []string{
			"inside.test.svc.cluster.local. 5 CNAME web.test.svc.cluster.local.", "web.test.svc.cluster.local. 5 A 10.96.0.30"}},
		{query: "twice.test.svc.cluster.local. A", answer: []string{
			"inside.test.svc.cluster.local. 5 CNAME web.test.svc.cluster.local.",
			"twice.test.svc.cluster.local. 5 CNAME inside.test.svc.cluster.local.", "web.test.svc.cluster.local. 5 A 10.96.0.30"}},
		{query: "inside.test.svc.cluster.local. AAAA", soa: apex, answer: []string{"inside.test.svc.cluster.local. 5 CNAME web.test.svc.cluster.local."}},
		{query: "pod.test.svc.cluster.local. A", answer: []string{
			"10-244-1-1.test.pod.cluster.local. 5 A 10.244.1.1", "pod.test.svc.cluster.local. 5 CNAME 10-244-1-1.test.pod.cluster.local."}},
		{query: "dangling.test.svc.cluster.local. A", rcode: nxdomain, soa: apex,
			answer: []string{"dangling.test.svc.cluster.local. 5 CNAME nothing.test.svc.cluster.local."}},
		{query: "literal.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "_http._tcp.outside.test.svc.cluster.local. SRV", rcode: nxdomain, soa: apex},

		// Pods.
		{query: "10-244-7-7.test.pod.cluster.local. A", answer: []string{"10-244-7-7.test.pod.cluster.local. 5 A 10.244.7.7"}},
		{query: "10-244-7-7.test.pod.cluster.local. AAAA", soa: apex},
		{query: "fd00--1.test.pod.cluster.local. AAAA", answer: []string{"fd00--1.test.pod.cluster.local. 5 AAAA fd00::1"}},
		{query: "10-244-7-7.nowhere.pod.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "10-244-7-777.test.pod.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "x.10-244-7-7.test.pod.cluster.local. A", rcode: nxdomain, soa: apex},

		// What exists and what does not.
		{query: "cluster.local. A", soa: apex},
		{query: "svc.cluster.local. A", soa: apex},
		{query: "pod.cluster.local. A", soa: apex},
		{query: "dns.cluster.local. A", soa: apex},
		{query: "empty.svc.cluster.local. A", soa: apex},
		{query: "empty.pod.cluster.local. A", soa: apex},
		{query: "nowhere.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "nothing.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "web.test.svc.cluster.local.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "kubernetes.default.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "google.com.cluster.local. A", rcode: nxdomain, soa: apex},
		{query: "a.b.c.web.test.svc.cluster.local. A", rcode: nxdomain, soa: apex},

		// The zone itself.
		{query: "cluster.local. SOA", answer: []string{apex + soa}},
		{query: "cluster.local. NS", answer: []string{"cluster.local. 5 NS ns.dns.cluster.local."},
			extra: []string{"ns.dns.cluster.local. 5 A 10.96.0.10", "ns.dns.cluster.local. 5 AAAA fd00:10:96::a"}},
		{query: "ns.dns.cluster.local. A", answer: []string{"ns.dns.cluster.local. 5 A 10.96.0.10"}},
		{query: "dns-version.cluster.local. TXT", answer: []string{`dns-version.cluster.local. 28800 TXT "1.1.0"`}},
		{query: "dns-version.cluster.local. A", soa: apex},
		{query: "cluster.local. AXFR", rcode: dns.RcodeRefused},

		// Reverse.
		{query: "30.0.96.10.in-addr.arpa. PTR", answer: []string{"30.0.96.10.in-addr.arpa. 5 PTR web.test.svc.cluster.local."}},
		{query: "1.1.244.10.in-addr.arpa. PTR", answer: []string{
			"1.1.244.10.in-addr.arpa. 5 PTR 10-244-1-1.web.test.svc.cluster.local.", "1.1.244.10.in-addr.arpa. 5 PTR db-0.db.test.svc.cluster.local."}},
		{query: "1.3.244.10.in-addr.arpa. PTR", rcode: nxdomain, soa: "244.10.in-addr.arpa."},
		{query: "9.9.111.10.in-addr.arpa. PTR", rcode: nxdomain, soa: "111.10.in-addr.arpa."},
		{query: "1.1.244.10.in-addr.arpa. A", soa: "244.10.in-addr.arpa."},
		{query: "1.244.10.in-addr.arpa. PTR", soa: "244.10.in-addr.arpa."},
		{query: "244.10.in-addr.arpa. SOA", answer: []string{"244.10.in-addr.arpa." + soa}},
		{query: "01.1.244.10.in-addr.arpa. PTR", rcode: nxdomain, soa: "244.10.in-addr.arpa."},
		{query: "256.1.244.10.in-addr.arpa. PTR", rcode: nxdomain, soa: "244.10.in-addr.arpa."},
		{query: "1.1.1.244.10.in-addr.arpa. PTR", rcode: nxdomain, soa: "244.10.in-addr.arpa."},
		{query: "1.2.0.192.in-addr.arpa. PTR", answer: []string{"1.2.0.192.in-addr.arpa. 5 PTR 192-0-2-1.portless.test.svc.cluster.local."}},
		{query: "1.2.0.192.in-addr.arpa. A", verdict: Elsewhere},
		{query: "2.2.0.192.in-addr.arpa. PTR", verdict: Elsewhere},
		{query: "10.in-addr.arpa. PTR", verdict: Elsewhere},
		{query: "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.D.F.ip6.arpa. PTR", answer: []string{
			"a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.D.F.ip6.arpa. 5 PTR kube-dns.kube-system.svc.cluster.local."}},
		{query: "b.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa. PTR", rcode: nxdomain,
			soa: "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."},
		{query: "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.f.ip6.arpa. PTR", verdict: Elsewhere},

		// Elsewhere.
		{query: "example.com. A", verdict: Elsewhere},
		{query: "xcluster.local. A", verdict: Elsewhere},
		{query: "local. A", verdict: Elsewhere},
		{query: ". NS", verdict: Elsewhere},
		{query: "arpa. NS", verdict: Elsewhere},
	} {
		reply, verdict := ask(t, z, question(tt.query), MaxUDPSize)
		if verdict != tt.verdict {
			t.Errorf("%s: verdict %d, want %d", tt.query, verdict, tt.verdict)
			continue
		}
		if verdict == Elsewhere {
			continue
		}
		if reply.Rcode != tt.rcode {
			t.Errorf("%s: %s, want %s", tt.query, dns.RcodeToString[reply.Rcode], dns.RcodeToString[tt.rcode])
		}
		if got := sorted(text(reply.Answer)); !slices.Equal(got, sorted(tt.answer)) {
			t.Errorf("%s: answer\n%s\nwant\n%s", tt.query, strings.Join(got, "\n"), strings.Join(sorted(tt.answer), "\n"))
		}
		if got := sorted(text(reply.Extra)); tt.extra != nil && !slices.Equal(got, sorted(tt.extra)) {
			t.Errorf("%s: additional\n%s\nwant\n%s", tt.query, strings.Join(got, "\n"), strings.Join(sorted(tt.extra), "\n"))
		}
		var ns []string
		if tt.soa != "" {
			ns = []string{tt.soa + soa}
		}
		if got := text(reply.Ns); !slices.Equal(got, ns) {
			t.Errorf("%s: authority %q, want %q", tt.query, got, ns)
		}
		if wantAA := tt.rcode != dns.RcodeRefused; reply.Authoritative != wantAA {
			t.Errorf("%s: AA %t, want %t", tt.query, reply.Authoritative, wantAA)
		}
		if want := question(tt.query).Question[0]; len(reply.Question) != 1 || reply.Question[0] != want {
			t.Errorf("%s: question not echoed: %v", tt.query, reply.Question)
		}
	}
	if reply, _ := ask(t, z, question("loop.test.svc.cluster.local. A"), MaxUDPSize); reply.Rcode != servfail {
		t.Errorf("loop of CNAMEs: %s, want SERVFAIL", dns.RcodeToString[reply.Rcode])
	}
}

func TestBeforeSync(t *testing.T) {
	z := Build(testConfig, nil, nil)
	for query, want := range map[string]Verdict{
		"kubernetes.default.svc.cluster.local. A": Answered,
		"cluster.local. SOA":                      Answered,
		"1.0.96.10.in-addr.arpa. PTR":             Answered,
		"example.com. A":                          Elsewhere,
		"1.2.0.192.in-addr.arpa. PTR":             Elsewhere,
	} {
		reply, verdict := ask(t, z, question(query), MaxUDPSize)
		if verdict != want || verdict == Answered && reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: verdict %d %v, want %d and SERVFAIL", query, verdict, reply, want)
		}
	}
}
