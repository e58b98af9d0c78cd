package l2

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
)

func ownedOf(addrs ...string) respond.Owned {
	out := respond.Owned{}
	for _, a := range addrs {
		out[netip.MustParseAddr(a)] = struct{}{}
	}
	return out
}

// machine runs a filter without what looks at tags of VLANs and packet types: they are not in the bytes, and the kernel test
// has them.
func machine(t *testing.T, p protocol, owned respond.Owned) func(frame []byte) bool {
	t.Helper()
	prog := program(p, owned)
	if len(owned) > 0 {
		prog = prog[len(forUs()):]
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
}

func request(sender, target netip.Addr) []byte {
	return packet.AppendARP(nil, &packet.ARP{Op: packet.Request, Sender: sender, Target: target})
}

func TestARPFilter(t *testing.T) {
	addr := netip.MustParseAddr
	takes := machine(t, arp, ownedOf("192.0.2.10", "192.0.2.12", "192.0.2.20", "198.51.100.1"))
	for _, tt := range []struct {
		sender, target string
		want           bool
	}{
		{"192.0.2.1", "192.0.2.9", false},
		{"192.0.2.1", "192.0.2.10", true},
		{"192.0.2.1", "192.0.2.11", false}, // another node's
		{"192.0.2.1", "192.0.2.20", true},
		{"192.0.2.1", "192.0.2.21", false},
		{"192.0.2.1", "198.51.100.1", true},
		{"192.0.2.20", "192.0.2.20", true}, // another station announces it
		{"192.0.2.20", "192.0.2.1", true},
		{"0.0.0.0", "192.0.2.12", true}, // probe
		{"255.0.0.1", "10.0.0.1", false},
	} {
		if got := takes(request(addr(tt.sender), addr(tt.target))); got != tt.want {
			t.Errorf("sender %s, target %s: %v, want %v", tt.sender, tt.target, got, tt.want)
		}
	}
	if takes(request(addr("192.0.2.1"), addr("192.0.2.10"))[:40]) {
		t.Error("takes a frame that is cut")
	}
	if machine(t, arp, nil)(request(addr("192.0.2.1"), addr("192.0.2.10"))) {
		t.Error("takes something with nothing to take")
	}
}

func TestNDPFilter(t *testing.T) {
	takes := machine(t, ndp, ownedOf("2001:db8::1"))
	for target, want := range map[string]bool{"2001:db8::1": true, "2001:db8::2": false} {
		frame := packet.AppendUnsolicited(nil, [6]byte{2}, netip.MustParseAddr(target))
		if got := takes(frame); got != want {
			t.Errorf("advertisement of %s: %v", target, got)
		}
		frame = packet.AppendDetection(nil, [6]byte{2}, netip.MustParseAddr(target))
		if got := takes(frame); got != want {
			t.Errorf("solicitation of %s: %v", target, got)
		}
		frame[54] = 134
		if takes(frame) {
			t.Errorf("takes a router advertisement")
		}
	}
}

// Whatever the addresses, the filter takes all of theirs and fits the kernel; it is exact while that fits.
func TestFilterOfManyAddresses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int, bits uint32) respond.Owned {
		out := respond.Owned{}
		for len(out) < n {
			x := r.Uint32() >> (32 - bits)
			out[netip.AddrFrom4([4]byte{10, byte(x >> 16), byte(x >> 8), byte(x)})] = struct{}{}
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		owned respond.Owned
		// through is the share of other addresses of the range that may pass, in thousandths.
		bits    uint32
		through int
	}{
		{"one", random(1, 12), 12, 0},
		{"a third of 4096", random(1365, 12), 12, 0},
		{"300 of 10,000: one node's of 32", random(300, 13), 13, 100},
		{"10,000 of 65,536", random(10000, 16), 16, 950},
		{"10,000 of 16,777,216", random(10000, 24), 24, 950},
		{"100 of 16,777,216", random(100, 24), 24, 0},
	} {
		if n := len(program(arp, tt.owned)); n > 1100 {
			t.Errorf("%s: %d instructions", tt.name, n)
		}
		takes := machine(t, arp, tt.owned)
		client := netip.MustParseAddr("192.0.2.1")
		for a := range tt.owned {
			if !takes(request(client, a)) || !takes(request(a, client)) {
				t.Fatalf("%s: does not take %s", tt.name, a)
			}
		}
		passed := 0
		others := random(1000, tt.bits)
		for a := range others {
			if _, ours := tt.owned[a]; !ours && takes(request(client, a)) {
				passed++
			}
		}
		if passed > tt.through {
			t.Errorf("%s: %d of 1000 others pass", tt.name, passed)
		}
	}
}
