package bgp

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/speaker/discover"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

// unnumbered finds the router on an interface and returns the peer that the planner would make of it.
func unnumbered(t *testing.T, iface string) plan.Peer {
	t.Helper()
	f := discover.New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	f.Set([]string{iface})
	go func() { _ = f.Run(t.Context()) }()
	netlab.Eventually(t, "the router is found", func() bool { return len(f.Routers()[iface]) == 1 })
	p := peerOf("tor", "[::1]:179")
	p.Session.Address = netip.AddrPortFrom(f.Routers()[iface][0].WithZone(iface), 179)
	p.Session.ExtendedNextHop = true
	return p
}

func linkLocal(t *testing.T, h *netlab.Host, iface string) string {
	t.Helper()
	for _, field := range strings.Fields(h.Run("ip -6 -o addr show dev " + iface + " scope link")) {
		if p, err := netip.ParsePrefix(field); err == nil {
			return p.Addr().String()
		}
	}
	t.Fatal(iface + " has no link-local address")
	return ""
}

// FRR knows nothing but the interface, as on the ports of a switch: each side finds the other by router advertisements.
func TestFRRUnnumbered(t *testing.T) {
	r := connectedFRR(t)
	r.start(` neighbor eth0 interface remote-as 64512
 address-family ipv4 unicast
  neighbor eth0 activate
 address-family ipv6 unicast
  neighbor eth0 activate
`)
	s := newSpeaker(t)
	p := unnumbered(t, "eth0")
	set(t, s, wanted([]plan.Peer{p}, "192.0.2.1/32", "2001:db8::1/128"))
	established(t, s, "tor")
	us := linkLocal(t, netlab.Here(t), "eth0")
	r.has("192.0.2.1/32 via "+us, "2001:db8::1/128 via "+us)
	if out := r.Run("ip route show 192.0.2.1"); !strings.Contains(out, "via inet6 "+us+" dev eth0") {
		t.Errorf("the router's kernel has %q", out)
	}
	if st := statusOf(s, "tor"); st.PrefixesSent != 2 || !st.IPv4 || !st.IPv6 {
		t.Errorf("status %+v", st)
	}
}

// BIRD accepts whoever is on the link.
func TestBIRDUnnumbered(t *testing.T) {
	here := netlab.Here(t)
	here.Sysctl("ipv6.conf.default.dad_transmits", 0)
	r := connected(t, 7) // Go remembers for a minute which index an interface had that was called eth0
	r.start(`protocol radv { interface "eth0" { min ra interval 3; max ra interval 4; }; }
protocol bgp node {
	local as 64500; neighbor range fe80::/64 as 64512; interface "eth0";
	ipv4 { import all; export none; extended next hop; };
	ipv6 { import all; export none; };
}`)
	s := newSpeaker(t)
	set(t, s, wanted([]plan.Peer{unnumbered(t, "eth7")}, "192.0.2.1/32", "2001:db8::1/128"))
	established(t, s, "tor")
	us := linkLocal(t, here, "eth7")
	r.has("192.0.2.1/32 via "+us, "2001:db8::1/128 via "+us)
}
