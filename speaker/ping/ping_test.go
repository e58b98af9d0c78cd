package ping

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestMain(m *testing.M) { netlab.Main(m) }

var (
	vip4, vip6 = netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("fd00::100")
	host4      = netip.MustParseAddr("10.0.0.1")
	host6      = netip.MustParseAddr("fd00::1")
	wanted     = plan.Ping{VIPs: []netip.Addr{vip4, vip6}, IPv4: host4, IPv6: host6}
)

func set(t testing.TB, r *Responder, w plan.Ping) {
	t.Helper()
	if err := r.Set(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// pings reports whether the address answers, with itself as source.
func pings(h *netlab.Host, a netip.Addr) bool {
	out, err := h.Try(fmt.Sprintf("ping -n -c 1 -W 1 %s", a))
	return err == nil && strings.Contains(out, fmt.Sprintf("bytes from %s: icmp_seq=1", a))
}

// A client on the LAN, the host itself and a pod behind an interface without addresses ping both VIPs.
func TestEcho(t *testing.T) {
	here, client, pod := netlab.Here(t), netlab.New(t), netlab.New(t)
	t.Cleanup(func() { here.Run("nft delete table inet " + Table) })
	netlab.Link(here, "eth0", client, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	client.Addr("eth0", "10.0.0.2/24")
	client.Addr("eth0", "fd00::2/64")
	for _, vip := range []netip.Addr{vip4, vip6} { // as speaker/l2 would have it
		client.Run(fmt.Sprintf("ip neigh replace %s lladdr %s dev eth0 nud permanent", vip, here.MAC("eth0")))
	}
	netlab.Link(here, "pod", pod, "eth0")
	here.Sysctl("ipv4.ip_forward", 1)
	here.Sysctl("ipv6.conf.all.forwarding", 1)
	pod.Run("ip addr add 10.244.0.2/32 dev eth0")
	pod.Run("ip -6 addr add fd44::2/128 dev eth0 nodad")
	pod.Run("ip route add 169.254.1.1 dev eth0")
	pod.Run("ip route add default via 169.254.1.1 dev eth0")
	pod.Run("ip -6 route add fe80::1 dev eth0")
	pod.Run("ip -6 route add default via fe80::1 dev eth0")
	pod.Run("ip neigh replace 169.254.1.1 lladdr " + here.MAC("pod") + " dev eth0 nud permanent")
	pod.Run("ip neigh replace fe80::1 lladdr " + here.MAC("pod") + " dev eth0 nud permanent")
	here.Run("ip route add 10.244.0.2 dev pod")
	here.Run("ip -6 route add fd44::2 dev pod")

	for _, h := range []*netlab.Host{client, pod} {
		if pings(h, vip4) || pings(h, vip6) {
			t.Fatal("a VIP answers before Set")
		}
	}
	r := New()
	set(t, r, wanted)
	for name, h := range map[string]*netlab.Host{"client": client, "host": here, "pod": pod} {
		for _, vip := range []netip.Addr{vip4, vip6} {
			if !pings(h, vip) {
				t.Errorf("%s: no answer from %s", name, vip)
			}
		}
	}
	// Large requests come in fragments; connection tracking has put them together before the hook.
	client.Run("ping -n -c 1 -W 1 -s 4000 10.0.0.100")
	client.Run("ping -n -c 1 -W 1 -s 4000 fd00::100")

	set(t, r, plan.Ping{VIPs: []netip.Addr{vip6}, IPv4: host4, IPv6: host6})
	if pings(client, vip4) || !pings(client, vip6) {
		t.Error("the VIP that was taken out answers, or the other does not")
	}
}

// A neighbour's unicast reachability probe to a VIP is not for the kernel, which would route it back to the link and tell
// the neighbour so by a redirect.
func TestReachabilityProbesAreNotRouted(t *testing.T) {
	here, client := netlab.Here(t), netlab.New(t)
	t.Cleanup(func() { here.Run("nft delete table inet " + Table) })
	netlab.Link(here, "eth0", client, "eth0")
	here.Addr("eth0", "fd00::1/64")
	client.Addr("eth0", "fd00::2/64")
	here.Sysctl("ipv6.conf.all.forwarding", 1)
	redirects := func() string {
		for line := range strings.Lines(here.Run("cat /proc/net/snmp6")) {
			if f := strings.Fields(line); f[0] == "Icmp6OutRedirects" {
				return f[1]
			}
		}
		return ""
	}
	probe := func() {
		client.Run(fmt.Sprintf("ip neigh replace %s lladdr %s dev eth0 nud probe", vip6, here.MAC("eth0")))
		netlab.Eventually(t, "the client has probed in vain", func() bool {
			out := client.Run(fmt.Sprintf("ip neigh show %s", vip6))
			return !strings.Contains(out, "PROBE")
		})
	}
	before := redirects()
	probe()
	if redirects() == before {
		t.Fatal("the kernel does not route probes: this test shows nothing")
	}
	set(t, New(), wanted)
	before = redirects()
	probe()
	if after := redirects(); after != before {
		t.Errorf("redirects sent: %s, before %s", after, before)
	}
}

// The table reads as the comment in rules.go says (nft writes -110 as "dstnat - 10" where it has that name); others are left alone; a new process takes over without a gap.
func TestTable(t *testing.T) {
	here := netlab.Here(t)
	t.Cleanup(func() { here.Run("nft delete table inet foreign") })
	here.Run("nft add table inet foreign")
	here.Run("nft add set inet foreign vips4 {typeof ip daddr;}")
	foreign := here.Run("nft list table inet foreign")

	r := New()
	set(t, r, wanted)
	const want = `table inet seamark-ping {
	set vips4 {
		type ipv4_addr
		elements = { 10.0.0.100 }
	}

	set vips6 {
		type ipv6_addr
		elements = { fd00::100 }
	}

	chain prerouting {
		type nat hook prerouting priority dstnat - 10; policy accept;
		ip daddr @vips4 icmp type echo-request dnat ip to 10.0.0.1
		ip6 daddr @vips6 icmpv6 type echo-request dnat ip6 to fd00::1
	}

	chain output {
		type nat hook output priority -110; policy accept;
		ip daddr @vips4 icmp type echo-request dnat ip to 10.0.0.1
		ip6 daddr @vips6 icmpv6 type echo-request dnat ip6 to fd00::1
	}

	chain solicitations {
		type filter hook prerouting priority raw; policy accept;
		ip6 daddr @vips6 icmpv6 type nd-neighbor-solicit drop
	}
}`
	list := func() string { return here.Run("nft list table inet " + Table) }
	if got := list(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for name, change := range map[string]string{
		"nothing":         "",
		"an element":      "nft delete element inet seamark-ping vips4 {10.0.0.100}",
		"another element": "nft add element inet seamark-ping vips4 {10.0.0.101}",
		"a rule":          "nft flush chain inet seamark-ping output",
		"a chain":         "nft delete chain inet seamark-ping output",
		"the table":       "nft delete table inet seamark-ping",
	} {
		if change != "" {
			here.Run(change)
		}
		r.Doubt()
		set(t, r, wanted)
		if got := list(); got != want {
			t.Errorf("after someone changed %s: got\n%s", name, got)
		}
	}
	// Without a doubt the kernel is not asked, and only what differs from the last Set is changed; if the kernel does not have what
	// is to be changed, all is made anew.
	here.Run("nft add element inet seamark-ping vips4 {10.0.0.101}")
	set(t, r, wanted)
	set(t, r, plan.Ping{VIPs: []netip.Addr{vip4}, IPv4: host4, IPv6: host6})
	if got := list(); strings.Contains(got, "fd00::100") || !strings.Contains(got, "10.0.0.101") {
		t.Errorf("after a VIP went: got\n%s", got)
	}
	here.Run("nft delete table inet " + Table)
	if err := r.Set(t.Context(), wanted); err == nil {
		t.Error("no error although the table is gone")
	}
	set(t, r, wanted)
	if got := list(); got != want {
		t.Errorf("after the next Set: got\n%s", got)
	}
	generation := here.Run("nft --handle list table inet " + Table)
	r.Doubt()
	set(t, r, wanted)
	if here.Run("nft --handle list table inet "+Table) != generation {
		t.Error("the same Set again changed the table")
	}
	set(t, New(), wanted)
	if got := list(); got != want {
		t.Errorf("after a restart: got\n%s", got)
	}
	set(t, r, plan.Ping{VIPs: wanted.VIPs, IPv6: host6})
	if got := list(); strings.Contains(got, "dnat ip to") || !strings.Contains(got, "dnat ip6 to fd00::1") {
		t.Errorf("host without IPv4: got\n%s", got)
	}
	for range 2 { // the second time there is nothing to remove
		if err := r.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := here.Run("nft list tables"); got != "table inet foreign" {
		t.Errorf("tables after Remove: %s", got)
	}
	if got := here.Run("nft list table inet foreign"); got != foreign {
		t.Errorf("a foreign table was changed: %s", got)
	}
}

func TestManyVIPs(t *testing.T) {
	here := netlab.Here(t)
	t.Cleanup(func() { here.Run("nft delete table inet " + Table) })
	many := plan.Ping{IPv4: host4, IPv6: host6}
	a4, a6 := netip.MustParseAddr("10.1.0.0"), netip.MustParseAddr("fd01::")
	for range 10000 {
		many.VIPs = append(many.VIPs, a4, a6)
		a4, a6 = a4.Next(), a6.Next()
	}
	count := func() int {
		return strings.Count(here.Run("nft list table inet "+Table), "10.1.") + strings.Count(here.Run("nft list table inet "+Table), "fd01::")
	}
	r := New()
	set(t, r, many)
	if got := count(); got != 20000 {
		t.Errorf("%d elements", got)
	}
	set(t, r, plan.Ping{VIPs: many.VIPs[:10], IPv4: host4, IPv6: host6})
	if got := count(); got != 10 {
		t.Errorf("%d elements are left, want 10", got)
	}
	set(t, r, many)
	if got := count(); got != 20000 {
		t.Errorf("%d elements after they were added again", got)
	}
}
