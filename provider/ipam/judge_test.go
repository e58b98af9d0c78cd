package ipam

import (
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := func(name string, age int, addresses ...string) Candidate {
		return Candidate{Pool: cluster.Pool{Name: name}, Addresses: addresses, Created: start.Add(-time.Duration(age) * time.Hour)}
	}
	tests := []struct {
		name       string
		candidates []Candidate
		valid      string
		refused    map[string]string // a part of the message
		overlap    string
	}{
		{name: "none"},
		{name: "apart", candidates: []Candidate{c("b", 0, "192.0.2.0/28"), c("a", 0, "192.0.2.16/28", "2001:db8::/64")}, valid: "a b"},
		{name: "reversed", candidates: []Candidate{c("a", 1, "192.0.2.9-192.0.2.1"), c("b", 0, "192.0.2.0/28")}, valid: "b", refused: map[string]string{"a": "is reversed: write 192.0.2.1-192.0.2.9"}},
		{name: "every problem of a pool is told", candidates: []Candidate{c("a", 0, "192.0.2.9-192.0.2.1", "192.0.2.0/33", "192.0.2.1-2001:db8::1")}, refused: map[string]string{"a": "reversed"}},
		{name: "overlap with itself", candidates: []Candidate{c("a", 0, "192.0.2.0/28", "192.0.2.8-192.0.2.20")}, refused: map[string]string{"a": `"192.0.2.8-192.0.2.20" overlaps "192.0.2.0/28"`}},
		{name: "empty", candidates: []Candidate{c("a", 0)}, refused: map[string]string{"a": "has no addresses"}},
		{name: "the older stays", candidates: []Candidate{c("a", 1, "192.0.2.0/28"), c("b", 2, "192.0.2.8/29")}, valid: "b", overlap: "a",
			refused: map[string]string{"a": "192.0.2.0-192.0.2.15 overlaps 192.0.2.8-192.0.2.15 of IPPool b, which is older: take it out of one of the two"}},
		{name: "of the same age the first by name", candidates: []Candidate{c("b", 1, "192.0.2.0/28"), c("a", 1, "192.0.2.8/29")}, valid: "a", overlap: "b", refused: map[string]string{"b": "IPPool a"}},
		{name: "a refused pool does not count", candidates: []Candidate{c("a", 3, "192.0.2.0/28"), c("b", 2, "192.0.2.8-192.0.2.31"), c("c", 1, "192.0.2.24/29")}, valid: "a c", overlap: "b", refused: map[string]string{"b": "IPPool a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			valid, refused := Judge(tt.candidates)
			var names []string
			for _, p := range valid {
				names = append(names, p.Name)
				if len(p.Ranges) == 0 {
					t.Errorf("%s has no ranges", p.Name)
				}
			}
			if got := strings.Join(names, " "); got != tt.valid {
				t.Errorf("valid %q; want %q", got, tt.valid)
			}
			if len(refused) != len(tt.refused) {
				t.Errorf("refused %v; want %v", refused, tt.refused)
			}
			for name, says := range tt.refused {
				if v := refused[name]; !strings.Contains(v.Message, says) || v.Overlap != (name == tt.overlap) {
					t.Errorf("%s: %+v; want %q", name, v, says)
				}
			}
		})
	}
}
