package cluster

import (
	"maps"
	"net/netip"
	"testing"
)

func TestSegments(t *testing.T) {
	all := map[netip.Prefix]string{
		netip.MustParsePrefix("10.0.0.0/24"): "eth0", netip.MustParsePrefix("fd00::/64"): "eth0", netip.MustParsePrefix("10.0.1.0/24"): "bond0.7=x",
	}
	text := FormatSegments(all)
	if want := "10.0.0.0/24=eth0 10.0.1.0/24=bond0.7=x fd00::/64=eth0"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	got, err := ParseSegments(text)
	if err != nil || !maps.Equal(got, all) {
		t.Errorf("read back: %v, %v", got, err)
	}
	for _, bad := range []string{"10.0.0.0/24", "10.0.0.0/24=", "10.0.0.1/24=eth0", "=eth0", "x=eth0"} {
		got, err := ParseSegments(bad + " fd00::/64=eth0")
		if err == nil || len(got) != 1 {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
	if got, err := ParseSegments(""); err != nil || len(got) != 0 {
		t.Errorf("nothing: %v, %v", got, err)
	}
}
