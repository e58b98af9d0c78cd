package link

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestMain(m *testing.M) { netlab.Main(m) }

func TestWatcher(t *testing.T) {
	here, other := netlab.Here(t), netlab.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := New(slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()

	find := func(name string) *plan.Interface {
		for _, i := range w.Interfaces() {
			if i.Name == name {
				return &i
			}
		}
		return nil
	}
	netlab.Eventually(t, "the loopback is known, without an address for ARP", func() bool {
		lo := find("lo")
		return lo != nil && lo.MAC == plan.MAC{}
	})
	netlab.Link(here, "eth0", other, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	var before plan.Interface
	netlab.Eventually(t, "the interface, its addresses and its carrier are known", func() bool {
		i := find("eth0")
		if i == nil || !i.Up || i.MAC.String() != here.MAC("eth0") {
			return false
		}
		before = *i
		want := map[netip.Prefix]bool{netip.MustParsePrefix("10.0.0.1/24"): true, netip.MustParsePrefix("fd00::1/64"): true}
		for _, p := range i.Prefixes {
			delete(want, p)
		}
		return len(want) == 0
	})

	other.Run("ip link set eth0 down")
	netlab.Eventually(t, "the lost carrier is seen", func() bool { return !find("eth0").Up })
	other.Run("ip link set eth0 up")
	netlab.Eventually(t, "it counts that the carrier came back", func() bool { i := find("eth0"); return i.Up && i.Ups == before.Ups+1 })

	here.Run("ip addr del 10.0.0.1/24 dev eth0")
	netlab.Eventually(t, "the address is gone", func() bool {
		for _, p := range find("eth0").Prefixes {
			if p.Addr().Is4() {
				return false
			}
		}
		return true
	})
	here.Run("ip link del eth0")
	netlab.Eventually(t, "the interface is gone", func() bool { return find("eth0") == nil })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}
