package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

// Where there are so many nodes that not every one knows all holders, each address is elected by itself: no node has a bound, and one
// that comes back gets nothing from those that are well. The same world where all holders are known is beside it.
func TestBlind(t *testing.T) {
	s, f := world()
	var addrs []netip.Addr
	for a := netip.MustParseAddr("10.0.0.10"); len(addrs) < 12; a = a.Next() {
		if owner(a) == "node1" && a != v4 {
			addService(s, fmt.Sprintf("svc%d", len(addrs)), a)
			addrs = append(addrs, a)
		}
	}
	delete(s.VIPs, v4)
	// wants returns how many of the addresses each node should have.
	wants := func(blind bool, holder, contender string) map[string]int {
		out := map[string]int{}
		for _, n := range []string{"node1", "node2", "node3"} {
			g := at(f, n)
			seg := known(&g)
			seg.Blind = blind
			for _, a := range addrs {
				if holder != "" && (!blind || holder == n) {
					seg.Holders[a] = holder
				}
				if holder == n && contender != "" {
					seg.Contenders[a] = contender
				}
			}
			g.Segments = map[netip.Prefix]Segment{lan: seg}
			for _, l := range Build(s, g).L2 {
				if slices.Contains(addrs, l.Addr) {
					out[n]++
				}
			}
		}
		return out
	}
	const bound = 5 // five fourths of a third of 12
	for _, tt := range []struct {
		name              string
		blind             bool
		holder, contender string
		want              map[string]int
	}{
		{"nobody has them: the hash alone decides", true, "", "", map[string]int{"node1": 12}},
		{"node2 has them, and node1 is back: it waits, and node2 keeps them", true, "node2", "node1", map[string]int{"node1": 12, "node2": 12}},
		{"node2 has them, and node3 is new", true, "node2", "node3", map[string]int{"node1": 12, "node2": 12}},
	} {
		if got := wants(tt.blind, tt.holder, tt.contender); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := wants(false, "", ""); got["node1"] != bound {
		t.Errorf("not blind, nobody has them: %v", got)
	}
	if got := wants(false, "node2", "node1"); got["node1"]+got["node3"] != len(addrs)-bound || got["node2"] >= len(addrs) {
		t.Errorf("not blind, node2 has them: %v", got)
	}
}
