package ruleset_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	web   = []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80, NodePort: 30080}}
	webEP = []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}
	node1 = Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64")
	cfg1  = ruleset.Config{Node: "n1"}
)

func port(p cluster.ServicePort, change func(*cluster.ServicePort)) []cluster.ServicePort {
	change(&p)
	return []cluster.ServicePort{p}
}

func noNodePort(p *cluster.ServicePort) { p.NodePort = 0 }

func lb(vips string) func(*cluster.Service) {
	return func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs(vips) }
}

func nodePort(s *cluster.Service)      { s.Type = cluster.NodePort }
func externalLocal(s *cluster.Service) { s.ExternalLocal = true }
func internalLocal(s *cluster.Service) { s.InternalLocal = true }

func sources(list string) func(*cluster.Service) {
	return func(s *cluster.Service) {
		for _, p := range strings.Fields(list) {
			s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(p))
		}
	}
}

func build(t testing.TB, snap *cluster.Snapshot) ruleset.Ruleset {
	t.Helper()
	rs, problems := ruleset.Build(snap, cfg1)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return rs
}

// TestGolden compares the text of small tables with files that a person can read.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		snap *cluster.Snapshot
		cfg  ruleset.Config
	}{
		"empty": {Snapshot(node1), cfg1},
		"dns": {Snapshot(node1, Service("dns", "10.96.0.10", []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}),
			Slice("dns", []cluster.SlicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}, "10.244.2.7@n2")),
			ruleset.Config{Node: "n1", LocalDNS: Name("dns")}},
		"cluster-ip": {Snapshot(node1, ServiceCIDRs("10.96.0.0/16 fd00:96::/108"),
			Service("web", "10.96.0.1", web), Slice("web", webEP, "10.244.1.2@n1", "10.244.2.2@n2")), cfg1},
		"load-balancer": {Snapshot(node1,
			Service("web", "10.96.0.1", web, lb("192.0.2.1"), externalLocal, sources("198.51.100.0/24 198.51.100.7/32 203.0.113.1/32")),
			Slice("web", webEP, "10.244.1.2@n1", "10.244.2.2@n2")), cfg1},
		"affinity": {Snapshot(node1,
			Service("web", "10.96.0.1", port(web[0], noNodePort), func(s *cluster.Service) { s.Affinity = 3 * time.Hour }),
			Slice("web", webEP, "10.244.1.2@n1", "10.244.2.2@n2")), cfg1},
	} {
		t.Run(name, func(t *testing.T) {
			rs, _ := ruleset.Build(c.snap, c.cfg)
			got := rs.IPv4.String()
			if name == "empty" {
				got = rs.String()
			}
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("not as in %s (go test -update writes it):\n%s", file, got)
			}
		})
	}
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		snap *cluster.Snapshot
		cfg  ruleset.Config
		want []string
	}{
		"no node":  {Snapshot(), ruleset.Config{Node: "n9"}, []string{"/ NodeUnknown"}},
		"no CIDRs": {Snapshot(Node("n1", "10.0.0.1", ""), Service("a", "10.96.0.1 fd00:96::1", web)), cfg1, []string{"/ NoPodCIDR", "/ NoPodCIDR"}},
		"no CIDR of a family": {Snapshot(Node("n1", "10.0.0.1", "10.244.1.0/24"), Service("a", "10.96.0.1 fd00:96::1", web)), cfg1,
			[]string{"/ NoPodCIDR IPv6"}},
		"no CIDR of a family that is not used": {Snapshot(Node("n1", "10.0.0.1", "10.244.1.0/24"), Service("a", "10.96.0.1", web)), cfg1, nil},
		"given CIDRs": {Snapshot(Node("n1", "10.0.0.1", ""), Service("a", "10.96.0.1", web)),
			ruleset.Config{Node: "n1", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, nil},
		"given CIDRs of a family": {Snapshot(Node("n1", "10.0.0.1", ""), Service("a", "10.96.0.1 fd00:96::1", web)),
			ruleset.Config{Node: "n1", ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00:244::/48")}}, []string{"/ NoPodCIDR IPv4"}},
		"same port of a shared VIP": {Snapshot(node1,
			Service("b", "10.96.0.2", port(web[0], noNodePort), lb("192.0.2.1")),
			Service("a", "10.96.0.1", port(web[0], noNodePort), lb("192.0.2.1"))), cfg1, []string{"default/b FrontendConflict"}},
		"same cluster IP": {Snapshot(node1,
			Service("a", "10.96.0.1", web), Service("b", "10.96.0.1", web)), cfg1,
			[]string{"default/b FrontendConflict", "default/b FrontendConflict"}},
		"port without number": {Snapshot(node1,
			Service("a", "10.96.0.1", []cluster.ServicePort{{Name: "x", Protocol: cluster.TCP}})), cfg1, []string{"default/a InvalidService"}},
		"unknown protocol": {Snapshot(node1,
			Service("a", "10.96.0.1", []cluster.ServicePort{{Name: "x", Protocol: 99, Port: 1}})), cfg1, []string{"default/a InvalidService"}},
		"endpoint of the wrong family": {Snapshot(node1,
			Service("a", "10.96.0.1", web),
			func(s *cluster.Snapshot) {
				s.Slices[Name("a")] = []*cluster.Slice{{Family: cluster.IPv4, Ports: webEP, Endpoints: []cluster.Endpoint{{Addr: netip.MustParseAddr("fd00::2"), Ready: true}}}}
			}), cfg1, []string{"default/a InvalidService"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := ruleset.Build(c.snap, c.cfg)
			ok := len(problems) == len(c.want)
			for i, p := range problems {
				if p.Message == "" {
					t.Errorf("%v has no message", p)
				}
				// A third word is one of the message's.
				if ok {
					words := strings.Fields(c.want[i])
					ok = p.Service.String() == words[0] && p.Reason == words[1] && (len(words) < 3 || strings.Contains(p.Message, words[2]))
				}
			}
			if !ok {
				t.Errorf("got %v, want %v", problems, c.want)
			}
		})
	}
}

// TestFates walks packets through the tables: the cases of the reference behaviour one by one.
func TestFates(t *testing.T) {
	two := Slice("web", webEP, "10.244.1.2@n1", "10.244.2.2@n2")
	one := port(web[0], noNodePort)
	const (
		pod, otherPod, node, outside = "10.244.1.9", "10.244.2.9", "10.0.0.1", "198.51.100.7"
		both                         = "10.244.1.2:8080 10.244.2.2:8080"
	)
	for _, c := range []struct {
		name  string
		parts []func(*cluster.Snapshot)
		src   string
		dst   string
		// want is a verdict, or the endpoints that may be chosen with "masq" in front if the source is masqueraded.
		want string
	}{
		{"cluster IP, from a pod", parts(Service("web", "10.96.0.1", one), two), pod, "10.96.0.1:80", both},
		{"cluster IP, from the node", parts(Service("web", "10.96.0.1", one), two), node, "10.96.0.1:80", "masq " + both},
		{"cluster IP, from outside", parts(Service("web", "10.96.0.1", one), two), outside, "10.96.0.1:80", "masq " + both},
		{"cluster IP, wrong port", parts(Service("web", "10.96.0.1", one), two), pod, "10.96.0.1:81", "reset"},
		{"cluster IP, no endpoints", parts(Service("web", "10.96.0.1", one)), pod, "10.96.0.1:80", "reset"},
		{"cluster IP, none ready", parts(Service("web", "10.96.0.1", one), Slice("web", webEP, "!10.244.1.2@n1")), pod, "10.96.0.1:80", "reset"},
		{"cluster IP, all terminating", parts(Service("web", "10.96.0.1", one), Slice("web", webEP, "~10.244.1.2@n1", "!10.244.1.3@n1")), pod, "10.96.0.1:80", "10.244.1.2:8080"},
		{"cluster IP, one terminating", parts(Service("web", "10.96.0.1", one), Slice("web", webEP, "~10.244.1.2@n1", "10.244.2.2@n2")), pod, "10.96.0.1:80", "10.244.2.2:8080"},
		{"hairpin", parts(Service("web", "10.96.0.1", one), Slice("web", webEP, "10.244.1.2@n1")), "10.244.1.2", "10.96.0.1:80", "masq 10.244.1.2:8080"},
		{"internal Local", parts(Service("web", "10.96.0.1", one, internalLocal), two), pod, "10.96.0.1:80", "10.244.1.2:8080"},
		{"internal Local, none here", parts(Service("web", "10.96.0.1", one, internalLocal), Slice("web", webEP, "10.244.2.2@n2")), pod, "10.96.0.1:80", "drop"},
		{"internal Local, none at all", parts(Service("web", "10.96.0.1", one, internalLocal)), pod, "10.96.0.1:80", "reset"},
		{"internal Local says nothing of VIPs", parts(Service("web", "10.96.0.1", one, internalLocal, lb("192.0.2.1")), two), outside, "192.0.2.1:80", "masq " + both},

		{"VIP, from outside", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1")), two), outside, "192.0.2.1:80", "masq " + both},
		{"VIP, from a pod", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1")), two), pod, "192.0.2.1:80", "masq " + both},
		{"VIP, wrong port", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1")), two), outside, "192.0.2.1:81", "reset"},
		{"VIP that no VIP object gives", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1")), two, func(s *cluster.Snapshot) { clear(s.VIPs) }), outside, "192.0.2.1:80", "accept"},
		{"VIP of another Service", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1")), two, func(s *cluster.Snapshot) {
			s.VIPs[netip.MustParseAddr("192.0.2.1")] = &cluster.VIP{Services: []cluster.Name{Name("other")}}
		}), outside, "192.0.2.1:80", "accept"},
		{"external Local, from outside", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), two), outside, "192.0.2.1:80", "10.244.1.2:8080"},
		{"external Local, from another node's pod", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), two), otherPod, "192.0.2.1:80", "10.244.1.2:8080"},
		{"external Local, from a pod", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), two), pod, "192.0.2.1:80", both},
		{"external Local, from the node", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), two), node, "192.0.2.1:80", "masq " + both},
		{"external Local, none here, from outside", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), Slice("web", webEP, "10.244.2.2@n2")), outside, "192.0.2.1:80", "drop"},
		{"external Local, none here, from a pod", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), Slice("web", webEP, "10.244.2.2@n2")), pod, "192.0.2.1:80", "10.244.2.2:8080"},
		{"external Local, only terminating here", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal), Slice("web", webEP, "~10.244.1.2@n1", "10.244.2.2@n2")), outside, "192.0.2.1:80", "10.244.1.2:8080"},
		{"external Local, no endpoints", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal)), outside, "192.0.2.1:80", "reset"},

		{"node port, from outside", parts(Service("web", "10.96.0.1", web, nodePort), two), outside, "10.0.0.1:30080", "masq " + both},
		{"node port, from the node", parts(Service("web", "10.96.0.1", web, nodePort), two), node, "10.0.0.1:30080", "masq " + both},
		{"node port, no endpoints", parts(Service("web", "10.96.0.1", web, nodePort)), outside, "10.0.0.1:30080", "reset"},
		{"node port, Local, none here", parts(Service("web", "10.96.0.1", web, nodePort, externalLocal), Slice("web", webEP, "10.244.2.2@n2")), outside, "10.0.0.1:30080", "drop"},
		{"node port of another node is none of ours", parts(Service("web", "10.96.0.1", web, nodePort), two), outside, "10.0.0.2:30080", "accept"},
		{"no node port for type ClusterIP", parts(Service("web", "10.96.0.1", web), two), outside, "10.0.0.1:30080", "accept"},
		{"the node's other ports are not touched", parts(Service("web", "10.96.0.1", web, nodePort), two), outside, "10.0.0.1:22", "accept"},
		{"health check node port is open", parts(Service("web", "10.96.0.1", one, lb("192.0.2.1"), externalLocal, func(s *cluster.Service) { s.HealthCheckNodePort = 32000 }), two), outside, "10.0.0.1:32000", "accept"},

		{"source range, inside", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("198.51.100.0/24")), two), outside, "192.0.2.1:80", "masq " + both},
		{"source range, outside", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("203.0.113.0/24")), two), outside, "192.0.2.1:80", "drop"},
		{"source range, a pod", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("203.0.113.0/24")), two), pod, "192.0.2.1:80", "drop"},
		{"source range, not for node ports", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("203.0.113.0/24")), two), outside, "10.0.0.1:30080", "masq " + both},
		{"source range, not for the cluster IP", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("203.0.113.0/24")), two), pod, "10.96.0.1:80", both},
		{"source range, all", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("203.0.113.0/24 0.0.0.0/0")), two), outside, "192.0.2.1:80", "masq " + both},
		{"source range, other family only", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("2001:db8::/32")), two), outside, "192.0.2.1:80", "masq " + both},
		{"source range with the node: the VIP itself", parts(Service("web", "10.96.0.1", web, lb("192.0.2.1"), sources("10.0.0.0/24")), two), "192.0.2.1", "192.0.2.1:80", "masq " + both},

		{"another proxy's Service", parts(Service("web", "10.96.0.1", one, func(s *cluster.Service) { s.ForeignProxy = true }), two), pod, "10.96.0.1:80", "accept"},
		{"headless slice", parts(Service("web", "10.96.0.1", one), two, func(s *cluster.Snapshot) { s.Slices[Name("web")][0].Headless = true }), pod, "10.96.0.1:80", "reset"},
		{"IPv6, VIP", parts(Service("web", "fd00:96::1", one, lb("2001:db8::1")), Slice("web", webEP, "fd00:244:1::2@n1")), "2001:db8:9::9", "[2001:db8::1]:80", "masq [fd00:244:1::2]:8080"},
		{"IPv6, Local", parts(Service("web", "fd00:96::1", one, lb("2001:db8::1"), externalLocal), Slice("web", webEP, "fd00:244:1::2@n1")), "2001:db8:9::9", "[2001:db8::1]:80", "[fd00:244:1::2]:8080"},
		{"nobody's address", parts(Service("web", "10.96.0.1", one), two), pod, "203.0.113.1:80", "accept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs := build(t, Snapshot(append(c.parts, node1)...))
			p := packet{src: netip.MustParseAddr(c.src), dst: netip.MustParseAddrPort(c.dst), protocol: cluster.TCP, state: ruleset.New}
			if got := text(tableFor(&rs, p.src), p); got != c.want {
				t.Errorf("from %s to %s: got %q, want %q", c.src, c.dst, got, c.want)
			}
		})
	}
}

func parts(p ...func(*cluster.Snapshot)) []func(*cluster.Snapshot) { return p }

func tableFor(rs *ruleset.Ruleset, a netip.Addr) *host {
	local := Addrs("10.0.0.1 fd00::1 127.0.0.1 10.96.0.10") // the last is own DNS's
	if a.Is4() {
		return newHost(&rs.IPv4, local...)
	}
	return newHost(&rs.IPv6, local...)
}

// text tells a packet's fates in words.
func text(h *host, p packet) string {
	var words []string
	for i, f := range h.fates(p) {
		if f.verdict != "accept" {
			words = append(words, f.verdict)
			continue
		}
		if f.to == p.dst {
			words = append(words, "accept")
			continue
		}
		if f.masq && i == 0 {
			words = append(words, "masq")
		}
		words = append(words, f.to.String())
	}
	return strings.Join(words, " ")
}

// TestVIPControl is about what is neither TCP nor UDP, and about packets that conntrack does not know.
func TestVIPControl(t *testing.T) {
	rs, _ := ruleset.Build(Snapshot(node1,
		Service("web", "10.96.0.1 fd00:96::1", web, lb("192.0.2.1 2001:db8::1")),
		Slice("web", webEP, "10.244.1.2@n1"), Slice("web", webEP, "fd00:244:1::2@n1"),
		Service("dns", "10.96.0.10", []cluster.ServicePort{
			{Name: "dns", Protocol: cluster.UDP, Port: 53}, {Name: "dns-tcp", Protocol: cluster.TCP, Port: 53}, {Name: "metrics", Protocol: cluster.TCP, Port: 9153},
		}),
		Slice("dns", []cluster.SlicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}, {Name: "metrics", Protocol: cluster.TCP, Port: 9153}}, "10.244.1.7@n1"),
		ServiceCIDRs("10.96.0.0/16 10.97.0.1/32 fd00:96::/108"),
	), ruleset.Config{Node: "n1", LocalDNS: Name("dns"), DropInvalid: true})
	const icmp, icmp6 = 1, 58
	for _, c := range []struct {
		name     string
		src, dst string
		protocol cluster.Protocol
		icmp     byte
		state    ruleset.States
		want     string
	}{
		{"ping a VIP that nobody here answers for", "198.51.100.7", "192.0.2.1:0", icmp, 8, ruleset.New, "drop"},
		{"ping a VIP that nobody here answers for, IPv6", "2001:db8:9::9", "[2001:db8::1]:0", icmp6, 128, ruleset.New, "drop"},
		{"the node pings a VIP", "10.0.0.1", "192.0.2.1:0", icmp, 8, ruleset.New, "accept"},
		{"the node pings a VIP, IPv6", "fd00::1", "[2001:db8::1]:0", icmp6, 128, ruleset.New, "accept"},
		{"ping anybody else", "198.51.100.7", "192.0.2.9:0", icmp, 8, ruleset.New, "accept"},
		{"ping a cluster IP", "10.244.1.2", "10.96.0.1:0", icmp, 8, ruleset.New, "reject"},
		{"other ICMP to a VIP", "198.51.100.7", "192.0.2.1:0", icmp, 13, ruleset.New, "reject"},
		{"a neighbour solicits a VIP", "2001:db8::9", "[2001:db8::1]:0", icmp6, 135, ruleset.Untracked, "drop"},
		{"this node solicits a VIP", "fd00::1", "[2001:db8::1]:0", icmp6, 135, ruleset.Untracked, "accept"},
		{"a neighbour solicits anybody else", "2001:db8::9", "[2001:db8::2]:0", icmp6, 135, ruleset.Untracked, "accept"},
		{"UDP to a wrong port of a VIP", "198.51.100.7", "192.0.2.1:9", cluster.UDP, 0, ruleset.New, "reject"},
		{"an invalid packet to a VIP ends nothing", "198.51.100.7", "192.0.2.1:80", cluster.TCP, 0, ruleset.Invalid, "drop"},
		{"an invalid packet to a cluster IP ends nothing", "10.244.1.2", "10.96.0.1:80", cluster.TCP, 0, ruleset.Invalid, "drop"},
		{"an invalid packet from a pod does not leave untranslated", "10.244.1.2", "198.51.100.7:4000", cluster.TCP, 0, ruleset.Invalid, "drop"},
		{"an invalid packet of others is not our business", "198.51.100.7", "203.0.113.9:80", cluster.TCP, 0, ruleset.Invalid, "accept"},
		{"a cluster IP that no Service has", "10.244.1.2", "10.96.9.9:80", cluster.TCP, 0, ruleset.New, "drop"},
		{"a cluster IP that no Service has, from outside", "198.51.100.7", "10.97.0.1:80", cluster.UDP, 0, ruleset.New, "drop"},
		{"a cluster IP that no Service has, from the node", "10.0.0.1", "10.96.9.9:80", cluster.TCP, 0, ruleset.New, "drop"},
		{"a cluster IP that no Service has, IPv6", "fd00:244:1::2", "[fd00:96::99]:80", cluster.TCP, 0, ruleset.New, "drop"},
		{"own DNS, untracked", "10.244.1.2", "10.96.0.10:53", cluster.UDP, 0, ruleset.Untracked, "accept"},
		{"own DNS does not listen: its Service's endpoints do", "10.244.1.2", "10.96.0.10:53", cluster.UDP, 0, ruleset.New, "10.244.1.7:53"},
		{"own DNS does not listen, from the node", "10.0.0.1", "10.96.0.10:53", cluster.UDP, 0, ruleset.New, "masq 10.244.1.7:53"},
		{"nobody listens: the kernel's to refuse", "10.244.1.2", "10.96.0.10:53", cluster.TCP, 0, ruleset.New, "accept"},
		{"the DNS Service's other ports are served", "10.244.1.2", "10.96.0.10:9153", cluster.TCP, 0, ruleset.New, "10.244.1.7:9153"},
		{"a reply of own DNS to the node itself, untracked", "10.96.0.10", "10.96.0.10:40000", cluster.UDP, 0, ruleset.Untracked, "accept"},
		{"the DNS Service's unserved ports are the kernel's to refuse", "10.244.1.2", "10.96.0.10:80", cluster.TCP, 0, ruleset.New, "accept"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := packet{src: netip.MustParseAddr(c.src), dst: netip.MustParseAddrPort(c.dst), protocol: c.protocol, icmpType: c.icmp, state: c.state}
			if got := text(tableFor(&rs, p.src), p); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestNodePortAddresses: which of the node's addresses serve node ports.
func TestNodePortAddresses(t *testing.T) {
	local := Addrs("10.0.0.1 10.1.0.1 10.96.0.10 10.96.7.7 127.0.0.1 169.254.1.1 192.0.2.1 fd00::1 fe80::1")
	for _, c := range []struct{ prefixes, want string }{
		{"", "[10.0.0.1 fd00::1]"},
		{"10.1.0.0/16", "[10.1.0.1 fd00::1]"},
		{"10.1.0.0/16 2001:db8::/32", "[10.1.0.1]"},
		{"0.0.0.0/0 ::/0", "[10.0.0.1 10.1.0.1 fd00::1]"},
	} {
		cfg := ruleset.Config{Node: "n1", LocalDNS: Name("dns"), LocalAddresses: local}
		for _, p := range strings.Fields(c.prefixes) {
			cfg.NodePortPrefixes = append(cfg.NodePortPrefixes, netip.MustParsePrefix(p))
		}
		rs, _ := ruleset.Build(Snapshot(node1, Service("dns", "10.96.0.10", web), Service("web", "10.96.0.1", web, lb("192.0.2.1")), ServiceCIDRs("10.96.0.0/16")), cfg)
		if got := fmt.Sprint(rs.NodePortAddresses()); got != c.want {
			t.Errorf("%q: %s, want %s", c.prefixes, got, c.want)
		}
	}
}

// TestLocalDNSPolicy: an internalTrafficPolicy Local without local endpoints closes the address to nobody who asks this
// node's own server, whose packets are not tracked.
func TestLocalDNSPolicy(t *testing.T) {
	dns := []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}
	rs, _ := ruleset.Build(Snapshot(node1, Service("dns", "10.96.0.10", dns, internalLocal),
		Slice("dns", []cluster.SlicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}, "10.244.2.7@n2")),
		ruleset.Config{Node: "n1", LocalDNS: Name("dns")})
	for _, state := range []ruleset.States{ruleset.Untracked, ruleset.New} {
		p := packet{src: netip.MustParseAddr("10.244.1.2"), dst: netip.MustParseAddrPort("10.96.0.10:53"), protocol: cluster.UDP, state: state}
		if got := text(tableFor(&rs, p.src), p); got != "accept" {
			t.Errorf("%s: got %q", state, got)
		}
	}
}

// TestSharedVIP: each Service has at a shared VIP the ports that the VIP gives it, and no others, whatever its spec says.
func TestSharedVIP(t *testing.T) {
	two := append(port(web[0], noNodePort), cluster.ServicePort{Name: "https", Protocol: cluster.TCP, Port: 443})
	snap := Snapshot(node1,
		Service("a", "10.96.0.1", two, lb("192.0.2.1")), Slice("a", append(webEP, cluster.SlicePort{Name: "https", Protocol: cluster.TCP, Port: 8443}), "10.244.1.2@n1"),
		Service("b", "10.96.0.2", two, lb("192.0.2.1")), Slice("b", append(webEP, cluster.SlicePort{Name: "https", Protocol: cluster.TCP, Port: 8443}), "10.244.1.3@n1"),
	)
	vip := snap.VIPs[netip.MustParseAddr("192.0.2.1")]
	vip.Services = []cluster.Name{Name("a"), Name("b")}
	vip.Ports = map[cluster.Name][]cluster.Port{Name("a"): {{Protocol: cluster.TCP, Number: 80}}, Name("b"): {{Protocol: cluster.TCP, Number: 443}}}
	rs := build(t, snap)
	for dst, want := range map[string]string{"192.0.2.1:80": "10.244.1.2:8080", "192.0.2.1:443": "10.244.1.3:8443", "10.96.0.2:80": "10.244.1.3:8080"} {
		p := packet{src: netip.MustParseAddr("10.244.1.9"), dst: netip.MustParseAddrPort(dst), protocol: cluster.TCP, state: ruleset.New}
		if got := text(tableFor(&rs, p.src), p); !strings.HasSuffix(got, want) {
			t.Errorf("%s: got %q, want %q", dst, got, want)
		}
	}
}

// TestAffinity: a client keeps its endpoint as long as it is there, whatever happens to the others.
func TestAffinity(t *testing.T) {
	sticky := func(eps ...string) *host {
		rs := build(t, Snapshot(node1, Slice("web", webEP, eps...),
			Service("web", "10.96.0.1", web, lb("192.0.2.1"), externalLocal, func(s *cluster.Service) { s.Affinity = time.Hour })))
		return newHost(&rs.IPv4, Addrs("10.0.0.1")...)
	}
	p := packet{src: netip.MustParseAddr("10.244.1.9"), dst: netip.MustParseAddrPort("10.96.0.1:80"), protocol: cluster.TCP, state: ruleset.New}
	h := sticky("10.244.1.2@n1", "10.244.2.2@n2", "10.244.2.3@n2")
	h.roll = func(uint32) uint32 { return 2 }
	first := h.trace(p).to
	if got := text(h, p); got != first.String() {
		t.Fatalf("the second connection may go to %s, the first went to %s", got, first)
	}
	clients := h.elements[ruleset.AffinityClients]

	h = sticky("10.244.1.2@n1", "10.244.2.3@n2", "10.244.3.3@n3", "10.244.0.1@n4")
	h.elements[ruleset.AffinityClients] = clients
	if got := text(h, p); got != first.String() {
		t.Errorf("after others came and went: %s instead of %s", got, first)
	}

	h = sticky("10.244.1.2@n1")
	h.elements[ruleset.AffinityClients] = clients
	if got := h.trace(p).to.String(); got != "10.244.1.2:8080" {
		t.Errorf("after its endpoint went: %s", got)
	}
	h = sticky("10.244.1.2@n1", "10.244.2.3@n2")
	h.elements[ruleset.AffinityClients] = clients
	if got := text(h, p); got != "10.244.1.2:8080" {
		t.Errorf("after its endpoint came back: %s instead of the endpoint chosen meanwhile", got)
	}

	// From outside only local endpoints count, also for a client that was at another one.
	p.src, p.dst = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddrPort("192.0.2.1:80")
	if got := text(sticky("10.244.1.2@n1", "10.244.2.3@n2"), p); got != "10.244.1.2:8080" {
		t.Errorf("from outside: %s", got)
	}
}
