package bind

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/dns/internal/netnstest"
)

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestSet(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	netnstest.Exec(t, "ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
	netnstest.Exec(t, "ip", "addr", "add", "2001:db8::1/128", "dev", "lo", "nodad")
	d, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	set := func(want ...string) {
		t.Helper()
		for range 2 {
			if err := d.Set(t.Context(), addrs(want...)); err != nil {
				t.Fatal(err)
			}
			// A new driver finds them, as after a crash.
			fresh, err := New()
			if err != nil {
				t.Fatal(err)
			}
			got, err := fresh.Get(t.Context())
			fresh.Close()
			if err != nil || !slices.Equal(got, addrs(want...)) {
				t.Fatalf("after Set(%v): ours are %v, %v", want, got, err)
			}
		}
	}
	set("10.96.0.10", "fd00:10:96::a")
	list := netnstest.Exec(t, "ip", "-o", "addr", "show", "dev", "lo")
	for _, want := range []string{"inet 10.96.0.10/32 scope host lo:seamark", "inet6 fd00:10:96::a/128 scope global nodad deprecated noprefixroute"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	set("10.96.0.11", "fd00:10:96::a")
	set("10.96.0.11")
	set()
	// An address that was there before is used as it is.
	if err := d.Set(t.Context(), addrs("192.0.2.1")); err != nil {
		t.Error(err)
	}
	set()
	list = netnstest.Exec(t, "ip", "-o", "addr", "show", "dev", "lo")
	for _, foreign := range []string{"127.0.0.1/8", "::1/128", "192.0.2.1/32", "2001:db8::1/128"} {
		if !strings.Contains(list, foreign) {
			t.Errorf("foreign address %s is gone:\n%s", foreign, list)
		}
	}
}
