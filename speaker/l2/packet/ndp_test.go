package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"
)

// solicitation builds a frame with mdlayher/ndp's codec.
func solicitation(t testing.TB, src, dst, target netip.Addr, options ...ndp.Option) []byte {
	t.Helper()
	msg, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: target, Options: options}, src, dst)
	if err != nil {
		t.Fatal(err)
	}
	b := append(append(append([]byte{}, mac2[:]...), mac1[:]...), 0x86, 0xdd, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(msg)))
	b = append(b, protoICMPv6, 255)
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	return append(b, msg...)
}

// FuzzAdvertisement: what this codec accepts, mdlayher/ndp reads the same way.
func FuzzAdvertisement(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendUnsolicited(nil, mac1, vip6))
	f.Add(AppendUnsolicitedTo(nil, mac1, vip6, mac2, netip.MustParseAddr("fe80::1")))
	f.Add(AppendUnsolicited(nil, mac1, vip6)[:80])
	f.Add(AppendDetection(nil, mac1, vip6))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > etherLen+ipv6Len+4 && len(frame) < 1500 {
			frame = rechecksum(bytes.Clone(frame))
		}
		got, err := ParseAdvertisement(frame)
		if err != nil {
			return
		}
		payload := int(binary.BigEndian.Uint16(frame[etherLen+4:]))
		m, err := ndp.ParseMessage(frame[etherLen+ipv6Len : etherLen+ipv6Len+payload])
		if err != nil {
			return // options that it knows and we have no use for
		}
		na, ok := m.(*ndp.NeighborAdvertisement)
		if !ok || na.TargetAddress != got.Target || na.Override != got.Override || na.Solicited != got.Solicited {
			t.Fatalf("got %+v, mdlayher/ndp %+v", got, m)
		}
		for _, o := range na.Options {
			if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
				if !bytes.Equal(got.MAC[:], lla.Addr) {
					t.Fatalf("target option %v, mdlayher/ndp %v", got.MAC, lla.Addr)
				}
				break
			}
		}
	})
}

func sourceLLA(mac [6]byte) ndp.Option {
	return &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac[:])}
}

// rechecksum makes the ICMPv6 checksum of a changed frame right again.
func rechecksum(frame []byte) []byte {
	ip := frame[etherLen:]
	copy(ip[ipv6Len+2:], []byte{0, 0})
	binary.BigEndian.PutUint16(ip[ipv6Len+2:], checksum(ip[8:40], ip[ipv6Len:]))
	return frame
}

func TestParseSolicitation(t *testing.T) {
	client, any6 := netip.MustParseAddr("fe80::1"), netip.IPv6Unspecified()
	group := SolicitedNode(vip6)
	change := func(at int, to byte) []byte {
		f := solicitation(t, client, group, vip6, sourceLLA(mac1))
		f[at] = to
		return rechecksum(f)
	}
	tests := []struct {
		name  string
		frame []byte
		err   error
	}{
		{"multicast", solicitation(t, client, group, vip6, sourceLLA(mac1)), nil},
		{"unicast", solicitation(t, client, vip6, vip6, sourceLLA(mac1)), nil},
		{"unicast without option", solicitation(t, client, vip6, vip6), nil},
		{"duplicate address detection", solicitation(t, any6, group, vip6), nil},
		{"duplicate address detection with source option", solicitation(t, any6, group, vip6, sourceLLA(mac1)), ErrInvalid},
		{"duplicate address detection by unicast", solicitation(t, any6, vip6, vip6), ErrInvalid},
		{"routed", change(etherLen+7, 254), ErrHopLimit},
		{"advertisement", change(etherLen+ipv6Len, typeAdvertise), ErrNotND},
		{"code", change(etherLen+ipv6Len+1, 1), ErrInvalid},
		{"multicast target", change(etherLen+ipv6Len+8, 0xff), ErrInvalid},
		{"option of length zero", change(etherLen+ipv6Len+nsLen+1, 0), ErrInvalid},
		{"option beyond the end", change(etherLen+ipv6Len+nsLen+1, 2), ErrInvalid},
		{"UDP", change(etherLen+6, 17), ErrNotND},
		{"IPv4", change(etherLen, 0x40), ErrNotND},
		{"payload beyond the end", change(etherLen+5, 40), ErrShort},
		{"cut", solicitation(t, client, group, vip6)[:70], ErrShort},
		{"empty", nil, ErrShort},
		{"checksum", append(solicitation(t, client, group, vip6)[:77], 0xee), ErrChecksum},
	}
	for _, tt := range tests {
		if _, err := ParseSolicitation(tt.frame); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

func TestParseAdvertisement(t *testing.T) {
	sent := Advertisement{EtherDst: mac1, MAC: mac2, Dst: netip.MustParseAddr("fe80::1"), Target: vip6, Solicited: true, Override: true}
	frame := AppendAdvertisement(nil, &sent)
	change := func(at int, to byte) []byte {
		f := bytes.Clone(frame)
		f[at] = to
		return rechecksum(f)
	}
	bare := frame[:etherLen+ipv6Len+naLen]
	bare = bytes.Clone(bare)
	bare[etherLen+5] = naLen
	byHeader := sent
	byHeader.MAC = mac2 // that of the frame
	for _, tt := range []struct {
		name  string
		frame []byte
		want  Advertisement
		err   error
	}{
		{"solicited", frame, sent, nil},
		{"unsolicited", AppendUnsolicited(nil, mac2, vip6), Advertisement{EtherDst: MulticastMAC(AllNodes), MAC: mac2, Dst: AllNodes, Target: vip6, Override: true}, nil},
		{"without option", rechecksum(bare), byHeader, nil},
		{"padded", append(bytes.Clone(frame), 0, 0, 0), sent, nil},
		{"solicitation", solicitation(t, sent.Dst, vip6, vip6), Advertisement{}, ErrNotND},
		{"routed", change(etherLen+7, 64), Advertisement{}, ErrHopLimit},
		{"code", change(etherLen+ipv6Len+1, 1), Advertisement{}, ErrInvalid},
		{"multicast target", change(etherLen+ipv6Len+8, 0xff), Advertisement{}, ErrInvalid},
		{"solicited to a group", change(etherLen+24, 0xff), Advertisement{}, ErrInvalid},
		{"option of length zero", change(etherLen+ipv6Len+naLen+1, 0), Advertisement{}, ErrInvalid},
		{"checksum", append(bytes.Clone(frame[:len(frame)-1]), 0xee), Advertisement{}, ErrChecksum},
		{"cut", frame[:60], Advertisement{}, ErrShort},
		{"empty", nil, Advertisement{}, ErrShort},
	} {
		got, err := ParseAdvertisement(tt.frame)
		if !errors.Is(err, tt.err) || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", tt.name, got, err, tt.want, tt.err)
		}
		if is := IsAdvertisement(tt.frame); tt.err == nil && !is || tt.name == "solicitation" && is || tt.name == "empty" && is {
			t.Errorf("%s: an advertisement: %v", tt.name, is)
		}
	}
}

// A solicitation of duplicate address detection is one that this codec, and any other, takes for it.
func TestAppendDetection(t *testing.T) {
	frame := AppendDetection(nil, mac1, vip6)
	want := solicitation(t, netip.IPv6Unspecified(), SolicitedNode(vip6), vip6)
	copy(want, []byte{0x33, 0x33, 0xff, 0, 0, 0x10})
	if !bytes.Equal(frame, want) {
		t.Errorf("got  % x\nwant % x", frame, want)
	}
	if s, err := ParseSolicitation(frame); err != nil || s.Target != vip6 || !s.Src.IsUnspecified() {
		t.Errorf("read as %+v, %v", s, err)
	}
}

func TestSolicitedNodeIsTheGroupOfTheRFC(t *testing.T) {
	for _, s := range []string{"2001:db8::10", "fe80::1:ff", "2001:db8::abcd:1234"} {
		a := netip.MustParseAddr(s)
		want, err := ndp.SolicitedNodeMulticast(a)
		if got := SolicitedNode(a); err != nil || got != want {
			t.Errorf("%s: %s, want %s, %v", a, got, want, err)
		}
	}
}

// An advertisement is, byte for byte, the one of mdlayher/ndp's codec.
func TestAppendAdvertisement(t *testing.T) {
	for _, a := range []Advertisement{
		{EtherDst: mac1, MAC: mac2, Dst: netip.MustParseAddr("fe80::1"), Target: vip6, Solicited: true, Override: true},
		{EtherDst: MulticastMAC(AllNodes), MAC: mac2, Dst: AllNodes, Target: vip6, Override: true},
	} {
		want, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
			Solicited: a.Solicited, Override: a.Override, TargetAddress: a.Target,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: net.HardwareAddr(a.MAC[:])}},
		}, a.Target, a.Dst)
		if err != nil {
			t.Fatal(err)
		}
		got := AppendAdvertisement(nil, &a)
		if !bytes.Equal(got[etherLen+ipv6Len:], want) {
			t.Errorf("got % x\nwant % x", got[etherLen+ipv6Len:], want)
		}
		if ip := got[etherLen:]; ip[7] != 255 || int(ip[5]) != len(want) || netip.AddrFrom16([16]byte(ip[8:24])) != a.Target {
			t.Errorf("IPv6 header % x", ip[:ipv6Len])
		}
	}
}

// What this codec accepts, mdlayher/ndp reads the same way, and no input makes it read out of bounds.
func FuzzSolicitation(f *testing.F) {
	client := netip.MustParseAddr("fe80::1")
	f.Add([]byte{})
	f.Add(solicitation(f, client, SolicitedNode(vip6), vip6, sourceLLA(mac1)))
	f.Add(solicitation(f, client, vip6, vip6))
	f.Add(solicitation(f, netip.IPv6Unspecified(), SolicitedNode(vip6), vip6))
	f.Add(AppendUnsolicited(nil, mac1, vip6))
	f.Add(solicitation(f, client, vip6, vip6, &ndp.RawOption{Type: 14, Length: 2, Value: make([]byte, 14)}, sourceLLA(mac1)))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > etherLen+ipv6Len+4 && len(frame) < 1500 { // give the fuzzer a way past the checksum
			frame = rechecksum(bytes.Clone(frame))
		}
		got, err := ParseSolicitation(frame)
		if err != nil {
			return
		}
		payload := int(binary.BigEndian.Uint16(frame[etherLen+4:]))
		m, err := ndp.ParseMessage(frame[etherLen+ipv6Len : etherLen+ipv6Len+payload])
		if err != nil {
			return // options that it knows and we have no use for
		}
		ns, ok := m.(*ndp.NeighborSolicitation)
		if !ok || ns.TargetAddress != got.Target {
			t.Fatalf("got %+v, mdlayher/ndp %+v", got, m)
		}
		for _, o := range ns.Options {
			if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Source {
				if !got.HasSourceMAC || !bytes.Equal(got.SourceMAC[:], lla.Addr) {
					t.Fatalf("source option %v, mdlayher/ndp %v", got.SourceMAC, lla.Addr)
				}
				break
			}
		}
	})
}
