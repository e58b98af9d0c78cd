package notrack

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/dns/internal/netnstest"
)

const wantTable = `table inet seamark-dns {
	set addresses4 {
		type ipv4_addr
		elements = { 10.96.0.10 }
	}

	set addresses6 {
		type ipv6_addr
		elements = { fd00:10:96::a }
	}

	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip daddr @addresses4 udp dport 53 notrack
		ip saddr @addresses4 udp sport 53 notrack
		ip daddr @addresses4 tcp dport 53 notrack
		ip saddr @addresses4 tcp sport 53 notrack
		ip6 daddr @addresses6 udp dport 53 notrack
		ip6 saddr @addresses6 udp sport 53 notrack
		ip6 daddr @addresses6 tcp dport 53 notrack
		ip6 saddr @addresses6 tcp sport 53 notrack
	}

	chain output {
		type filter hook output priority raw; policy accept;
		ip daddr @addresses4 udp dport 53 notrack
		ip saddr @addresses4 udp sport 53 notrack
		ip daddr @addresses4 tcp dport 53 notrack
		ip saddr @addresses4 tcp sport 53 notrack
		ip6 daddr @addresses6 udp dport 53 notrack
		ip6 saddr @addresses6 udp sport 53 notrack
		ip6 daddr @addresses6 tcp dport 53 notrack
		ip6 saddr @addresses6 tcp sport 53 notrack
	}
}
`

func TestSet(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	netnstest.Exec(t, "nft", "add table inet foreign; add chain inet foreign c")
	var d Driver
	set := func(d *Driver, want ...netip.Addr) {
		t.Helper()
		if err := d.Set(t.Context(), want); err != nil {
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

	set(&d)
	check("nothing wanted, nothing there", "")
	set(&d, a6, a4)
	check("two addresses", wantTable)
	handles := netnstest.Exec(t, "nft", "-a", "list", "ruleset")
	set(&d, a4, a6)
	if again := netnstest.Exec(t, "nft", "-a", "list", "ruleset"); again != handles {
		t.Errorf("the same again wrote the table anew:\n%s\nwas\n%s", again, handles)
	}
	netnstest.Exec(t, "nft", "delete table inet seamark-dns")
	set(&d, a4, a6)
	check("after somebody removed the table", wantTable)
	var next Driver
	set(&next, a4)
	check("after a restart, one address less", strings.Replace(wantTable, "\n\t\telements = { fd00:10:96::a }", "", 1))
	set(&next)
	check("at the end", "")
}
