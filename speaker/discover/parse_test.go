package discover

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// Messages as they came over a link, from the ICMPv6 header on.
const (
	// BIRD 2.0.12, with a prefix, DNS servers and a search list.
	birdAdvertisement = "86000e2e4000000f0000000000000000030440c000015180000038400000000020010db8000000000000000000000000" +
		"190300000000000f20010db80000000000000000000000531f0300000000000f076578616d706c6503636f6d00000000"
	// FRR 8.4.4, with a prefix, its Ethernet address and an MTU.
	frrAdvertisement = "86001162400000060000000000000000030440c000278d0000093a800000000020010db8000000000000000000000000" +
		"010152865cb7450805010000000005dc"
	// Linux 6.18.
	linuxSolicitation = "8500dc21000000000101667e59f8910f"
)

func message(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What real routers and hosts send is taken, and not when it came from beyond the link or has another code.
func TestParse(t *testing.T) {
	local, global := netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name, message string
		hopLimit      int
		from          netip.Addr
		want          bool
	}{
		{"BIRD's", birdAdvertisement, 255, local, true},
		{"FRR's", frrAdvertisement, 255, local, true},
		{"a host's", linuxSolicitation, 255, local, true},
		{"a router's with a long option", frrAdvertisement + "fd20" + strings.Repeat("00", 254), 255, local, true},
		{"a router's with an option that says nothing", frrAdvertisement + "1f01000000000000", 255, local, true},
		{"an option without length", frrAdvertisement + "0100000000000000", 255, local, false},
		{"another message", "8800" + frrAdvertisement[4:], 255, local, false},
		{"of a host without an address", linuxSolicitation, 255, netip.IPv6Unspecified(), true},
		{"routed", frrAdvertisement, 254, local, false},
		{"a router's by another address", frrAdvertisement, 255, global, false},
		{"another code", "8601" + frrAdvertisement[4:], 255, local, false},
		{"cut", frrAdvertisement[:len(frrAdvertisement)-2], 255, local, false},
		{"nothing", "", 255, local, false},
		{"a type", "86", 255, local, false},
	} {
		if got := parse(message(t, tt.message), tt.hopLimit, tt.from); got != 0 != tt.want {
			t.Errorf("%s: taken as %d", tt.name, got)
		}
	}
}

// Whatever comes over a link: what is taken is valid by RFC 4861 section 6.1, and what package ndp can read, whose view of options is
// narrower, is taken.
func FuzzAdvertisement(f *testing.F) {
	local := netip.MustParseAddr("fe80::1")
	own, err := ndp.MarshalMessage(advertisement(&net.Interface{HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}))
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range [][]byte{message(f, birdAdvertisement), message(f, frrAdvertisement), message(f, linuxSolicitation), own} {
		f.Add(m, 255, local.AsSlice())
		f.Add(m[:len(m)-1], 255, local.AsSlice())
		f.Add(m, 64, netip.MustParseAddr("2001:db8::1").AsSlice())
	}
	f.Add(append(message(f, frrAdvertisement)[:16], 1, 0), 255, local.AsSlice()) // an option without length
	f.Fuzz(func(t *testing.T, b []byte, hopLimit int, source []byte) {
		from, _ := netip.AddrFromSlice(source)
		kind := parse(b, hopLimit, from)
		onLink := hopLimit == 255 && len(b) > 1 && b[1] == 0
		m, err := ndp.ParseMessage(b)
		switch {
		case kind == 0 && err == nil && onLink && (m.Type() == ipv6.ICMPTypeRouterAdvertisement && from.IsLinkLocalUnicast() || m.Type() == ipv6.ICMPTypeRouterSolicitation && len(b) >= 8):
			t.Fatalf("not taken: %x from %s", b, from)
		case kind == 0:
			return
		case !onLink || kind != ipv6.ICMPType(b[0]):
			t.Fatalf("taken as %d: %x with hop limit %d", kind, b, hopLimit)
		case kind == ipv6.ICMPTypeRouterSolicitation:
			return
		case kind != ipv6.ICMPTypeRouterAdvertisement || len(b) < 16 || !from.IsLinkLocalUnicast():
			t.Fatalf("taken as %d: %x from %s", kind, b, from)
		}
		var h heard
		h.hear(from, time.Unix(0, 0))
		if r := h.routers(time.Unix(1, 0)); len(r) != 1 || r[0] != from {
			t.Errorf("heard %s: %v", from, r)
		}
	})
}
