package elect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func nodes(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("node%d", i+1))
	}
	return out
}

func addrs(n int, first string) []netip.Addr {
	a := netip.MustParseAddr(first)
	out := make([]netip.Addr, n)
	for i := range out {
		out[i], a = a, a.Next()
	}
	return out
}

// The owners are written down: nodes of two versions must agree while the agents are upgraded one by one.
func TestOwnerIsStable(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1": "node3", "192.0.2.2": "node3", "192.0.2.3": "node1", "192.0.2.4": "node3",
		"2001:db8::1": "node3", "2001:db8::2": "node2", "2001:db8::3": "node2", "2001:db8::4": "node1",
	} {
		if got := Owner(netip.MustParseAddr(addr), nodes(3)); got != want {
			t.Errorf("Owner(%s) = %s, want %s", addr, got, want)
		}
	}
}

func TestOwnerOfNone(t *testing.T) {
	if got := Owner(netip.MustParseAddr("192.0.2.1"), nil); got != "" {
		t.Errorf("owner among no candidates is %q", got)
	}
}

func TestOrderAndDuplicatesDoNotMatter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, a := range addrs(200, "192.0.2.0") {
		n := nodes(7)
		want := Owner(a, n)
		n = append(n, n[r.IntN(7)])
		r.Shuffle(len(n), func(i, j int) { n[i], n[j] = n[j], n[i] })
		if got := Owner(a, n); got != want {
			t.Fatalf("Owner(%s, %v) = %s, want %s", a, n, got, want)
		}
	}
}

// Neighbouring addresses of a pool must spread: no node may own more than a third above its share.
func TestBalance(t *testing.T) {
	for _, first := range []string{"10.1.0.0", "2001:db8:1::"} {
		for _, n := range []int{2, 3, 7, 20} {
			share := map[string]int{}
			for _, a := range addrs(10000, first) {
				share[Owner(a, nodes(n))]++
			}
			mean := 10000 / n
			for _, node := range nodes(n) {
				if got := share[node]; got < mean*2/3 || got > mean*4/3 {
					t.Errorf("%s owns %d of 10000 from %s among %d nodes: its share is %d", node, got, first, n, mean)
				}
			}
		}
	}
}

// A candidate that goes moves its own addresses and no other.
func TestMinimalDisruption(t *testing.T) {
	all := nodes(9)
	for _, gone := range all {
		rest := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == gone })
		for _, a := range addrs(500, "198.51.100.0") {
			before, after := Owner(a, all), Owner(a, rest)
			if before != gone && after != before {
				t.Fatalf("%s moved from %s to %s because %s went", a, before, after, gone)
			}
		}
	}
}

func BenchmarkOwner_100_Nodes(b *testing.B) {
	n, a := nodes(100), netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		Owner(a, n)
	}
}
