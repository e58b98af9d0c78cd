package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// newDriver returns a driver in a network namespace of its own.
func newDriver(t testing.TB, h *nstest.Host) *Driver {
	t.Helper()
	var d *Driver
	var err error
	h.Do(func() { d, err = New() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

const (
	msgNew     = 0 // IPCTNL_MSG_CT_NEW
	ctaTimeout = 7
)

// track makes the kernel track a flow from client to the destination that answers come from elsewhere for:
// "DESTINATION ANSWERS". In front of UDP flows stands nothing, of others "tcp ", of those in a zone "zone ".
func track(t testing.TB, d *Driver, client netip.AddrPort, text string) {
	t.Helper()
	rest, tcp := strings.CutPrefix(text, "tcp ")
	rest, zone := strings.CutPrefix(rest, "zone ")
	to, by, _ := strings.Cut(rest, " ")
	destination, answers := netip.MustParseAddrPort(to), netip.MustParseAddrPort(by)
	f := cluster.FamilyOf(destination.Addr())
	protocol := cluster.UDP
	if tcp {
		protocol = cluster.TCP
	}
	w := nfnl.Writer{Conntrack: true}
	w.Message(msgNew, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL, protocolFamily(f))
	for kind, ends := range map[uint16][2]netip.AddrPort{ctaTupleOrig: {client, destination}, ctaTupleReply: {answers, client}} {
		writeTuple(&w, kind, protocol, ends[0], ends[1])
	}
	w.Uint32(ctaTimeout, 600)
	if zone {
		w.Bytes(ctaZone, []byte{0, 7})
	}
	if tcp {
		const ctaProtoinfo, tcpInfo, tcpState, established = 4, 1, 1, 3
		info := w.Nest(ctaProtoinfo)
		state := w.Nest(tcpInfo)
		w.Bytes(tcpState, []byte{established})
		w.Close(state)
		w.Close(info)
	}
	w.Finish()
	w.Acknowledge()
	if err := d.conn.Commit(&w); err != nil {
		t.Fatalf("track %s: %v", text, err)
	}
}

func writeTuple(w *nfnl.Writer, kind uint16, protocol cluster.Protocol, from, to netip.AddrPort) {
	tuple := w.Nest(kind)
	ip := w.Nest(ctaTupleIP)
	src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
	if from.Addr().Is6() {
		src, dst = ctaIPv6Src, ctaIPv6Dst
	}
	w.Bytes(src, from.Addr().AsSlice())
	w.Bytes(dst, to.Addr().AsSlice())
	w.Close(ip)
	proto := w.Nest(ctaTupleProto)
	w.Bytes(ctaProtoNum, []byte{byte(protocol)})
	w.Bytes(ctaProtoSrcPort, binary.BigEndian.AppendUint16(nil, from.Port()))
	w.Bytes(ctaProtoDst, binary.BigEndian.AppendUint16(nil, to.Port()))
	w.Close(proto)
	w.Close(tuple)
}

// flows returns how many flows of all kinds there are.
func flows(t testing.TB, d *Driver) (n int) {
	t.Helper()
	w := nfnl.Writer{Conntrack: true}
	w.Message(msgGet, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, unix.AF_UNSPEC)
	w.Finish()
	if err := d.conn.Dump(&w, func([]byte) { n++ }); err != nil {
		t.Fatal(err)
	}
	return n
}

// udpFlows returns the UDP flows without a zone as "DESTINATION ANSWERS", sorted.
func udpFlows(t testing.TB, d *Driver) []string {
	t.Helper()
	var out []string
	for _, f := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		var w nfnl.Writer
		writeDump(&w, f, netip.AddrPort{})
		err := d.conn.Dump(&w, func(b []byte) {
			if fl, ok := parseFlow(b, func(netip.AddrPort) bool { return true }); ok {
				out = append(out, fl.destination.String()+" "+fl.answers.String())
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(out)
	return out
}

func client(n int, like string) netip.AddrPort {
	a := netip.MustParseAddr("198.51.100.7")
	if strings.HasPrefix(like, "[") {
		a = netip.MustParseAddr("2001:db8:9::7")
	}
	return netip.AddrPortFrom(a, uint16(1024+n))
}

var (
	udpPort = []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53, NodePort: 30053}}
	udpEP   = []cluster.SlicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}
	node1   = Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64")
)

func built(parts ...func(*cluster.Snapshot)) ruleset.Ruleset {
	rs, _ := ruleset.Build(Snapshot(append(parts, node1)...), ruleset.Config{Node: "n1"})
	return rs
}

// TestSet: the kernel's flows follow the tables, from what an earlier process has left on, and only those of the families
// whose tables are in force.
func TestSet(t *testing.T) {
	h := nstest.New(t)
	d := newDriver(t, h)
	vip := func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs("192.0.2.1 2001:db8::1") }
	svc := Service("a", "10.96.0.1 fd00:96::1", udpPort, vip)
	v4, v6 := Slice("a", udpEP, "10.244.1.2@n1", "10.244.1.3@n1"), Slice("a", udpEP, "fd00:244:1::2@n1")
	both := built(svc, v4, v6, ServiceCIDRs("10.96.0.0/16"))
	keep := []string{
		"10.96.0.1:53 10.244.1.2:53", "[fd00:96::1]:53 [fd00:244:1::2]:53", "192.0.2.1:53 10.244.1.3:53", "10.0.0.1:30053 10.244.1.2:53",
		// Not translated, or none of ours.
		"10.96.0.1:9 10.96.0.1:9", "203.0.113.9:53 10.244.1.2:53", "10.0.0.1:4000 10.244.1.9:53",
	}
	for i, f := range slices.Concat(keep, []string{
		"10.96.0.1:54 10.244.1.2:53", "192.0.2.1:99 10.244.1.2:53", // a port that went while no agent ran
		"10.96.0.7:53 10.244.1.2:53",                                 // a Service that went
		"10.96.0.1:53 10.244.9.9:53", "10.0.0.1:30053 10.244.9.9:53", // an endpoint that went
		"192.0.2.1:53 192.0.2.1:53", // from before there was the Service
		"zone 10.96.0.1:53 10.244.9.9:53", "tcp 10.96.0.1:53 10.244.9.9:53",
	}) {
		track(t, d, client(i, f), f)
	}
	late := "[2001:db8::1]:99 [fd00:244:1::2]:53"
	track(t, d, client(99, late), late)
	set := func(what string, tables []*ruleset.Table, want ...string) {
		t.Helper()
		d.Set(tables)
		if err := d.Delete(t.Context()); err != nil || d.Pending() {
			t.Fatal(err)
		}
		slices.Sort(want)
		if got := udpFlows(t, d); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	set("IPv6 is not in force", both.Tables()[:1], append(keep, late)...)
	set("both", both.Tables(), keep...)
	if n, want := flows(t, d), len(keep)+2; n != want {
		t.Errorf("%d flows are left, want %d: those of TCP and of the zone are none of ours", n, want)
	}

	told := d.told
	set("the same again", both.Tables(), keep...)
	if d.told != told {
		t.Errorf("%d flows were looked at for nothing", d.told-told)
	}
	less := built(svc, Slice("a", udpEP, "10.244.1.2@n1"), v6, ServiceCIDRs("10.96.0.0/16"))
	rest := slices.DeleteFunc(slices.Clone(keep), func(f string) bool { return strings.HasSuffix(f, " 10.244.1.3:53") })
	set("an endpoint went", less.Tables(), rest...)
	if n := d.told - told; n != 4 {
		t.Errorf("the kernel told of %d flows, want the 4 to the Service's frontends, one of them in the zone", n)
	}

	// Somebody has deleted the rules, or has had others.
	strange := []string{
		"10.96.0.1:53 10.96.0.1:53", "192.0.2.1:53 192.0.2.1:53", "10.0.0.1:30053 10.244.1.3:53", "10.96.0.7:53 10.244.1.2:53",
	}
	for i, f := range strange {
		track(t, d, client(200+i, f), f)
	}
	told = d.told
	set("IPv4 is not in force", less.Tables()[1:], append(strange, rest...)...)
	if d.told != told {
		t.Errorf("%d flows were looked at, though nobody knows the rules", d.told-told)
	}
	set("the same is in force again", less.Tables(), rest...)

	set("IPv4 is not in force once more", less.Tables()[1:], rest...)
	none := built()
	set("the Service went meanwhile", none.Tables(), "10.96.0.1:9 10.96.0.1:9", "203.0.113.9:53 10.244.1.2:53", "10.0.0.1:4000 10.244.1.9:53")
	if want := uint64(15); d.Deleted() != want {
		t.Errorf("deleted %d, want %d", d.Deleted(), want)
	}
}

// TestManyChanges: with many changed frontends all flows are looked at, once.
func TestManyChanges(t *testing.T) {
	d := newDriver(t, nstest.New(t))
	state := func(endpoint string) ruleset.Ruleset {
		var parts []func(*cluster.Snapshot)
		for i := range few + 1 {
			name := fmt.Sprintf("s%d", i)
			parts = append(parts, Service(name, fmt.Sprintf("10.96.0.%d", i+1), udpPort), Slice(name, udpEP, endpoint))
		}
		return built(parts...)
	}
	before, after := state("10.244.1.2@n1"), state("10.244.1.3@n1")
	d.Set(before.Tables())
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * few {
		f := fmt.Sprintf("10.96.0.%d:53 10.244.1.2:53", i+1)
		track(t, d, client(i, f), f)
	}
	d.Set(after.Tables())
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(udpFlows(t, d)); got != 2*few-1 || d.told != 3*few {
		t.Errorf("%d flows are left, want %d; the kernel told of %d, want %d", got, 2*few-1, d.told, 3*few)
	}
}

// FuzzParseFlow: no message of the kernel, or of whoever passes for it, is read beyond its end.
func FuzzParseFlow(f *testing.F) {
	for _, ends := range [][2]string{{"198.51.100.7:1024", "10.96.0.1:53"}, {"[2001:db8::7]:1024", "[fd00:96::1]:53"}} {
		from, to := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		w := nfnl.Writer{Conntrack: true}
		w.Message(msgNew, 0, unix.AF_INET)
		writeTuple(&w, ctaTupleOrig, cluster.UDP, from, to)
		writeTuple(&w, ctaTupleReply, cluster.UDP, to, from)
		w.Uint32(ctaID, 7)
		w.Bytes(ctaZone, []byte{0, 0})
		w.Finish()
		f.Add(w.Payload())
	}
	f.Add([]byte{8, 0, 1, 0x80, 4, 0, 1, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		fl, ok := parseFlow(b, func(netip.AddrPort) bool { return true })
		if ok && (!fl.destination.IsValid() || !fl.answers.IsValid() || len(fl.tuple) == 0) {
			t.Errorf("%x: %+v", b, fl)
		}
	})
}

// BenchmarkSet changes one frontend of one Service while there are many flows to others.
func BenchmarkSet(b *testing.B) {
	d := newDriver(b, nstest.New(b))
	for i := range 20_000 {
		f := fmt.Sprintf("10.97.%d.%d:53 10.244.1.2:53", i/250, i%250)
		track(b, d, client(i, f), f)
	}
	svc := Service("a", "10.96.0.1", udpPort)
	states := []ruleset.Ruleset{built(svc, Slice("a", udpEP, "10.244.1.2@n1")), built(svc, Slice("a", udpEP, "10.244.1.3@n1"))}
	for i := 0; b.Loop(); i++ {
		d.Set(states[i%2].Tables())
		if err := d.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
