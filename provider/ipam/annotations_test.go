package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/cluster"
)

func TestParseAsk(t *testing.T) {
	tests := []struct {
		name           string
		annotations    map[string]string
		loadBalancerIP string

		pool, addresses string
		notices         []string // a part of each
		problem         string   // a part of it
	}{
		{name: "nothing"},
		{name: "empty", annotations: map[string]string{AnnotationAddresses: " ", AnnotationPool: ""}},
		{name: "ours", annotations: map[string]string{AnnotationAddresses: " 192.0.2.7 , 2001:db8:0::7", AnnotationPool: "a "}, pool: "a", addresses: "192.0.2.7 2001:db8::7"},
		{name: "IPv6 first", annotations: map[string]string{AnnotationAddresses: "2001:db8::7,192.0.2.7"}, addresses: "192.0.2.7 2001:db8::7"},
		{name: "MetalLB's", annotations: map[string]string{"metallb.io/loadBalancerIPs": "192.0.2.7", "metallb.io/address-pool": "a"}, pool: "a", addresses: "192.0.2.7"},
		{name: "MetalLB's former", annotations: map[string]string{"metallb.universe.tf/loadBalancerIPs": "192.0.2.7", "metallb.universe.tf/address-pool": "a"}, pool: "a", addresses: "192.0.2.7"},
		{name: "the field", loadBalancerIP: "192.0.2.7", addresses: "192.0.2.7"},
		{name: "the same twice", annotations: map[string]string{AnnotationAddresses: "192.0.2.7,2001:db8::7", "metallb.io/loadBalancerIPs": "2001:db8::7, 192.0.2.7"}, addresses: "192.0.2.7 2001:db8::7"},
		{
			name:           "ours wins",
			annotations:    map[string]string{AnnotationAddresses: "192.0.2.7", "metallb.io/loadBalancerIPs": "192.0.2.8", AnnotationPool: "a", "metallb.universe.tf/address-pool": "b"},
			loadBalancerIP: "nonsense", pool: "a", addresses: "192.0.2.7",
			notices: []string{
				`seamark.io/pool ("a") and metallb.universe.tf/address-pool ("b") differ: the first counts`,
				`seamark.io/addresses ("192.0.2.7") and metallb.io/loadBalancerIPs ("192.0.2.8") differ`,
				`seamark.io/addresses ("192.0.2.7") and spec.loadBalancerIP ("nonsense") differ`,
			},
		},
		{name: "no address", annotations: map[string]string{AnnotationAddresses: "web.example"}, problem: `seamark.io/addresses: "web.example" is not an address: write one such as 192.0.2.7`},
		{name: "prefix", annotations: map[string]string{AnnotationAddresses: "192.0.2.0/28"}, problem: "is not an address"},
		{name: "comma at the end", annotations: map[string]string{AnnotationAddresses: "192.0.2.7,"}, problem: `"" is not an address`},
		{name: "two of a family", annotations: map[string]string{"metallb.io/loadBalancerIPs": "192.0.2.7,192.0.2.8"}, problem: "metallb.io/loadBalancerIPs: 192.0.2.7 and 192.0.2.8 are both IPv4"},
		{name: "zone", annotations: map[string]string{AnnotationAddresses: "fe80::1%eth0"}, problem: "has a zone: write fe80::1"},
		{name: "mapped", loadBalancerIP: "::ffff:192.0.2.7", problem: "spec.loadBalancerIP: \"::ffff:192.0.2.7\" is IPv4 written as IPv6: write 192.0.2.7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ask, notices, problem := ParseAsk(tt.annotations, tt.loadBalancerIP)
			if ask.Pool != tt.pool || !slices.Equal(ask.Addresses, addrs(tt.addresses)) {
				t.Errorf("got %+v", ask)
			}
			if !slices.EqualFunc(notices, tt.notices, strings.Contains) {
				t.Errorf("notices %q; want %q", notices, tt.notices)
			}
			switch {
			case tt.problem == "" && problem != nil:
				t.Error(problem)
			case tt.problem != "" && (problem == nil || !strings.Contains(problem.Message, tt.problem) || problem.Reason != InvalidRequest):
				t.Errorf("problem %v; want %q", problem, tt.problem)
			}
		})
	}
}

func FuzzParseAsk(f *testing.F) {
	for _, s := range []string{"", "192.0.2.7", "192.0.2.7,2001:db8::7", "fe80::1%eth0", "::ffff:192.0.2.7", "192.0.2.7,", "192.0.2.256", "192.0.2.7,192.0.2.7", "[::1]", "١٩٢.0.2.7"} {
		f.Add(s, "192.0.2.7", "")
		f.Add("", s, s)
	}
	f.Fuzz(func(t *testing.T, ours, metallb, field string) {
		ask, notices, problem := ParseAsk(map[string]string{AnnotationAddresses: ours, "metallb.io/loadBalancerIPs": metallb}, field)
		if problem != nil && len(ask.Addresses) > 0 {
			t.Fatalf("both a problem and addresses: %v, %v", problem, ask)
		}
		if len(notices) > 2 {
			t.Fatalf("more notices than places: %q", notices)
		}
		var written []string
		seen := map[cluster.Family]bool{}
		for _, a := range ask.Addresses {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" || seen[cluster.FamilyOf(a)] {
				t.Fatalf("bad addresses %v", ask.Addresses)
			}
			seen[cluster.FamilyOf(a)] = true
			written = append(written, a.String())
		}
		// What was understood reads back as the same.
		again, _, problem := ParseAsk(map[string]string{AnnotationAddresses: strings.Join(written, ",")}, "")
		if problem != nil || !slices.Equal(again.Addresses, ask.Addresses) {
			t.Fatalf("%v reads back as %v, %v", ask.Addresses, again.Addresses, problem)
		}
		if _, err := netip.ParseAddr(strings.TrimSpace(ours)); err == nil && problem == nil && strings.TrimSpace(ours) != "" && len(ask.Addresses) > 1 {
			t.Fatalf("one address became %v", ask.Addresses)
		}
	})
}
