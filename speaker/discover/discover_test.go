package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// Which routers an interface has, after advertisements at the given seconds.
func TestHeard(t *testing.T) {
	a, b, c := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b"), netip.MustParseAddr("fe80::c")
	type at struct {
		second int
		router netip.Addr
	}
	for name, tt := range map[string]struct {
		heard []at
		now   int
		want  []netip.Addr
	}{
		"none":                               {nil, 0, nil},
		"one":                                {[]at{{0, a}}, 1, []netip.Addr{a}},
		"one that is silent":                 {[]at{{0, a}}, 3600, []netip.Addr{a}},
		"two from the beginning":             {[]at{{0, b}, {0, a}}, 1, []netip.Addr{a, b}},
		"a second one beside the first":      {[]at{{0, a}, {30, a}, {31, b}, {50, b}}, 60, []netip.Addr{a}},
		"a second one in place of the first": {[]at{{0, a}, {30, b}, {60, b}}, 61, []netip.Addr{b}},
		"the first comes back":               {[]at{{0, a}, {30, b}, {60, b}, {61, a}}, 70, []netip.Addr{b}},
		"two in place of the first":          {[]at{{0, a}, {60, b}, {60, c}}, 61, []netip.Addr{b, c}},
	} {
		t.Run(name, func(t *testing.T) {
			var h heard
			start := time.Unix(0, 0)
			for i, e := range tt.heard {
				now := start.Add(time.Duration(e.second) * time.Second)
				h.hear(e.router, now)
				if i == len(tt.heard)-1 || tt.heard[i+1].second != e.second {
					h.routers(now)
				}
			}
			if got := h.routers(start.Add(time.Duration(tt.now) * time.Second)); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestForgedAdvertisementsTakeNoMemory(t *testing.T) {
	var h heard
	for i := range 1000 {
		h.hear(netip.MustParseAddr(fmt.Sprintf("fe80::%x", i+1)), time.Unix(0, 0))
	}
	if len(h.last) > most {
		t.Errorf("%d routers are remembered", len(h.last))
	}
}

// Two nodes on a link find each other: each takes the other's advertisements for a router's. Neither of them is there from
// the beginning, and the kernel of one forwards, as on a node.
func TestFind(t *testing.T) {
	here, other := netlab.Here(t), netlab.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.Set([]string{"eth0", "eth1"})

	here.Sysctl("ipv6.conf.all.forwarding", 1)
	here.Sysctl("ipv6.conf.default.dad_transmits", 0)
	other.Sysctl("ipv6.conf.default.dad_transmits", 0)
	netlab.Link(here, "eth0", other, "eth0")
	if len(f.Routers()) > 0 {
		t.Errorf("found %v", f.Routers())
	}
	// A second Finder on another interface of this host, bridged by the other host, is the router.
	other.Run("ip link add br0 type bridge")
	other.Run("ip link set br0 up")
	other.Run("ip link set eth0 master br0")
	netlab.Link(here, "eth9", other, "eth9")
	other.Run("ip link set eth9 master br0")
	router := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	go func() { _ = router.Run(ctx) }()
	router.Set([]string{"eth9"})

	want := linkLocal(t, here, "eth9")
	netlab.Eventually(t, "the router is found", func() bool { return slices.Equal(f.Routers()["eth0"], []netip.Addr{want}) })
	netlab.Eventually(t, "the router finds the node", func() bool {
		return slices.Equal(router.Routers()["eth9"], []netip.Addr{linkLocal(t, here, "eth0")})
	})
	f.Set([]string{"eth1"})
	if len(f.Routers()) > 0 {
		t.Errorf("what is not wanted any more is still there: %v", f.Routers())
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
}

func linkLocal(t *testing.T, h *netlab.Host, iface string) netip.Addr {
	t.Helper()
	for _, field := range strings.Fields(h.Run("ip -6 -o addr show dev " + iface + " scope link")) {
		if p, err := netip.ParsePrefix(field); err == nil {
			return p.Addr()
		}
	}
	t.Fatalf("%s has no link-local address", iface)
	return netip.Addr{}
}
