package ipam

import (
	"cmp"
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
		f.Add(s, "192.0.2.7", "", "a", "", "")
		f.Add("", s, s, "", " a ", "true")
		f.Add("", "", s, s, "b", s)
	}
	f.Fuzz(func(t *testing.T, ours, metallb, field, pool, otherPool, reassign string) {
		ask, notices, problem := ParseAsk(map[string]string{
			AnnotationAddresses: ours, metallbAddresses: metallb, AnnotationPool: pool, metallbPool: otherPool, AnnotationReassign: reassign,
		}, field)
		if problem != nil && (problem.Reason != InvalidRequest || problem.Message == "") {
			t.Fatalf("problem %+v", problem)
		}
		if len(notices) > 3 {
			t.Fatalf("more notices than places: %q", notices)
		}
		if ask.Pool != cmp.Or(strings.TrimSpace(pool), strings.TrimSpace(otherPool)) {
			t.Fatalf("the pool is %q, of %q and %q", ask.Pool, pool, otherPool)
		}
		if ask.Reassign != (strings.TrimSpace(reassign) == "true") {
			t.Fatalf("reassign is %t, of %q", ask.Reassign, reassign)
		}
		addresses := cmp.Or(strings.TrimSpace(ours), strings.TrimSpace(metallb), strings.TrimSpace(field))
		if problem == nil && (len(ask.Addresses) > 0) != (addresses != "") {
			t.Fatalf("%q are the addresses %v", addresses, ask.Addresses)
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
		if _, err := netip.ParseAddr(addresses); err == nil && len(ask.Addresses) > 1 {
			t.Fatalf("one address became %v", ask.Addresses)
		}
		// What was understood reads back as the same.
		again, notices, problem := ParseAsk(map[string]string{AnnotationAddresses: strings.Join(written, ","), AnnotationPool: ask.Pool}, "")
		if problem != nil || len(notices) > 0 || !slices.Equal(again.Addresses, ask.Addresses) || again.Pool != ask.Pool {
			t.Fatalf("%+v reads back as %+v, %v, %v", ask, again, notices, problem)
		}
	})
}

func FuzzParseSharing(f *testing.F) {
	for _, s := range []string{"", "k", " k ", "a,b", "b, a,,a", ",", "\xff", strings.Repeat("k", maxSharingKey+1)} {
		f.Add(s, "", "a,b")
		f.Add("", s, "")
		f.Add("k", "other", s)
	}
	f.Fuzz(func(t *testing.T, ours, metallb, namespaces string) {
		sharing, notices, problem := ParseSharing(map[string]string{AnnotationSharingKey: ours, metallbSharing: metallb, AnnotationSharingNamespaces: namespaces})
		key := cmp.Or(strings.TrimSpace(ours), strings.TrimSpace(metallb))
		if len(notices) > 1 {
			t.Fatalf("more notices than places: %q", notices)
		}
		if tooLong := len(key) > maxSharingKey; tooLong != (problem != nil) || tooLong && (problem.Reason != InvalidRequest || sharing.Key != "") {
			t.Fatalf("a key of %d bytes: %+v, %v", len(key), sharing, problem)
		}
		if problem != nil {
			return
		}
		if sharing.Key != key {
			t.Fatalf("the key is %q, want %q", sharing.Key, key)
		}
		if !slices.IsSorted(sharing.Namespaces) || len(slices.Compact(slices.Clone(sharing.Namespaces))) != len(sharing.Namespaces) {
			t.Fatalf("namespaces %q", sharing.Namespaces)
		}
		for name := range strings.SplitSeq(namespaces, ",") {
			if name = strings.TrimSpace(name); name != "" && !slices.Contains(sharing.Namespaces, name) {
				t.Fatalf("namespaces %q: %q is missing", sharing.Namespaces, name)
			}
		}
		again, _, problem := ParseSharing(map[string]string{AnnotationSharingKey: sharing.Key, AnnotationSharingNamespaces: strings.Join(sharing.Namespaces, ",")})
		if problem != nil || again.Key != sharing.Key || !slices.Equal(again.Namespaces, sharing.Namespaces) {
			t.Fatalf("%+v reads back as %+v, %v", sharing, again, problem)
		}
	})
}
