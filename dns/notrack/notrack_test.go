package notrack

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/dns/internal/netnstest"
)

// table is what nft lists for a table with the given elements.
func table(ours4, queries4, replies4, ours6, queries6, replies6 string) string {
	var b strings.Builder
	b.WriteString("table inet seamark-dns {\n")
	for _, set := range []struct{ name, typ, elements string }{
		{"ours4", "ipv4_addr", ours4}, {"queries4", "ipv4_addr", queries4}, {"replies4", "ipv4_addr", replies4},
		{"ours6", "ipv6_addr", ours6}, {"queries6", "ipv6_addr", queries6}, {"replies6", "ipv6_addr", replies6},
	} {
		b.WriteString("\tset " + set.name + " {\n\t\ttype " + set.typ + "\n")
		if set.elements != "" {
			b.WriteString("\t\telements = { " + set.elements + " }\n")
		}
		b.WriteString("\t}\n\n")
	}
	ipv4 := `		ip daddr @queries4 udp dport 53 notrack
		ip saddr @replies4 udp sport 53 notrack
		ip daddr @queries4 tcp dport 53 notrack
		ip saddr @replies4 tcp sport 53 notrack
`
	ipv6 := `		ip6 daddr @queries6 udp dport 53 notrack
		ip6 saddr @replies6 udp sport 53 notrack
		ip6 daddr @queries6 tcp dport 53 notrack
		ip6 saddr @replies6 tcp sport 53 notrack
`
	b.WriteString("\tchain prerouting {\n\t\ttype filter hook prerouting priority raw; policy accept;\n" + ipv4 + ipv6 + "\t}\n")
	b.WriteString("\n\tchain output {\n\t\ttype filter hook output priority raw; policy accept;\n" +
		ipv4 + "\t\tip saddr @ours4 icmp type destination-unreachable icmp code port-unreachable @th,240,16 0x35 drop\n" +
		ipv6 + "\t\tip6 saddr @ours6 icmpv6 type destination-unreachable icmpv6 code port-unreachable @th,400,16 0x35 drop\n\t}\n}\n")
	return b.String()
}

func TestSet(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	netnstest.Exec(t, "nft", "add table inet foreign; add chain inet foreign c")
	if err := Probe(); err != nil {
		t.Error(err)
	}
	var d Driver
	set := func(d *Driver, ours, queries, replies []netip.Addr) {
		t.Helper()
		if err := d.Set(t.Context(), ours, queries, replies); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what, want string) {
		t.Helper()
		want = "table inet foreign {\n\tchain c {\n\t}\n}\n" + want
		if got := netnstest.Exec(t, "nft", "list", "ruleset"); got != want {
			t.Fatalf("%s: ruleset\n%s\nwant\n%s", what, got, want)
		}
	}
	a4, a6 := netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::a")
	both, reverse, four := []netip.Addr{a4, a6}, []netip.Addr{a6, a4}, []netip.Addr{a4}

	set(&d, nil, nil, nil)
	check("nothing wanted, nothing there", "")
	set(&d, both, both, both)
	full := table("10.96.0.10", "10.96.0.10", "10.96.0.10", "fd00:10:96::a", "fd00:10:96::a", "fd00:10:96::a")
	check("two addresses", full)
	handles := netnstest.Exec(t, "nft", "-a", "list", "ruleset")
	set(&d, both, reverse, both)
	if again := netnstest.Exec(t, "nft", "-a", "list", "ruleset"); again != handles {
		t.Errorf("the same again wrote the table anew:\n%s\nwas\n%s", again, handles)
	}
	netnstest.Exec(t, "nft", "delete table inet seamark-dns")
	set(&d, both, both, both)
	check("after somebody removed the table", full)
	var next Driver
	set(&next, four, four, both)
	check("after a restart, one address about to go", table("10.96.0.10", "10.96.0.10", "10.96.0.10", "", "", "fd00:10:96::a"))
	set(&next, four, four, four)
	check("one address less", table("10.96.0.10", "10.96.0.10", "10.96.0.10", "", "", ""))
	set(&next, four, nil, four)
	check("the server is about to stop", table("10.96.0.10", "", "10.96.0.10", "", "", ""))
	set(&next, four, nil, nil)
	check("the server has stopped", table("10.96.0.10", "", "", "", "", ""))
	set(&next, nil, nil, nil)
	check("at the end", "")
}
