package bfd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

// cmsg is one control message.
func cmsg(level, kind int32, data ...byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(kind))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func TestReadControl(t *testing.T) {
	dst := netip.MustParseAddr("10.0.0.1")
	dst6 := netip.MustParseAddr("fd00::1")
	pktinfo := slices.Concat(u32(7), []byte{10, 0, 0, 9}, dst.AsSlice())
	pktinfo6 := slices.Concat(dst6.AsSlice(), u32(7))
	for _, tt := range []struct {
		name string
		b    []byte
		want datagram
	}{
		{"nothing", nil, datagram{ttl: -1}},
		{"IPv4", slices.Concat(cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo...), cmsg(unix.IPPROTO_IP, unix.IP_TTL, u32(255)...)), datagram{ttl: 255, ifindex: 7, dst: dst}},
		{"IPv6", slices.Concat(cmsg(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, u32(64)...), cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6...)), datagram{ttl: 64, ifindex: 7, dst: dst6}},
		{"others are passed over", slices.Concat(cmsg(unix.SOL_SOCKET, unix.SO_TIMESTAMP, u32(1)...), cmsg(unix.IPPROTO_IP, unix.IP_TTL, u32(255)...)), datagram{ttl: 255}},
		{"short TTL", cmsg(unix.IPPROTO_IP, unix.IP_TTL, 255), datagram{ttl: -1}},
		{"short pktinfo", cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo[:8]...), datagram{ttl: -1}},
	} {
		got := datagram{ttl: -1}
		got.readControl(tt.b)
		if got.ttl != tt.want.ttl || got.ifindex != tt.want.ifindex || got.dst != tt.want.dst {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// sendFrom sends a UDP payload from a host to the BFD port of an address.
func sendFrom(t *testing.T, h *netlab.Host, to string, payload []byte) {
	t.Helper()
	cmd := h.Command("bash -c")
	cmd.Args = append(cmd.Args, fmt.Sprintf("cat >/dev/udp/%s/%d", to, packet.Port)) // which writes all at once, as printf does not
	cmd.Stdin = bytes.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send to %s: %v %s", to, err, out)
	}
}

// What the kernel says of a packet decides on it: hop limit, source, interface.
func TestForgedPackets(t *testing.T) {
	l, r, s := begin(t, newBird)
	// A second link, whose neighbour has the router's link-local address.
	other := netlab.New(t)
	netlab.Link(l.here, "eth1", other, "eth0")
	l.here.Addr("eth1", "10.1.0.1/24")
	l.here.Addr("eth1", "fd00:1::1/64")
	other.Addr("eth0", "10.1.0.2/24")
	other.Addr("eth0", "fd00:1::2/64")
	other.Addr("eth0", "fe80::fe/64")
	l.here.Addr("eth1", "fe80::1/64")

	r.start(params{tx: 200 * ms, rx: 200 * ms, mult: 10})
	set(t, s, sessions(200*ms, 200*ms, 10)...)
	all(t, "all are up", s, r, isUp, func(v view) bool { return v.up })
	before := s.Status()
	names := func(i int) []byte { // Down, to the session
		return packet.Append(nil, &packet.Control{State: packet.Down, Multiplier: 3, MyDiscriminator: 666, YourDiscriminator: before[i].Discriminator, DesiredMinTx: ms, RequiredMinRx: ms})
	}
	first := packet.Append(nil, &packet.Control{State: packet.Down, Multiplier: 3, MyDiscriminator: 666, DesiredMinTx: ms, RequiredMinRx: ms})
	step := func(what string, from *netlab.Host, to string, payload []byte, want packet.Verdict) {
		t.Helper()
		n := s.Stats().Dropped[want]
		sendFrom(t, from, to, payload)
		netlab.Eventually(t, what+" is counted as "+want.String(), func() bool { return s.Stats().Dropped[want] == n+1 })
	}
	// The hop limit of a host's ordinary packets is 64.
	step("a packet from afar", l.router, "10.0.0.1", names(0), packet.Routed)
	step("a packet from afar", l.router, "fd00::1", names(1), packet.Routed)
	step("a packet from afar", l.router, "fe80::1%eth0", names(2), packet.Routed)
	other.Sysctl("ipv4.ip_default_ttl", 255)
	other.Sysctl("ipv6.conf.eth0.hop_limit", 255)
	step("a stranger", other, "10.1.0.1", first, packet.UnknownPeer)
	step("a stranger", other, "fd00:1::1", first, packet.UnknownPeer)
	step("a stranger with a session's number", other, "10.1.0.1", names(0), packet.WrongSource)
	step("a stranger with a session's number", other, "fd00:1::1", names(1), packet.WrongSource)
	step("the same address on another link", other, "fe80::1%eth0", first, packet.WrongInterface)
	step("the same address on another link", other, "fe80::1%eth0", names(2), packet.WrongInterface)
	step("garbage", other, "10.1.0.1", []byte("GET / HTTP/1.1\r\n"), packet.BadVersion)
	for i, st := range s.Status() {
		if st.State != packet.Up || st.Since != before[i].Since || st.RemoteDiscriminator != before[i].RemoteDiscriminator {
			t.Errorf("%+v", st)
		}
	}
}

// Each session sends from a port of its own in the range of RFC 5881 section 4; nothing is left open after Close.
func TestSockets(t *testing.T) {
	l := newLAN(t)
	s := New()
	defer s.Close()
	set(t, s, sessions(50*ms, 50*ms, 3)...)
	open := strings.Split(l.here.Run("ss -Huan"), "\n")
	ports := map[int]bool{}
	listening := 0
	for _, line := range open {
		f := strings.Fields(line)
		at := netip.MustParseAddrPort(strings.ReplaceAll(strings.Replace(f[3], "*", "[::]", 1), "%eth0", ""))
		if at.Port() == packet.Port {
			listening++
			continue
		}
		if ports[int(at.Port())] = true; at.Port() < firstPort || !strings.HasSuffix(f[4], ":"+strconv.Itoa(packet.Port)) {
			t.Errorf("unexpected socket %s", line)
		}
	}
	if len(ports) != 3 || listening != 2 {
		t.Errorf("%d ports, %d listening:\n%s", len(ports), listening, strings.Join(open, "\n"))
	}

	second := New()
	if err := second.Set(t.Context(), sessions(50*ms, 50*ms, 3)); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "does another program on this host speak BFD?") {
		t.Errorf("a second speaker: %v", err)
	}
	second.Close()
	set(t, s, sessions(50*ms, 50*ms, 3)[1:]...)
	if out := l.here.Run("ss -Huan4"); strings.Contains(out, ":3784 ") && strings.Contains(out, "0.0.0.0:3784") {
		t.Errorf("the port of a family without sessions is open:\n%s", out)
	}
	s.Close()
	if out := l.here.Run("ss -Huan"); out != "" {
		t.Errorf("left open:\n%s", out)
	}
}

// Interfaces and addresses come and go; a session that could not send is there again with them.
func TestInterfaceComesBack(t *testing.T) {
	l, r, s := begin(t, newBird)
	link := sessions(100*ms, 100*ms, 3)
	l.here.Run("ip link set eth0 name eth9")
	set(t, s, link[2])
	if st := s.Status()[0]; st.Problem != "there is no such interface" {
		t.Errorf("%q", st.Problem)
	}
	l.here.Run("ip link set eth9 name eth0") // down and up, which takes the addresses
	for _, prefix := range []string{"fd00::1/64", "fe80::1/64"} {
		_, _ = l.here.Try("ip addr add " + prefix + " dev eth0 nodad")
	}
	r.start(params{tx: 100 * ms, rx: 100 * ms, mult: 3})
	netlab.Eventually(t, "it is up", func() bool { return isUp(&s.Status()[0]) })

	l.here.Run("ip addr del fe80::1/64 dev eth0")
	netlab.Eventually(t, "the address is missed", func() bool { return !isUp(&s.Status()[0]) })
	l.here.Run("ip addr add fe80::1/64 dev eth0 nodad")
	netlab.Eventually(t, "it is up again", func() bool { st := s.Status()[0]; return isUp(&st) && st.Problem == "" })
}

func FuzzReadControl(f *testing.F) {
	f.Add([]byte{})
	f.Add(cmsg(unix.IPPROTO_IP, unix.IP_TTL, u32(255)...))
	f.Add(cmsg(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, make([]byte, 20)...))
	f.Add(cmsg(unix.IPPROTO_IP, unix.IP_PKTINFO, make([]byte, 12)...)[:20])
	f.Fuzz(func(_ *testing.T, b []byte) {
		d := datagram{ttl: -1}
		d.readControl(b)
	})
}
