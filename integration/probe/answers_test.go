package probe

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

func TestAnswerFilters(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.77.0.200"), netip.MustParseAddr("fd77::200")
	arp := make([]byte, 42)
	arp[21] = 2
	copy(arp[28:], v4.AsSlice())
	na := make([]byte, 86)
	na[20], na[icmpOffset] = 58, 136
	copy(na[icmpOffset+8:], v6.AsSlice())
	changed := func(frame []byte, at int) []byte {
		out := slices.Clone(frame)
		out[at] ^= 1
		return out
	}
	for name, tt := range map[string]struct {
		program []bpf.Instruction
		frame   []byte
		passes  bool
	}{
		"ARP reply":               {arpAnswers(v4), arp, true},
		"ARP, another operation":  {arpAnswers(v4), changed(arp, 21), false},
		"ARP, another address":    {arpAnswers(v4), changed(arp, 31), false},
		"ARP, a short frame":      {arpAnswers(v4), arp[:30], false},
		"advertisement":           {ndpAnswers(v6), na, true},
		"IPv6, another protocol":  {ndpAnswers(v6), changed(na, 20), false},
		"ICMPv6, another type":    {ndpAnswers(v6), changed(na, icmpOffset), false},
		"NDP, the address begins": {ndpAnswers(v6), changed(na, icmpOffset+8), false},
		"NDP, the address ends":   {ndpAnswers(v6), changed(na, icmpOffset+23), false},
	} {
		vm, err := bpf.NewVM(tt.program)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vm.Run(tt.frame); err != nil || n > 0 != tt.passes {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}
