package proxy

import (
	"net/netip"
	"testing"
)

// Without IPv6 in the kernel "[::]:10256" cannot be listened at, and ":10256" can.
func TestListenAt(t *testing.T) {
	for address, want := range map[string]string{
		"[::]:10256": ":10256", "0.0.0.0:10256": "0.0.0.0:10256", "127.0.0.1:1": "127.0.0.1:1", "[fd00::1]:1": "[fd00::1]:1",
	} {
		if got := listenAt(netip.MustParseAddrPort(address)); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
