package packet

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
)

var (
	mac1 = [6]byte{2, 0, 0, 0, 0, 1}
	mac2 = [6]byte{2, 0, 0, 0, 0, 2}
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8::10")
)

func TestARPRoundTrip(t *testing.T) {
	want := ARP{Dst: Broadcast, Op: Request, SenderMAC: mac1, Sender: netip.MustParseAddr("192.0.2.1"), TargetMAC: mac2, Target: vip4}
	got, err := ParseARP(append(AppendARP(nil, &want), make([]byte, 18)...)) // padded to 60 bytes, as a switch does
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestGratuitous(t *testing.T) {
	request, err := ParseARP(AppendGratuitousRequest(nil, mac1, vip4))
	if want := (ARP{Dst: Broadcast, Op: Request, SenderMAC: mac1, Sender: vip4, Target: vip4}); err != nil || request != want {
		t.Errorf("request %+v, %v", request, err)
	}
	reply, err := ParseARP(AppendGratuitousReply(nil, mac1, vip4))
	if want := (ARP{Dst: Broadcast, Op: Reply, SenderMAC: mac1, Sender: vip4, TargetMAC: mac1, Target: vip4}); err != nil || reply != want {
		t.Errorf("reply %+v, %v", reply, err)
	}
}

func TestToOneNeighbour(t *testing.T) {
	request, err := ParseARP(AppendGratuitousRequestTo(nil, mac1, vip4, mac2))
	if want := (ARP{Dst: mac2, Op: Request, SenderMAC: mac1, Sender: vip4, Target: vip4}); err != nil || request != want {
		t.Errorf("request %+v, %v", request, err)
	}
	probe, err := ParseARP(AppendProbe(nil, mac1, vip4))
	if want := (ARP{Dst: Broadcast, Op: Request, SenderMAC: mac1, Sender: netip.IPv4Unspecified(), Target: vip4}); err != nil || probe != want {
		t.Errorf("probe %+v, %v", probe, err)
	}
}

// What this codec accepts, mdlayher/arp reads the same way; what it writes is what mdlayher/arp writes. mdlayher/arp
// accepts more (other hardware types, address lengths), which an IPv4 over Ethernet speaker must not.
func FuzzARP(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendGratuitousRequest(nil, mac1, vip4))
	f.Add(AppendGratuitousReply(nil, mac1, vip4)[:41])
	f.Add(AppendProbe(nil, mac1, vip4))
	f.Add(AppendARP(nil, &ARP{Dst: mac2, Op: 9, SenderMAC: mac1, Sender: vip4, TargetMAC: mac2, Target: vip4}))
	long := AppendGratuitousRequest(nil, mac1, vip4)
	long[etherLen+4], long[etherLen+5] = 255, 255 // lengths that lie
	f.Add(long)
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := ParseARP(frame)
		if err != nil {
			return
		}
		var eth ethernet.Frame
		var p arp.Packet
		if err := eth.UnmarshalBinary(frame); err != nil {
			t.Fatalf("mdlayher/ethernet refuses the frame: %v", err)
		}
		if err := p.UnmarshalBinary(eth.Payload); err != nil {
			t.Fatalf("mdlayher/arp refuses the packet: %v", err)
		}
		if got.Op != uint16(p.Operation) || got.Sender != p.SenderIP || got.Target != p.TargetIP ||
			!bytes.Equal(got.SenderMAC[:], p.SenderHardwareAddr) || !bytes.Equal(got.TargetMAC[:], p.TargetHardwareAddr) {
			t.Fatalf("got %+v, mdlayher/arp %+v", got, p)
		}
		b, _ := p.MarshalBinary()
		if out := AppendARP(nil, &got); !bytes.Equal(out[etherLen:], b) {
			t.Fatalf("wrote % x, mdlayher/arp % x", out[etherLen:], b)
		}
	})
}
