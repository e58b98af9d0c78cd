package l2

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/link"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestDuplicates(t *testing.T) {
	d := newDuplicates()
	now := time.Unix(0, 0)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	x, y := plan.MAC{2, 1}, plan.MAC{2, 2}
	saw := func(addr netip.Addr, mac plan.MAC, news, defend bool) {
		t.Helper()
		if n, d := d.saw(addr, mac, "eth0", now); n != news || d != defend {
			t.Errorf("news %v, defend %v; want %v, %v", n, d, news, defend)
		}
	}
	saw(a, x, true, true)
	saw(a, x, false, false)
	now = now.Add(5 * time.Second)
	saw(b, x, true, true) // each address has its own interval
	saw(a, y, true, false)
	now = now.Add(5 * time.Second)
	saw(a, y, false, true)
	if l := d.list(); len(l) != 2 || l[0].MAC != y || !l[0].Since.Equal(time.Unix(5, 0)) || !l[0].Seen.Equal(now) || d.defended() != 3 {
		t.Errorf("%+v, %d defences", l, d.defended())
	}
	ours := func(x netip.Addr) bool { return x == a }
	if !d.prune(now, ours) || d.prune(now, ours) || len(d.list()) != 1 {
		t.Errorf("left: %+v", d.list())
	}
	if now = now.Add(forget); !d.prune(now, ours) || len(d.list()) != 0 {
		t.Errorf("left: %+v", d.list())
	}
}

func TestSiblings(t *testing.T) {
	asked := 0
	table := map[netip.Addr]plan.MAC{netip.MustParseAddr("10.0.0.2"): {2, 2}, netip.MustParseAddr("10.0.0.9"): {2, 9}}
	s := siblings{lookUp: func(_ int, a netip.Addr) (plan.MAC, bool) { asked++; m, ok := table[a]; return m, ok }}
	s.set([]plan.MAC{{2, 1}}, []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")})
	now := time.Unix(0, 0)
	for range 3 {
		for mac, want := range map[plan.MAC]bool{{2, 1}: true, {2, 2}: true, {2, 9}: false} {
			if got := s.has(2, mac, now); got != want {
				t.Errorf("%s is a sibling: %v", mac, got)
			}
		}
	}
	if asked != 3 { // one for the one that is found, two for the one that is not
		t.Errorf("the kernel was asked %d times", asked)
	}
	table[netip.MustParseAddr("10.0.0.3")] = plan.MAC{2, 9}
	if now = now.Add(knownFor); !s.has(2, plan.MAC{2, 9}, now) {
		t.Error("an answer is believed for ever")
	}
}

// A stranger that has the address is found by the probe when the address is fresh, without waiting for its traffic.
func TestProbeFindsDuplicate(t *testing.T) {
	for _, vip := range []netip.Addr{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			_, client, l := lan(t)
			client.Addr("eth0", fmt.Sprintf("%s/%d", vip, vip.BitLen()))
			news := make(chan struct{}, 10)
			s := New(Config{Neighbour: link.Neighbour, Duplicated: func() { news <- struct{}{} }})
			t.Cleanup(s.Close)
			before := time.Now()
			if err := s.Set(t.Context(), []plan.L2{{Addr: vip, Link: l, Fresh: true}}, plan.Neighbours{}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-news:
			case <-time.After(10 * time.Second):
				t.Fatal("the duplicate is not found")
			}
			got := s.Duplicates()
			if len(got) != 1 || got[0].Addr != vip || got[0].MAC.String() != client.MAC("eth0") || got[0].Interface != "eth0" || got[0].Since.Before(before) {
				t.Errorf("%+v", got)
			}
			netlab.Eventually(t, "it is defended", func() bool { return s.Defences() == 1 })
			if err := s.Set(t.Context(), nil, plan.Neighbours{}); err != nil || len(s.Duplicates()) > 0 {
				t.Errorf("%v: after the address was given up: %+v", err, s.Duplicates())
			}
		})
	}
}

// A stranger's announcement is a duplicate, and defended against once; that of another node is not.
func TestAnnouncementOfAnotherStation(t *testing.T) {
	here := netlab.Here(t)
	here.Run("ip link add near type veth peer name far")
	t.Cleanup(func() { _, _ = here.Try("ip link del near") })
	here.Run("ip link set near up")
	here.Run("ip link set far up")
	s := New(Config{Neighbour: link.Neighbour})
	t.Cleanup(s.Close)
	far, conn := linkOf(t, "far"), rawSocket(t, linkOf(t, "near"))
	stranger, member, node := plan.MAC{2, 0, 0, 0, 0, 7}, plan.MAC{2, 0, 0, 0, 0, 8}, plan.MAC{2, 0, 0, 0, 0, 9}
	here.Run("ip neigh replace 10.0.0.9 lladdr " + node.String() + " dev far nud permanent")
	near := plan.Neighbours{MACs: []plan.MAC{member}, Nodes: []netip.Addr{netip.MustParseAddr("10.0.0.9")}}
	if err := s.Set(t.Context(), []plan.L2{{Addr: vip4, Link: far}, {Addr: vip6, Link: far}}, near); err != nil {
		t.Fatal(err)
	}
	netlab.Eventually(t, "the link is up", func() bool { return strings.Contains(here.Run("ip link show near"), "LOWER_UP") })
	announce := func(mac plan.MAC) {
		send(t, conn, packet.AppendGratuitousRequest(nil, mac, vip4))
		send(t, conn, packet.AppendUnsolicited(nil, mac, vip6))
	}
	announce(member)
	announce(node)
	netlab.Eventually(t, "announcements of nodes are known for such", func() bool {
		arp, ndp := s.Stats()
		return arp.Dropped[respond.Sibling] == 2 && ndp.Dropped[respond.Sibling] == 2
	})
	if got := s.Duplicates(); len(got) > 0 {
		t.Errorf("duplicates %+v", got)
	}
	for range 3 {
		announce(stranger)
	}
	netlab.Eventually(t, "those of a stranger are conflicts", func() bool {
		arp, ndp := s.Stats()
		return arp.Dropped[respond.Conflict] == 3 && ndp.Dropped[respond.Conflict] == 3
	})
	got := s.Duplicates()
	if len(got) != 2 || got[0].Addr != vip4 || got[1].Addr != vip6 || got[0].MAC != stranger || got[1].MAC != stranger || s.Defences() != 2 {
		t.Errorf("duplicates %+v, %d defences", got, s.Defences())
	}
}
