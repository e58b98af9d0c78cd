package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/seamark-io/seamark/cluster"
)

// Nodes get to know each other where a pool announces, or where an address is that is in no pool any more.
func TestLANs(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*cluster.Snapshot)
		want   string
	}{
		"a pool without addresses in use": {func(s *cluster.Snapshot) { clear(s.VIPs) }, "10.0.0.0/24@eth0 fd00::/64@eth0"},
		"addresses in use in no pool":     {func(s *cluster.Snapshot) { s.Pools["pool"].Ranges = nil }, "10.0.0.0/24@eth0 fd00::/64@eth0"},
		"neither": {func(s *cluster.Snapshot) {
			clear(s.VIPs)
			s.Pools["pool"].Ranges = nil
		}, ""},
		"a pool for BGP": {func(s *cluster.Snapshot) { s.Pools["pool"].ARP = nil }, ""},
		"a pool for another interface": {func(s *cluster.Snapshot) {
			clear(s.VIPs)
			s.Pools["pool"].ARP.Interfaces = []string{"eth7"}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := world()
			tt.change(s)
			got := ""
			for _, l := range Build(s, f).LANs {
				got += fmt.Sprintf(" %s@%s", l.Subnet, l.Link.Name)
			}
			if got != "" {
				got = got[1:]
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestSegmentsOf(t *testing.T) {
	prefixes := func(texts ...string) (out []netip.Prefix) {
		for _, x := range texts {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	got := SegmentsOf([]Interface{
		{Link: Link{Index: 1, Name: "lo"}, Prefixes: prefixes("127.0.0.1/8", "192.0.2.1/24"), Up: true},
		{Link: Link{Index: 2, Name: "eth0", MAC: MAC{2}}, Prefixes: prefixes("10.0.0.1/24", "10.0.0.7/32", "fe80::1/64", "fd00::1/64")},
		{Link: Link{Index: 3, Name: "eth1", MAC: MAC{3}}, Prefixes: prefixes("10.0.0.2/24", "10.0.1.2/24"), Up: true},
	})
	want := map[netip.Prefix]string{
		netip.MustParsePrefix("10.0.0.0/24"): "eth0", netip.MustParsePrefix("fd00::/64"): "eth0", netip.MustParsePrefix("10.0.1.0/24"): "eth1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
