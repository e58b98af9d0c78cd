package respond

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"

	"github.com/seamark-io/seamark/speaker/l2/packet"
)

var (
	mine   = [6]byte{2, 0, 0, 0, 0, 1}
	theirs = [6]byte{2, 0, 0, 0, 0, 2}
	client = netip.MustParseAddr("192.0.2.1")
	vip    = netip.MustParseAddr("192.0.2.10")
	other  = netip.MustParseAddr("192.0.2.11")
	owned  = Owned{vip: {}, vip6: {}}

	client6 = netip.MustParseAddr("fe80::1")
	vip6    = netip.MustParseAddr("2001:db8::10")
	other6  = netip.MustParseAddr("2001:db8::11")
)

func TestARP(t *testing.T) {
	request := packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: theirs, Sender: client, Target: vip}
	with := func(change func(a *packet.ARP)) []byte {
		a := request
		change(&a)
		return packet.AppendARP(nil, &a)
	}
	answer := packet.ARP{Dst: theirs, Op: packet.Reply, SenderMAC: mine, Sender: vip, TargetMAC: theirs, Target: client}
	toProbe := answer
	toProbe.Target = netip.IPv4Unspecified()
	tests := []struct {
		name    string
		frame   []byte
		verdict Verdict
		answer  packet.ARP
	}{
		{"request", with(func(*packet.ARP) {}), Answer, answer},
		{"unicast request (Linux probing a stale entry)", with(func(a *packet.ARP) { a.Dst = mine; a.TargetMAC = mine }), Answer, answer},
		{"probe", with(func(a *packet.ARP) { a.Sender = netip.IPv4Unspecified() }), Answer, toProbe},
		{"another address", with(func(a *packet.ARP) { a.Target = other }), NotOwned, packet.ARP{}},
		{"reply", with(func(a *packet.ARP) { a.Op = packet.Reply }), NotRequest, packet.ARP{}},
		{"own announcement", packet.AppendGratuitousRequest(nil, mine, vip), Echo, packet.ARP{}},
		{"announcement by another station", packet.AppendGratuitousRequest(nil, theirs, vip), Conflict, packet.ARP{}},
		{"reply by another station", packet.AppendGratuitousReply(nil, theirs, vip), Conflict, packet.ARP{}},
		{"request from our address", with(func(a *packet.ARP) { a.Sender = vip; a.Target = client }), Conflict, packet.ARP{}},
		{"cut", with(func(*packet.ARP) {})[:30], Malformed, packet.ARP{}},
		{"empty", nil, Malformed, packet.ARP{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, d := ARP(tt.frame, owned, mine, nil)
			verdict := d.Verdict
			if (verdict == Answer || verdict == Conflict) != (d.Addr == vip) || (verdict == Conflict) != (d.MAC == theirs) {
				t.Errorf("decision %+v", d)
			}
			if verdict != tt.verdict {
				t.Fatalf("verdict %s, want %s", verdict, tt.verdict)
			}
			if verdict != Answer {
				if len(out) > 0 {
					t.Errorf("%s with a frame: % x", verdict, out)
				}
				return
			}
			if got, err := packet.ParseARP(out); err != nil || got != tt.answer {
				t.Errorf("answer %+v, %v\nwant   %+v", got, err, tt.answer)
			}
		})
	}
}

// solicit builds a frame from theirs with mdlayher/ndp's codec.
func solicit(tb testing.TB, src, dst, target netip.Addr, lla bool) []byte {
	tb.Helper()
	ns := &ndp.NeighborSolicitation{TargetAddress: target}
	if lla {
		ns.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(theirs[:])}}
	}
	msg, err := ndp.MarshalMessageChecksum(ns, src, dst)
	if err != nil {
		tb.Fatal(err)
	}
	b := append(append(append([]byte{}, mine[:]...), theirs[:]...), 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(msg)))
	b = append(b, 58, 255)
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	return append(b, msg...)
}

func TestNDP(t *testing.T) {
	group := packet.SolicitedNode(vip6)
	routed := solicit(t, client6, vip6, vip6, true)
	routed[14+7] = 64
	own := solicit(t, client6, group, vip6, true)
	copy(own[6:12], mine[:])
	toClient := &packet.Advertisement{EtherDst: theirs, MAC: mine, Dst: client6, Target: vip6, Solicited: true, Override: true}
	toAll := &packet.Advertisement{EtherDst: [6]byte{0x33, 0x33, 0, 0, 0, 1}, MAC: mine, Dst: packet.AllNodes, Target: vip6, Override: true}
	tests := []struct {
		name    string
		frame   []byte
		verdict Verdict
		answer  *packet.Advertisement
	}{
		{"multicast", solicit(t, client6, group, vip6, true), Answer, toClient},
		{"unicast reachability probe", solicit(t, client6, vip6, vip6, true), Answer, toClient},
		{"unicast reachability probe without link-layer address", solicit(t, client6, vip6, vip6, false), Answer, toClient},
		{"duplicate address detection", solicit(t, netip.IPv6Unspecified(), group, vip6, false), Answer, toAll},
		{"another address", solicit(t, client6, packet.SolicitedNode(other6), other6, true), NotOwned, nil},
		{"from another link", routed, Routed, nil},
		{"own", own, Echo, nil},
		{"solicitation from our address", solicit(t, vip6, packet.SolicitedNode(other6), other6, true), Conflict, nil},
		{"advertisement by another station", packet.AppendUnsolicited(nil, theirs, vip6), Conflict, nil},
		{"answer to us by another station", packet.AppendUnsolicitedTo(nil, theirs, vip6, mine, client6), Conflict, nil},
		{"own advertisement", packet.AppendUnsolicited(nil, mine, vip6), Echo, nil},
		{"advertisement of another address", packet.AppendUnsolicited(nil, theirs, other6), NotRequest, nil},
		{"advertisement that is cut", packet.AppendUnsolicited(nil, theirs, vip6)[:60], Malformed, nil},
		{"cut", solicit(t, client6, group, vip6, true)[:60], Malformed, nil},
		{"empty", nil, Malformed, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, d := NDP(tt.frame, owned, mine, nil)
			verdict := d.Verdict
			if (verdict == Answer || verdict == Conflict) != (d.Addr == vip6) || (verdict == Conflict) != (d.MAC == theirs) {
				t.Errorf("decision %+v", d)
			}
			if verdict != tt.verdict {
				t.Fatalf("verdict %s, want %s", verdict, tt.verdict)
			}
			var want []byte
			if tt.answer != nil {
				want = packet.AppendAdvertisement(nil, tt.answer)
			}
			if !bytes.Equal(out, want) {
				t.Errorf("answer % x\nwant   % x", out, want)
			}
		})
	}
}

// No frame makes a responder answer for an address that it does not own.
func FuzzRespond(f *testing.F) {
	f.Add(packet.AppendGratuitousRequest(nil, theirs, vip))
	f.Add(packet.AppendARP(nil, &packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: theirs, Sender: client, Target: vip}))
	f.Add(solicit(f, client6, vip6, vip6, true))
	f.Add(solicit(f, client6, vip6, other6, true))
	f.Add(packet.AppendUnsolicited(nil, theirs, vip6))
	f.Add(packet.AppendProbe(nil, theirs, vip))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if out, v := ARP(frame, owned, mine, nil); (v.Verdict == Answer) != (len(out) > 0) || v.Verdict == Answer && [4]byte(out[28:32]) != vip.As4() {
			t.Errorf("ARP: %+v % x", v, out)
		}
		if out, v := NDP(frame, owned, mine, nil); (v.Verdict == Answer) != (len(out) > 0) || v.Verdict == Answer && [16]byte(out[62:78]) != vip6.As16() {
			t.Errorf("NDP: %+v % x", v, out)
		}
	})
}

func owned10000(first netip.Addr) Owned {
	o := make(Owned, 10000)
	for a := first; len(o) < 10000; a = a.Next() {
		o[a] = struct{}{}
	}
	return o
}

func BenchmarkARP_10000_VIPs(b *testing.B) {
	owned := owned10000(netip.MustParseAddr("10.0.0.0"))
	frame := packet.AppendARP(nil, &packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: theirs, Sender: client, Target: netip.MustParseAddr("10.0.9.9")})
	benchmark(b, func(buf []byte) ([]byte, Decision) { return ARP(frame, owned, mine, buf) })
}

func BenchmarkNDP_10000_VIPs(b *testing.B) {
	target := netip.MustParseAddr("2001:db8::999")
	owned := owned10000(netip.MustParseAddr("2001:db8::"))
	frame := solicit(b, client6, packet.SolicitedNode(target), target, true)
	benchmark(b, func(buf []byte) ([]byte, Decision) { return NDP(frame, owned, mine, buf) })
}

func benchmark(b *testing.B, respond func(buf []byte) ([]byte, Decision)) {
	buf := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		if _, v := respond(buf); v.Verdict != Answer {
			b.Fatal(v)
		}
	}
}

// A request is decided on without garbage, however many arrive.
func TestNoAllocations(t *testing.T) {
	buf := make([]byte, 0, 128)
	arp := packet.AppendARP(nil, &packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: theirs, Sender: client, Target: vip})
	ns := solicit(t, client6, vip6, vip6, true)
	if n := testing.AllocsPerRun(100, func() { ARP(arp, owned, mine, buf); NDP(ns, owned, mine, buf) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
