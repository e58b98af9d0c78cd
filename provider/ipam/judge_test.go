package ipam

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := func(name string, age int, addresses ...string) Candidate {
		return Candidate{Pool: cluster.Pool{Name: name}, Addresses: addresses, Created: start.Add(-time.Duration(age) * time.Hour)}
	}
	pods := Foreign{netipx.MustParseIPRange("192.0.2.0-192.0.2.7"), "part of the pod range of node n1"}
	node := Foreign{netipx.MustParseIPRange("192.0.2.9-192.0.2.9"), "an address of node n1"}
	deleted := c("b", 2, "192.0.2.8/29")
	deleted.Deleted = true
	deleted.Ranges = []netipx.IPRange{netipx.MustParseIPRange("192.0.2.8-192.0.2.15")}
	broken := c("a", 0, "192.0.2.0/28")
	broken.Problem = errors.New("community 70000:1")
	brokenOlder := c("b", 2, "192.0.2.8/29")
	brokenOlder.Problem, brokenOlder.Ranges = broken.Problem, deleted.Ranges
	tests := []struct {
		name       string
		candidates []Candidate
		foreign    []Foreign

		gives    string            // what each pool gives out
		refused  map[string]string // a part of why
		overlaps map[string]string // as Describe has them
	}{
		{name: "none"},
		{name: "apart", candidates: []Candidate{c("b", 0, "192.0.2.0/28"), c("a", 0, "192.0.2.16/28", "2001:db8::/64")}, foreign: []Foreign{{netipx.MustParseIPRange("10.0.0.0-10.255.255.255"), "x"}},
			gives: "a:192.0.2.16/28 a:2001:db8::/64 b:192.0.2.0/28"},
		{name: "reversed", candidates: []Candidate{c("a", 1, "192.0.2.9-192.0.2.1"), c("b", 0, "192.0.2.0/28")}, gives: "b:192.0.2.0/28", refused: map[string]string{"a": "is reversed: write 192.0.2.1-192.0.2.9"}},
		{name: "every problem of a pool is told", candidates: []Candidate{c("a", 0, "192.0.2.9-192.0.2.1", "192.0.2.0/33", "192.0.2.1-2001:db8::1")}, refused: map[string]string{"a": "reversed"}},
		{name: "overlap with itself", candidates: []Candidate{c("a", 0, "192.0.2.0/28", "192.0.2.8-192.0.2.20")}, refused: map[string]string{"a": `"192.0.2.8-192.0.2.20" overlaps "192.0.2.0/28"`}},
		{name: "empty", candidates: []Candidate{c("a", 0)}, refused: map[string]string{"a": "has no addresses"}},
		{name: "something else is wrong", candidates: []Candidate{broken}, refused: map[string]string{"a": "community 70000:1"}},
		{name: "something else is wrong with the older one", candidates: []Candidate{brokenOlder, c("a", 1, "192.0.2.0/28")}, gives: "a:192.0.2.0/28", refused: map[string]string{"b": "community 70000:1"}},
		{name: "deleted", candidates: []Candidate{deleted, c("a", 1, "192.0.2.0/28")}, gives: "a:192.0.2.0/28", refused: map[string]string{"b": "is being deleted"}},
		{name: "the older gives it out", candidates: []Candidate{c("a", 1, "192.0.2.0/28"), c("b", 2, "192.0.2.8/29")}, gives: "a:192.0.2.0/29 b:192.0.2.8/29",
			overlaps: map[string]string{
				"a": "192.0.2.8/29 is also in IPPool b, which is older and gives them out",
				"b": "192.0.2.8/29 is also in IPPool a, which is younger and does not give them out",
			}},
		{name: "of the same age the first by name", candidates: []Candidate{c("b", 1, "192.0.2.0/28"), c("a", 1, "192.0.2.8-192.0.2.9")}, gives: "a:192.0.2.8/31 b:192.0.2.0/29 b:192.0.2.10-192.0.2.15",
			overlaps: map[string]string{"a": "192.0.2.8/31 is also in IPPool b, which is younger", "b": "192.0.2.8/31 is also in IPPool a, which is older"}},
		{name: "nothing left", candidates: []Candidate{c("a", 1, "192.0.2.8/30"), c("b", 2, "192.0.2.8/29")}, gives: "b:192.0.2.8/29",
			refused: map[string]string{"a": "none of its addresses is its own: 192.0.2.8/30 is also in IPPool b"}, overlaps: map[string]string{"a": "IPPool b", "b": "IPPool a"}},
		{name: "a pool with mistakes does not count", candidates: []Candidate{c("a", 3, "192.0.2.0/28", "192.0.2.0/28"), c("b", 2, "192.0.2.8-192.0.2.31")}, gives: "b:192.0.2.8-192.0.2.31", refused: map[string]string{"a": "overlaps"}},
		{name: "foreign", candidates: []Candidate{c("a", 1, "192.0.2.0/28")}, foreign: []Foreign{node, pods}, gives: "a:192.0.2.8/32 a:192.0.2.10-192.0.2.15",
			overlaps: map[string]string{"a": "192.0.2.0/29 is part of the pod range of node n1; 192.0.2.9 is an address of node n1"}},
		{name: "nothing but foreign", candidates: []Candidate{c("a", 1, "192.0.2.0/30")}, foreign: []Foreign{pods}, refused: map[string]string{"a": "none of its addresses is its own: 192.0.2.0/30 is part of the pod range of node n1: use others"},
			overlaps: map[string]string{"a": "pod range"}},
		{name: "many", candidates: []Candidate{c("a", 1, "192.0.2.0/28")}, foreign: slices.Repeat([]Foreign{node}, 7), gives: "a:192.0.2.0-192.0.2.8 a:192.0.2.10-192.0.2.15", overlaps: map[string]string{"a": "; 2 more"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pools, verdicts := Judge(tt.candidates, tt.foreign)
			var gives []string
			for _, p := range pools {
				for _, r := range p.givable() {
					text := r.String()
					if prefix, ok := r.Prefix(); ok {
						text = prefix.String()
					}
					gives = append(gives, p.Name+":"+text)
				}
			}
			if got := strings.Join(gives, " "); got != tt.gives {
				t.Errorf("gives %q; want %q", got, tt.gives)
			}
			if len(verdicts) != len(tt.candidates) {
				t.Errorf("%d verdicts on %d pools", len(verdicts), len(tt.candidates))
			}
			for name, v := range verdicts {
				if says, want := tt.refused[name], v.Refused != ""; want != (says != "") || !strings.Contains(v.Refused, says) {
					t.Errorf("%s is refused for %q; want %q", name, v.Refused, says)
				}
				if got, want := Describe(v.Overlaps), tt.overlaps[name]; (got == "") != (want == "") || !strings.Contains(got, want) {
					t.Errorf("%s overlaps %q; want %q", name, got, want)
				}
			}
		})
	}
}
