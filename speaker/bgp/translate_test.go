package bgp

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/osrg/gobgp/v4/api"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a value, as JSON, with a file.
func golden(t *testing.T, name string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s", path, got)
	}
}

// What gobgp is told of sessions of each kind.
func TestNeighbors(t *testing.T) {
	session := func(change func(s *plan.Session)) plan.Peer {
		p := plan.Peer{Name: "tor", Session: plan.Session{
			Address: netip.MustParseAddrPort("192.0.2.1:179"), PeerASN: 64500, LocalASN: 64512,
			HoldTime: 90, KeepaliveTime: 30, ConnectRetryTime: 5, RestartTime: 120, MaxPrefixes: 20000, IPv4: true, IPv6: true,
		}}
		change(&p.Session)
		return p
	}
	golden(t, "neighbors.json", map[string]*api.Peer{
		"eBGP":                 neighbor(session(func(*plan.Session) {}), false),
		"eBGP after a restart": neighbor(session(func(*plan.Session) {}), true),
		"iBGP, IPv4 only":      neighbor(session(func(s *plan.Session) { s.LocalASN, s.IPv6 = 64500, false }), false),
		"no graceful restart":  neighbor(session(func(s *plan.Session) { s.RestartTime = 0 }), true),
		"multihop, password, source": neighbor(session(func(s *plan.Session) {
			s.MultihopTTL, s.Password, s.Source = 3, "secret", netip.MustParseAddr("192.0.2.9")
		}), false),
		"multihop is not for iBGP": neighbor(session(func(s *plan.Session) { s.MultihopTTL, s.LocalASN = 3, 64500 }), false),
		"GTSM":                     neighbor(session(func(s *plan.Session) { s.MinTTL = 255 }), false),
		"link-local": neighbor(session(func(s *plan.Session) {
			s.Address, s.ExtendedNextHop = netip.MustParseAddrPort("[fe80::1%eth1]:179"), true
		}), false),
	})
}

// What gobgp's policy is for two peers, one of which has two sets of attributes.
func TestPolicies(t *testing.T) {
	s := newQuietSpeaker(t)
	tor := plan.Peer{Name: "tor", NextHop6: netip.MustParseAddr("fd00::1"), Session: plan.Session{
		Address: netip.MustParseAddrPort("192.0.2.1:179"), PeerASN: 64500, LocalASN: 64512, IPv4: true, IPv6: true}}
	spine := plan.Peer{Name: "spine", Session: plan.Session{
		Address: netip.MustParseAddrPort("[fe80::1%eth1]:179"), PeerASN: 64512, LocalASN: 64512, IPv4: true, IPv6: true, ExtendedNextHop: true}}
	routes := append(routesTo([]string{"spine", "tor"}, &cluster.Attributes{}, "198.51.100.1/32"),
		routesTo([]string{"tor"}, everyAttribute(), "198.51.100.2/32")...)
	_, used := s.tags.tagged(routes)
	var statements []statement
	for _, extended := range []bool{false, true} {
		statements = statements[:0]
		for _, tg := range used {
			p := tor
			if tg.peer == s.tags.peer("spine") {
				p = spine
			}
			for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
				if st, ok := export(p, f, tg, s.tags.contents[tg.attributes], extended); ok {
					statements = append(statements, st)
				}
			}
		}
		want := 5
		if extended {
			want = 6
		}
		if len(statements) != want {
			t.Errorf("extended %v: %d statements, want %d", extended, len(statements), want)
		}
	}
	golden(t, "policies.json", policies(statements))
}

// Numbers are of content, not of pointers, and never used again for something else.
func TestTags(t *testing.T) {
	tg := newTagger()
	one, _ := tg.tagged(routesTo([]string{"a", "b"}, &cluster.Attributes{MED: new(uint32)}, "192.0.2.1/32", "192.0.2.2/32"))
	two, used := tg.tagged(routesTo([]string{"a", "b"}, &cluster.Attributes{MED: new(uint32)}, "192.0.2.1/32"))
	prefix := netip.MustParsePrefix("192.0.2.1/32")
	if !slices.Equal(one[prefix], two[prefix]) || len(used) != 2 {
		t.Errorf("%v, then %v; used %v", one[prefix], two[prefix], used)
	}
	n := uint32(1)
	seen := map[uint32]string{}
	for _, a := range []*cluster.Attributes{
		{}, {MED: new(uint32)}, {MED: &n}, {LocalPref: new(uint32)}, {LocalPref: &n}, {Prepend: 1}, {Communities: []cluster.Community{1}},
		{Communities: []cluster.Community{1, 2}}, {LargeCommunities: []cluster.LargeCommunity{{Local2: 1}}}, {LargeCommunities: []cluster.LargeCommunity{{Admin: 1}}},
		{ExtCommunities: []cluster.ExtCommunity{{Kind: "rt", ASN: 1}}}, {ExtCommunities: []cluster.ExtCommunity{{Kind: "soo", ASN: 1}}},
	} {
		id := tg.attributesOf(a)
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have one number", text(a), other)
		}
		seen[id] = text(a)
	}
}
