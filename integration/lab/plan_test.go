package lab

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// layouts are labs that differ in all that a plan depends on.
func layouts() map[string]Options {
	wide := DefaultOptions()
	wide.Nodes, wide.Zones, wide.Router2, wide.Segment2, wide.NodeGrace = 3, 2, true, 1, 8*time.Second
	control := Options{Name: "ctl", Nodes: 1, Families: IPv4Only, Proxy: KubeProxy, DNS: CoreDNS, LB: None}
	six := Options{Name: "six", Nodes: 2, Families: IPv6Only, Proxy: Seamark, DNS: Seamark, LB: Seamark}
	return map[string]Options{"wide": wide, "control": control, "six": six}
}

// TestGolden compares everything that follows from options with what was
// reviewed: hosts, links, routes, configuration files and command lines.
func TestGolden(t *testing.T) {
	for name, o := range layouts() {
		t.Run(name, func(t *testing.T) {
			if err := o.Validate(); err != nil {
				t.Fatal(err)
			}
			got := describe(t, o)
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got; -update to accept):\n%s", file, diff)
			}
		})
	}
}

func describe(t *testing.T, o Options) string {
	t.Helper()
	p := NewPlan(o)
	var b strings.Builder
	seen := make(map[string]bool)
	for _, h := range p.Hosts {
		fmt.Fprintf(&b, "=== %s (%s) %s\n", h.Name, h.Role, h.Zone)
		for _, l := range h.Links {
			fmt.Fprintf(&b, "%s on %s at port %s, %s %s\n", l.Name, l.Segment, l.Port, l.MAC, join(l.Addrs))
		}
		for _, r := range h.Routes {
			fmt.Fprintf(&b, "route %s via %s\n", r.Dst, join(r.Via))
		}
		for _, d := range daemonsOf(o, p, h) {
			fmt.Fprintf(&b, "run %s\n", strings.Join(d.argv, " \\\n\t"))
		}
		files, err := configFiles(o, p, h)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range slices.Sorted(maps.Keys(files)) {
			// Of files that are the same on several hosts, once.
			if text := string(files[path]); !seen[path+text] {
				seen[path+text] = true
				fmt.Fprintf(&b, "--- %s:%s\n%s", h.Name, path, text)
			}
		}
		b.WriteString("\n")
	}
	for _, name := range []string{"coredns.yaml", "kustomization.yaml"} {
		facts := newFacts(o, p, HostPlan{})
		facts.Manifests = "../manifests"
		text, err := render(name, facts)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "--- %s\n%s", name, text)
	}
	return b.String()
}

func daemonsOf(o Options, p Plan, h HostPlan) []daemon {
	switch h.Role {
	case RoleControlPlane:
		return []daemon{etcd(), apiServer(p), controllerManager(o, p), scheduler()}
	case RoleNode:
		return []daemon{containerd(), kubelet(h), kubeProxy()}
	case RoleRouter:
		return []daemon{bird()}
	case RoleRemote:
		return []daemon{dnsmasq()}
	}
	return nil
}

// TestPlan checks, for many options, what must hold in every lab.
func TestPlan(t *testing.T) {
	for _, families := range []Families{DualStack, IPv4Only, IPv6Only} {
		for _, nodes := range []int{1, 3, maxNodes} {
			for _, segment2 := range []int{0, 1, nodes} {
				for _, router2 := range []bool{false, true} {
					o := DefaultOptions()
					o.Families, o.Nodes, o.Segment2, o.Router2 = families, nodes, segment2, router2
					t.Run(fmt.Sprintf("%s-%d-%d-%t", families, nodes, segment2, router2), func(t *testing.T) {
						checkPlan(t, o, NewPlan(o))
					})
				}
			}
		}
	}
}

func checkPlan(t *testing.T, o Options, p Plan) {
	unique := make(map[string]string)
	claim := func(h HostPlan, what string) {
		if other, taken := unique[what]; taken {
			t.Errorf("%s and %s both have %s", other, h.Name, what)
		}
		unique[what] = h.Name
	}
	for _, h := range p.Hosts {
		if !hostNames.MatchString(h.Name) {
			t.Errorf("down would not find host %s", h.Name)
		}
		for _, l := range h.Links {
			claim(h, l.MAC)
			claim(h, "port "+l.Port)
			if len(l.Port) > 15 { // IFNAMSIZ-1
				t.Errorf("port %s: the name is too long for an interface", l.Port)
			}
			for _, a := range l.Addrs {
				claim(h, a.Addr().String())
				checkFamily(t, o.Families, a.Addr())
				if inVIPRange(a.Addr()) {
					t.Errorf("%s has %s, which is left to VIPs", h.Name, a)
				}
			}
		}
		for _, r := range h.Routes {
			checkFamily(t, o.Families, r.Dst.Addr())
			for _, via := range r.Via {
				if !onLink(h, via) {
					t.Errorf("%s: route to %s via %s, which is on none of its segments", h.Name, r.Dst, via)
				}
			}
		}
		if h.Role == RoleNode && len(h.Pods) != len(p.PodCIDRs) {
			t.Errorf("%s has pods' subnets %v", h.Name, h.Pods)
		}
		for i, pods := range h.Pods {
			claim(h, pods.String())
			if !p.PodCIDRs[i].Contains(pods.Addr()) {
				t.Errorf("%s: %s is not in %s", h.Name, pods, p.PodCIDRs[i])
			}
		}
	}
	for i, dns := range p.ClusterDNS {
		if !p.ServiceCIDRs[i].Contains(dns) {
			t.Errorf("cluster DNS %s is not in %s", dns, p.ServiceCIDRs[i])
		}
	}
}

func checkFamily(t *testing.T, f Families, a netip.Addr) {
	if a.Is4() && f == IPv6Only || a.Is6() && f == IPv4Only {
		t.Errorf("%s in a lab of %s", a, f)
	}
}

func inVIPRange(a netip.Addr) bool {
	for _, r := range []string{VIPRange4, VIPRange6} {
		first, last, _ := strings.Cut(r, "-")
		if netip.MustParseAddr(first).Compare(a) <= 0 && a.Compare(netip.MustParseAddr(last)) <= 0 {
			return true
		}
	}
	return netip.MustParsePrefix(VIPPrefix4).Contains(a) || netip.MustParsePrefix(VIPPrefix6).Contains(a)
}

func onLink(h HostPlan, a netip.Addr) bool {
	return slices.ContainsFunc(h.Links, func(l Link) bool {
		return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
	})
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string // "" for valid
	}{
		{"OK default", func(*Options) {}, ""},
		{"OK control", func(o *Options) { o.Proxy, o.DNS, o.LB = KubeProxy, CoreDNS, None }, ""},
		{"OK bare", func(o *Options) { o.Proxy, o.DNS, o.LB = None, None, None }, ""},
		{"bad name: dash", func(o *Options) { o.Name = "my-lab" }, "name is"},
		{"bad name: empty", func(o *Options) { o.Name = "" }, "name is"},
		{"bad name: path", func(o *Options) { o.Name = "../x" }, "name is"},
		{"bad nodes: none", func(o *Options) { o.Nodes = 0 }, "nodes is 0: give 1 to 50"},
		{"bad nodes: many", func(o *Options) { o.Nodes = 51 }, "nodes is 51"},
		{"bad families", func(o *Options) { o.Families = "v4" }, `families is "v4": give dual, ipv4 or ipv6`},
		{"bad proxy", func(o *Options) { o.Proxy = CoreDNS }, "proxy is"},
		{"bad dns", func(o *Options) { o.DNS = KubeProxy }, "dns is"},
		{"bad lb", func(o *Options) { o.LB = "metallb" }, "lb is"},
		{"bad: coredns without a proxy", func(o *Options) { o.Proxy, o.DNS = None, CoreDNS }, "give a proxy other than none"},
		{"bad zones", func(o *Options) { o.Zones = 27 }, "zones is 27"},
		{"bad segment2", func(o *Options) { o.Segment2 = 4 }, "segment2 is 4"},
		{"bad grace", func(o *Options) { o.NodeGrace = time.Second }, "node grace is 1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := DefaultOptions()
			test.change(&o)
			err := o.Validate()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestTiming(t *testing.T) {
	for _, test := range []struct {
		grace time.Duration
		want  *nodeTiming
	}{
		{0, nil},
		{4 * time.Second, &nodeTiming{Update: time.Second, LeaseSeconds: 3}},
		{8 * time.Second, &nodeTiming{Update: 1600 * time.Millisecond, LeaseSeconds: 6}},
		{50 * time.Second, &nodeTiming{Update: 10 * time.Second, LeaseSeconds: 40}},
	} {
		if diff := cmp.Diff(test.want, timing(test.grace)); diff != "" {
			t.Errorf("%s: %s", test.grace, diff)
		}
	}
}
