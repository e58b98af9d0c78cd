package speaker

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/bfd"
	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/bgp"
	"github.com/seamark-io/seamark/speaker/plan"
)

// What BGP is told, look after look.
func TestPaths(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth1")
	session := func(router netip.Addr, state packet.State, downs uint64, failed bool) bfd.Status {
		return bfd.Status{Session: bfd.Session{Peer: router.WithZone(""), Interface: router.Zone()}, State: state, Downs: downs, Failed: failed}
	}
	seen := downs{}
	for _, look := range []struct {
		what     string
		sessions []bfd.Status
		want     []word
	}{
		{"nothing", nil, nil},
		{"two begin", []bfd.Status{session(a, packet.Down, 0, false), session(b, packet.Init, 0, false)}, []word{{a, bgp.PathUnknown}, {b, bgp.PathUnknown}}},
		{"both are up", []bfd.Status{session(a, packet.Up, 0, false), session(b, packet.Up, 0, false)}, []word{{a, bgp.PathUp}, {b, bgp.PathUp}}},
		{"one fails", []bfd.Status{session(a, packet.Down, 1, true), session(b, packet.Up, 0, false)}, []word{{a, bgp.PathDown}, {b, bgp.PathUp}}},
		{"it is up again, and the other one was down for a moment", []bfd.Status{session(a, packet.Up, 1, false), session(b, packet.Up, 1, false)},
			[]word{{a, bgp.PathUp}, {b, bgp.PathDown}, {b, bgp.PathUp}}},
		{"the router ends BFD", []bfd.Status{session(a, packet.Down, 1, false), session(b, packet.Up, 1, false)}, []word{{a, bgp.PathUnknown}, {b, bgp.PathUp}}},
		{"no BFD with one any more", []bfd.Status{session(a, packet.Up, 1, false)}, []word{{a, bgp.PathUp}, {b, bgp.PathUnknown}}},
		{"nor with the other", nil, []word{{a, bgp.PathUnknown}}},
		{"that is told once", nil, nil},
		{"another session with it, which fails as often", []bfd.Status{session(a, packet.Up, 1, false)}, []word{{a, bgp.PathDown}, {a, bgp.PathUp}}},
	} {
		if got := seen.look(look.sessions); !slices.Equal(got, look.want) {
			t.Errorf("%s: got %v, want %v", look.what, got, look.want)
		}
	}
}

// The BFD session of a peer is found again by the address that BGP knows the peer by.
func TestBFDSessionsOfPeers(t *testing.T) {
	b := plan.BGP{}
	for _, address := range []string{"192.0.2.1:179", "[2001:db8::1]:179", "[fe80::1%eth1]:179"} {
		b.Peers = append(b.Peers, plan.Peer{Name: address, Session: plan.Session{Address: netip.MustParseAddrPort(address)}, BFD: cluster.BFD{Enabled: true}})
	}
	for i, s := range bfdSessions(b) {
		if got, want := routerOf(s), b.Peers[i].Session.Address.Addr(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What people read of a BFD session.
func TestBFDWords(t *testing.T) {
	for want, st := range map[string]bfd.Status{
		// The router receives no faster than that, whatever this node asked for.
		"Up (3 x 300ms)":                         {Session: bfd.Session{MinTx: 50 * time.Millisecond, Multiplier: 3}, State: packet.Up, TxInterval: 300 * time.Millisecond},
		"Down":                                   {State: packet.Down},
		"Down (there is no route to the peer)":   {State: packet.Down, Diag: packet.Expired, Problem: "there is no route to the peer"},
		"Init (" + packet.Expired.String() + ")": {State: packet.Init, Diag: packet.Expired},
	} {
		if got := bfdWords(st); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
