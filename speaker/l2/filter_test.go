package l2

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/seamark-io/seamark/speaker/l2/packet"
)

// The filter keeps out what is not about the range of our addresses, and nothing that is. (Tags of VLANs and packet types
// are not in the bytes: the kernel test has them.)
func TestARPFilter(t *testing.T) {
	addr := netip.MustParseAddr
	prog := append([]bpf.Instruction{}, arpFilter(addr("192.0.2.10"), addr("192.0.2.20"))...)
	vm, err := bpf.NewVM(append([]bpf.Instruction{}, prog[5:]...)) // without the extensions, which the VM has not
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sender, target string
		want           bool
	}{
		{"192.0.2.1", "192.0.2.9", false},
		{"192.0.2.1", "192.0.2.10", true},
		{"192.0.2.1", "192.0.2.20", true},
		{"192.0.2.1", "192.0.2.21", false},
		{"192.0.2.15", "192.0.2.15", true}, // another station announces it
		{"192.0.2.20", "192.0.2.1", true},
		{"0.0.0.0", "192.0.2.12", true}, // probe
		{"255.0.0.1", "10.0.0.1", false},
	} {
		n, err := vm.Run(packet.AppendARP(nil, &packet.ARP{Op: packet.Request, Sender: addr(tt.sender), Target: addr(tt.target)}))
		if err != nil || (n > 0) != tt.want {
			t.Errorf("sender %s, target %s: %v, %v; want %v", tt.sender, tt.target, n > 0, err, tt.want)
		}
	}
}

func TestNDPFilter(t *testing.T) {
	vm, err := bpf.NewVM(append([]bpf.Instruction{}, ndpFilter()[5:]...))
	if err != nil {
		t.Fatal(err)
	}
	frame := packet.AppendUnsolicited(nil, [6]byte{2}, netip.MustParseAddr("2001:db8::1"))
	if n, _ := vm.Run(frame); n > 0 {
		t.Error("takes an advertisement")
	}
	frame[54] = 135
	if n, _ := vm.Run(frame); n == 0 {
		t.Error("does not take a solicitation")
	}
}
