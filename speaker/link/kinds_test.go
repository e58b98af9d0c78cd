package link

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

func watch(t *testing.T) func(name string) plan.Interface {
	w := New(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { _ = w.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return func(name string) plan.Interface {
		for _, i := range w.Interfaces() {
			if i.Name == name {
				return i
			}
		}
		return plan.Interface{}
	}
}

func has(i plan.Interface, prefix string) bool {
	return slices.Contains(i.Prefixes, netip.MustParsePrefix(prefix))
}

// An interface on top of another, such as that of a VLAN, is followed as any other: it appears, takes addresses, loses its
// carrier with the interface that it is on, and goes. Which kinds there are depends on the kernel.
func TestStackedInterfaces(t *testing.T) {
	for _, kind := range []string{"vlan id 7", "macvlan mode bridge"} {
		t.Run(strings.Fields(kind)[0], func(t *testing.T) {
			here, other := netlab.Here(t), netlab.New(t)
			find := watch(t)
			netlab.Link(here, "eth0", other, "eth0")
			if out, err := here.Try("ip link add link eth0 name up0 type " + kind); err != nil {
				if strings.Contains(out, "not supported") || strings.Contains(out, "Unknown device type") {
					t.Skipf("this kernel has no %s: %s", kind, out)
				}
				t.Fatal(out)
			}
			here.Run("ip link set up0 up")
			here.Addr("up0", "10.7.0.1/24")
			netlab.Eventually(t, "the interface is known", func() bool {
				i := find("up0")
				return i.Up && has(i, "10.7.0.1/24") && i.MAC.String() == here.MAC("up0")
			})
			before := find("up0")
			other.Run("ip link set eth0 down")
			netlab.Eventually(t, "its carrier is lost", func() bool { return !find("up0").Up })
			other.Run("ip link set eth0 up")
			netlab.Eventually(t, "its carrier is back", func() bool { i := find("up0"); return i.Up && i.Ups == before.Ups+1 })
			here.Run("ip link del up0")
			netlab.Eventually(t, "it has gone", func() bool { return find("up0").Index == 0 })
		})
	}
}

// Addresses that move to a bridge when their interface becomes its port are found there. (A bond works alike: the kernel tells
// of its carrier and its address as of any other interface. The kernel of the test machines has no bonding.)
func TestBridge(t *testing.T) {
	here, other := netlab.Here(t), netlab.New(t)
	find := watch(t)
	netlab.Link(here, "eth0", other, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	netlab.Eventually(t, "the interface is known", func() bool { return has(find("eth0"), "10.0.0.1/24") })
	here.Run("ip link add br0 type bridge")
	t.Cleanup(func() { _, _ = here.Try("ip link del br0") })
	here.Run("ip link set br0 up")
	here.Run("ip link set eth0 master br0")
	here.Run("ip addr del 10.0.0.1/24 dev eth0")
	here.Addr("br0", "10.0.0.1/24")
	netlab.Eventually(t, "the bridge has the address and a carrier", func() bool {
		i := find("br0")
		return i.Up && has(i, "10.0.0.1/24") && !has(find("eth0"), "10.0.0.1/24") && i.MAC.String() == here.MAC("br0")
	})
	other.Run("ip link set eth0 down")
	netlab.Eventually(t, "the bridge loses its carrier with its only port", func() bool { return !find("br0").Up })
	ups := find("br0").Ups
	other.Run("ip link set eth0 up")
	netlab.Eventually(t, "the bridge comes back", func() bool { i := find("br0"); return i.Up && i.Ups == ups+1 })
	here.Run("ip link set eth0 nomaster")
	netlab.Eventually(t, "a port that left is still followed", func() bool { return !find("br0").Up })
}

// A new name or Ethernet address makes another plan.Link, so that what is announced there is announced anew.
func TestRenameAndNewMAC(t *testing.T) {
	here, other := netlab.Here(t), netlab.New(t)
	find := watch(t)
	netlab.Link(here, "eth0", other, "eth0")
	t.Cleanup(func() { _, _ = here.Try("ip link del lan0") })
	here.Addr("eth0", "10.0.0.1/24")
	netlab.Eventually(t, "the interface is known", func() bool { i := find("eth0"); return i.Up && has(i, "10.0.0.1/24") })
	before := find("eth0")
	here.Run("ip link set eth0 address 02:00:00:00:00:42")
	netlab.Eventually(t, "the address changes", func() bool { return find("eth0").MAC == plan.MAC{2, 0, 0, 0, 0, 0x42} })
	if now := find("eth0"); now.Index != before.Index || now.Link == before.Link {
		t.Errorf("%+v, before %+v", now, before)
	}
	here.Run("ip link set eth0 down") // older kernels rename only what is down
	here.Run("ip link set eth0 name lan0")
	here.Run("ip link set lan0 up")
	netlab.Eventually(t, "the name changes", func() bool {
		i := find("lan0")
		return i.Up && i.Index == before.Index && has(i, "10.0.0.1/24") && find("eth0").Index == 0
	})
	here.Addr("lan0", "10.1.0.1/16")
	netlab.Eventually(t, "a further address is known", func() bool { return has(find("lan0"), "10.1.0.1/16") })
}

func TestNeighbour(t *testing.T) {
	here, other := netlab.Here(t), netlab.New(t)
	find := watch(t)
	netlab.Link(here, "eth0", other, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	netlab.Eventually(t, "the interface is known", func() bool { return find("eth0").Up })
	index := find("eth0").Index
	here.Run("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud reachable")
	here.Run("ip neigh replace fd00::2 lladdr 02:00:00:00:00:03 dev eth0 nud stale")
	here.Run("ip neigh replace 10.0.0.3 lladdr 02:00:00:00:00:04 dev eth0 nud failed")
	for a, want := range map[string]plan.MAC{"10.0.0.2": {2, 0, 0, 0, 0, 2}, "fd00::2": {2, 0, 0, 0, 0, 3}, "10.0.0.3": {}, "10.0.0.4": {}, "fd00::4": {}} {
		mac, ok := Neighbour(index, netip.MustParseAddr(a))
		if mac != want || ok != (want != plan.MAC{}) {
			t.Errorf("%s is at %s (%v), want %s", a, mac, ok, want)
		}
	}
	if _, ok := Neighbour(index+1000, netip.MustParseAddr("10.0.0.2")); ok {
		t.Error("found on an interface that does not exist")
	}
}
