package l2

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	mdpacket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/link"
	"github.com/seamark-io/seamark/speaker/plan"
)

func TestMain(m *testing.M) { netlab.Main(m) }

var (
	vip4 = netip.MustParseAddr("10.0.0.100")
	vip6 = netip.MustParseAddr("fd00::100")
)

// lan is this host and a client on one link. Kernels of both are Linux as it comes.
func lan(t testing.TB) (here, client *netlab.Host, link plan.Link) {
	here, client = netlab.Here(t), netlab.New(t)
	netlab.Link(here, "eth0", client, "eth0")
	here.Addr("eth0", "10.0.0.1/24")
	here.Addr("eth0", "fd00::1/64")
	client.Addr("eth0", "10.0.0.2/24")
	client.Addr("eth0", "fd00::2/64")
	return here, client, linkOf(t, "eth0")
}

func linkOf(t testing.TB, name string) plan.Link {
	t.Helper()
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Link{Index: ifi.Index, Name: name, MAC: plan.MAC(ifi.HardwareAddr)}
}

func newSpeaker(t testing.TB) *Speaker {
	s := New(Config{Broken: func() { t.Error("a listener broke") }, Neighbour: link.Neighbour})
	t.Cleanup(s.Close)
	return s
}

func set(t testing.TB, s *Speaker, link plan.Link, addrs ...netip.Addr) {
	t.Helper()
	var wanted []plan.L2
	for _, a := range addrs {
		wanted = append(wanted, plan.L2{Addr: a, Link: link})
	}
	if err := s.Set(t.Context(), wanted, plan.Neighbours{}); err != nil {
		t.Fatal(err)
	}
}

// resolve has the host's kernel resolve an address and returns its neighbour entry.
func resolve(h *netlab.Host, a netip.Addr) string {
	_, _ = h.Try(fmt.Sprintf("ping -c 1 -W 1 %s", a))
	return neighbour(h, a)
}

func neighbour(h *netlab.Host, a netip.Addr) string {
	out, _ := h.Try(fmt.Sprintf("ip neigh show %s", a))
	return out
}

func TestKernelResolvesVIPs(t *testing.T) {
	here, client, link := lan(t)
	s := newSpeaker(t)
	for _, vip := range []netip.Addr{vip4, vip6} {
		if got := resolve(client, vip); strings.Contains(got, "lladdr") {
			t.Fatalf("%s is known before it is announced: %s", vip, got)
		}
	}
	set(t, s, link, vip4, vip6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		client.Run("ip neigh flush dev eth0")
		if got := resolve(client, vip); !strings.Contains(got, here.MAC("eth0")) {
			t.Errorf("%s: neighbour entry %q, want %s", vip, got, here.MAC("eth0"))
		}
	}
	// Duplicate address detection by others must find the addresses taken.
	client.Run("ip addr add fd00::100/64 dev eth0")
	netlab.Eventually(t, "duplicate address detection fails", func() bool {
		return strings.Contains(client.Run("ip addr show dev eth0"), "dadfailed")
	})
	client.Run("ip addr del fd00::100/64 dev eth0")
	if out, err := client.Try("arping -0 -c 1 -w 1 -I eth0 10.0.0.100"); err != nil { // from 0.0.0.0: a probe
		t.Errorf("a probe finds the address free: %s", out)
	}

	set(t, s, link)
	client.Run("ip neigh flush dev eth0")
	for _, vip := range []netip.Addr{vip4, vip6} {
		if got := resolve(client, vip); strings.Contains(got, "lladdr") {
			t.Errorf("%s is answered for after it was given up: %s", vip, got)
		}
	}
	if arp, ndp := s.Stats(); arp.Replies == 0 || ndp.Replies == 0 || arp.Gratuitous == 0 || ndp.Gratuitous == 0 {
		t.Errorf("statistics %+v %+v", arp, ndp)
	}
}

// A neighbour entry that points to another node moves to this one with the first announcement, also when it is so young
// that Linux ignores a reply that is not gratuitous by its rules (locktime).
func TestTakingMovesNeighbourEntries(t *testing.T) {
	here, client, link := lan(t)
	other := "02:00:00:00:00:99"
	for _, vip := range []netip.Addr{vip4, vip6} {
		client.Run(fmt.Sprintf("ip neigh replace %s lladdr %s dev eth0 nud reachable", vip, other))
	}
	start := time.Now()
	set(t, newSpeaker(t), link, vip4, vip6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		netlab.Eventually(t, "the entry moves", func() bool { return strings.Contains(neighbour(client, vip), here.MAC("eth0")) })
		if d := time.Since(start); d > 900*time.Millisecond {
			t.Errorf("%s moved after %s: not by the first announcement", vip, d)
		}
	}
}

// Each form of gratuitous ARP alone moves a young entry.
func TestBothGratuitousFormsWork(t *testing.T) {
	here, client, link := lan(t)
	conn := rawSocket(t, link)
	for name, frame := range map[string][]byte{
		"request": packet.AppendGratuitousRequest(nil, link.MAC, vip4),
		"reply":   packet.AppendGratuitousReply(nil, link.MAC, vip4),
	} {
		client.Run(fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:00:99 dev eth0 nud reachable", vip4))
		start := time.Now()
		send(t, conn, frame)
		netlab.Eventually(t, "the entry moves by a "+name, func() bool { return strings.Contains(neighbour(client, vip4), here.MAC("eth0")) })
		if d := time.Since(start); d > 900*time.Millisecond {
			t.Errorf("%s: moved after %s", name, d)
		}
	}
}

// Linux verifies an entry in use by unicast probes; an address that does not answer them is given up within seconds.
func TestUnicastProbesAreAnswered(t *testing.T) {
	_, client, link := lan(t)
	s := newSpeaker(t)
	set(t, s, link, vip4, vip6)
	for _, vip := range []netip.Addr{vip4, vip6} {
		resolve(client, vip)
		arp, ndp := s.Stats()
		client.Run(fmt.Sprintf("ip neigh change %s lladdr %s dev eth0 nud probe", vip, link.MAC))
		netlab.Eventually(t, fmt.Sprintf("%s is confirmed", vip), func() bool { return strings.Contains(neighbour(client, vip), "REACHABLE") })
		arp2, ndp2 := s.Stats()
		if arp2.Replies+ndp2.Replies == arp.Replies+ndp.Replies {
			t.Errorf("%s: confirmed without an answer", vip)
		}
	}
	client.Run("which ndisc6")
	if out, err := client.Try("ndisc6 -q -1 -s fd00::2 fd00::100 eth0"); err != nil || !strings.EqualFold(out, link.MAC.String()) {
		t.Errorf("ndisc6: %q, %v", out, err)
	}
}

func rawSocket(t testing.TB, link plan.Link) *mdpacket.Conn {
	t.Helper()
	conn, err := mdpacket.Listen(&net.Interface{Index: link.Index}, mdpacket.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t testing.TB, conn *mdpacket.Conn, frame []byte) {
	t.Helper()
	if _, err := conn.WriteTo(frame, &mdpacket.Addr{HardwareAddr: frame[:6]}); err != nil {
		t.Fatal(err)
	}
}

// Frames that are cut, lie about their lengths, come from another link or belong to a VLAN are counted or not seen at all,
// and the next request is answered.
func TestMalformedFramesAreSurvived(t *testing.T) {
	here := netlab.Here(t)
	// The speaker sits on the far end of a second link, so that this process can send what it likes on the near end.
	here.Run("ip link add near type veth peer name far")
	t.Cleanup(func() { _, _ = here.Try("ip link del near") })
	here.Run("ip link set near up")
	here.Run("ip link set far up")
	s := newSpeaker(t)
	set(t, s, linkOf(t, "far"), vip4, vip6)
	near := linkOf(t, "near")
	conn := rawSocket(t, near)
	netlab.Eventually(t, "the link is up", func() bool { return strings.Contains(here.Run("ip link show near"), "LOWER_UP") })

	request := packet.AppendARP(nil, &packet.ARP{Dst: packet.Broadcast, Op: packet.Request, SenderMAC: near.MAC, Sender: netip.MustParseAddr("10.0.0.2"), Target: vip4})
	change := func(b []byte, at int, to byte) []byte {
		b = append([]byte{}, b...)
		b[at] = to
		return b
	}
	// The ICMPv6 checksum of an advertisement does not fit the type of a solicitation.
	badNS := change(packet.AppendUnsolicited(nil, near.MAC, vip6), 54, 135)
	tagged := append(append(append([]byte{}, request[:12]...), 0x81, 0, 0, 5), request[12:]...)
	before, beforeNDP := s.Stats()
	for _, frame := range [][]byte{
		change(request, 18, 8), // length of a hardware address
		change(request, 15, 6), // hardware type
		badNS, badNS[:80], tagged,
	} {
		send(t, conn, frame)
	}
	send(t, conn, request)
	netlab.Eventually(t, "the request after them is answered", func() bool {
		arp, _ := s.Stats()
		return arp.Replies > before.Replies
	})
	arp, ndp := s.Stats()
	if got := arp.Dropped[respond.Malformed] - before.Dropped[respond.Malformed]; got != 2 {
		t.Errorf("%d malformed ARP frames counted, want 2", got)
	}
	if got := ndp.Dropped[respond.Malformed] - beforeNDP.Dropped[respond.Malformed]; got != 2 {
		t.Errorf("%d malformed NDP frames counted, want 2", got)
	}
	if got := arp.Replies - before.Replies; got != 1 {
		t.Errorf("%d answers, want 1: the frame of a VLAN is not ours", got)
	}
}

// A link that goes down and comes up is served by the same sockets; as another plan.Link it is announced anew.
func TestInterfaceFlap(t *testing.T) {
	here, client, link := lan(t)
	s := newSpeaker(t)
	set(t, s, link, vip4, vip6)
	here.Run("ip link set eth0 down")
	here.Run("ip link set eth0 up")
	here.Addr("eth0", "fd00::1/64") // the kernel drops IPv6 addresses of an interface that goes down
	check := func() {
		t.Helper()
		for _, vip := range []netip.Addr{vip4, vip6} {
			netlab.Eventually(t, fmt.Sprintf("%s is resolved", vip), func() bool { return strings.Contains(resolve(client, vip), link.MAC.String()) })
		}
	}
	check()
	client.Run(fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:00:99 dev eth0 nud reachable", vip4))
	link.Ups++
	set(t, s, link, vip4, vip6)
	netlab.Eventually(t, "it is announced anew", func() bool { return strings.Contains(neighbour(client, vip4), link.MAC.String()) })
	check()

	here.Run("ip link del eth0")
	err := s.Set(t.Context(), []plan.L2{{Addr: vip4, Link: plan.Link{Index: 4000, Name: "gone", MAC: link.MAC}}}, plan.Neighbours{})
	if err == nil || !strings.Contains(err.Error(), "ARP on gone") {
		t.Errorf("an interface that is gone: %v", err)
	}
}

// Setting the same again opens, announces and joins nothing.
func TestSetIsIdempotent(t *testing.T) {
	_, _, link := lan(t)
	s := newSpeaker(t)
	set(t, s, link, vip4, vip6)
	netlab.Eventually(t, "the first announcements are sent", func() bool { arp, ndp := s.Stats(); return arp.Gratuitous == 2 && ndp.Gratuitous == 1 })
	files := openFiles(t)
	for range 5 {
		set(t, s, link, vip4, vip6)
	}
	time.Sleep(100 * time.Millisecond)
	if arp, ndp := s.Stats(); arp.Gratuitous > 4 || ndp.Gratuitous > 2 { // with the repeats after a second, at worst
		t.Errorf("announced again: %+v %+v", arp, ndp)
	}
	if got := openFiles(t); got != files {
		t.Errorf("%d open files, %d before", got, files)
	}
	s.Close()
	if got := openFiles(t); got >= files {
		t.Errorf("%d open files after Close, %d before", got, files)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// More groups than one socket can hold are joined on one interface, and left again.
func TestManyGroups(t *testing.T) {
	here, _, link := lan(t)
	const n = 10000
	owned := respond.Owned{}
	theirs := map[string]bool{} // the groups of owned; the host joins some for its own addresses, at times of its own
	for a := vip6; len(owned) < n; a = a.Next() {
		owned[a] = struct{}{}
		theirs[packet.SolicitedNode(a).String()] = true
	}
	memberships := func() int {
		count := 0
		for _, field := range strings.Fields(here.Run("ip -6 maddr show dev eth0")) {
			if theirs[field] {
				count++
			}
		}
		return count
	}
	g := newGroups(link.Index)
	defer g.close()
	start := time.Now()
	if err := g.set(t.Context(), owned); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d groups joined in %s", n, time.Since(start))
	if got := memberships(); got != n || len(g.sockets) < 2 {
		t.Errorf("%d groups on %d sockets, want %d on several", got, len(g.sockets), n)
	}
	before := len(g.sockets)
	if err := g.set(t.Context(), nil); err != nil || memberships() != 0 {
		t.Errorf("%d groups are left, %v", memberships(), err)
	}
	if err := g.set(t.Context(), owned); err != nil || len(g.sockets) > before {
		t.Errorf("again: %d sockets, %v", len(g.sockets), err)
	}
}

func TestGroupsThatCannotBeJoined(t *testing.T) {
	netlab.Require(t)
	g := newGroups(4000)
	defer g.close()
	err := g.set(t.Context(), respond.Owned{vip6: {}})
	if err == nil || !strings.Contains(err.Error(), "join multicast group ff02::1:ff00:100 of fd00::100 (0 of 1 joined)") {
		t.Errorf("error %v", err)
	}
}

// Groups that cannot be joined are told by the Sets that follow, and are joined as soon as that is possible.
func TestJoinerTriesAgain(t *testing.T) {
	netlab.Require(t)
	failures := make(chan struct{}, 10)
	j := newJoiner(4000, func() { failures <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { j.run(ctx); close(ended) }()
	if err := j.set(respond.Owned{vip6: {}}); err != nil {
		t.Error(err)
	}
	<-failures
	for range 3 {
		if err := j.set(respond.Owned{vip6: {}}); err == nil {
			t.Error("no error")
		}
	}
	if err := j.set(nil); err == nil { // that of the last time
		t.Error("no error")
	}
	netlab.Eventually(t, "there is nothing to join any more", func() bool { return j.set(nil) == nil })
	cancel()
	<-ended
	if len(failures) > 0 {
		t.Error("a failure is told twice")
	}
}
