package conntrack

import (
	"encoding/binary"
	"errors"
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

// state is a Snapshot and what is made of it.
type state struct {
	ruleset.Ruleset
	snap *cluster.Snapshot
}

func stateOf(parts ...func(*cluster.Snapshot)) state {
	snap := Snapshot(append(parts, node1)...)
	rs, _ := ruleset.Build(snap, ruleset.Config{Node: "n1"})
	return state{rs, snap}
}

// setIn sets all tables of the state.
func (s state) setIn(d *Driver) (more bool) { return d.Set(s.Tables(), s.snap) }

// TestSet: the kernel's flows follow the tables, from what an earlier process has left on, and only those of the families
// whose tables are in force.
func TestSet(t *testing.T) {
	h := nstest.New(t)
	d := newDriver(t, h)
	vip := func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs("192.0.2.1 2001:db8::1") }
	svc := Service("a", "10.96.0.1 fd00:96::1", udpPort, vip)
	v4, v6 := Slice("a", udpEP, "10.244.1.2@n1", "10.244.1.3@n1"), Slice("a", udpEP, "fd00:244:1::2@n1")
	foreign := Service("foreign", "10.96.0.8", udpPort, func(s *cluster.Service) {
		s.Type, s.IngressIPs, s.ForeignProxy = cluster.LoadBalancer, Addrs("192.0.2.8"), true
	})
	always := []func(*cluster.Snapshot){
		ServiceCIDRs("10.96.0.0/16"), Pool("lan", "192.0.2.0/24 2001:db8::/64"), foreign, Node("n2", "192.0.2.250", ""),
	}
	both := stateOf(append(always, svc, v4, v6)...)
	keep := []string{
		"10.96.0.1:53 10.244.1.2:53", "[fd00:96::1]:53 [fd00:244:1::2]:53", "192.0.2.1:53 10.244.1.3:53", "10.0.0.1:30053 10.244.1.2:53",
		// Not translated, or none of ours.
		"10.96.0.1:9 10.96.0.1:9", "203.0.113.9:53 10.244.1.2:53", "10.0.0.1:4000 10.244.1.9:53", "192.0.2.77:53 192.0.2.77:53",
		"192.0.2.250:4000 10.244.1.9:53", "10.96.0.8:53 10.244.1.9:53", "192.0.2.8:53 10.244.1.9:53",
	}
	for i, f := range slices.Concat(keep, []string{
		"10.96.0.1:54 10.244.1.2:53", "192.0.2.1:99 10.244.1.2:53", // a port that went while no agent ran
		"10.96.0.7:53 10.244.1.2:53", "192.0.2.7:53 10.244.1.2:53", // a Service that went
		"10.96.0.1:53 10.244.9.9:53", "10.0.0.1:30053 10.244.9.9:53", // an endpoint that went
		"192.0.2.1:53 192.0.2.1:53", // from before there was the Service
		"zone 10.96.0.1:53 10.244.9.9:53", "tcp 10.96.0.1:53 10.244.9.9:53",
	}) {
		track(t, d, client(i, f), f)
	}
	late := "[2001:db8::1]:99 [fd00:244:1::2]:53"
	track(t, d, client(99, late), late)
	set := func(what string, s state, tables []*ruleset.Table, want ...string) {
		t.Helper()
		d.Set(tables, s.snap)
		if err := d.Delete(t.Context()); err != nil || d.Pending() {
			t.Fatal(err)
		}
		slices.Sort(want)
		if got := udpFlows(t, d); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	set("IPv6 is not in force", both, both.Tables()[:1], append(keep, late)...)
	set("both", both, both.Tables(), keep...)
	if n, want := flows(t, d), len(keep)+2; n != want {
		t.Errorf("%d flows are left, want %d: those of TCP and of the zone are none of ours", n, want)
	}

	told := d.told
	set("the same again", both, both.Tables(), keep...)
	if d.told != told {
		t.Errorf("%d flows were looked at for nothing", d.told-told)
	}
	less := stateOf(append(always, svc, Slice("a", udpEP, "10.244.1.2@n1"), v6)...)
	rest := slices.DeleteFunc(slices.Clone(keep), func(f string) bool { return strings.HasSuffix(f, " 10.244.1.3:53") })
	set("an endpoint went", less, less.Tables(), rest...)
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
	set("IPv4 is not in force", less, less.Tables()[1:], append(strange, rest...)...)
	if d.told != told {
		t.Errorf("%d flows were looked at, though nobody knows the rules", d.told-told)
	}
	set("the same is in force again", less, less.Tables(), rest...)

	set("IPv4 is not in force once more", less, less.Tables()[1:], rest...)
	none := stateOf(always...)
	rest = slices.DeleteFunc(rest, func(f string) bool {
		return f == "10.96.0.1:53 10.244.1.2:53" || f == "10.0.0.1:30053 10.244.1.2:53" || f[0] == '['
	})
	set("the Service went meanwhile", none, none.Tables(), rest...)
	if want := uint64(16); d.Deleted() != want {
		t.Errorf("deleted %d, want %d", d.Deleted(), want)
	}
}

// TestManyChanges: with many changed frontends all flows are looked at, once.
func TestManyChanges(t *testing.T) {
	d := newDriver(t, nstest.New(t))
	at := func(endpoint string) state {
		var parts []func(*cluster.Snapshot)
		for i := range few + 1 {
			name := fmt.Sprintf("s%d", i)
			parts = append(parts, Service(name, fmt.Sprintf("10.96.0.%d", i+1), udpPort), Slice(name, udpEP, endpoint))
		}
		return stateOf(parts...)
	}
	before, after := at("10.244.1.2@n1"), at("10.244.1.3@n1")
	before.setIn(d)
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * few {
		f := fmt.Sprintf("10.96.0.%d:53 10.244.1.2:53", i+1)
		track(t, d, client(i, f), f)
	}
	after.setIn(d)
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(udpFlows(t, d)); got != 2*few-1 || d.told != 3*few {
		t.Errorf("%d flows are left, want %d; the kernel told of %d, want %d", got, 2*few-1, d.told, 3*few)
	}
}

// TestRefused: a flow that the kernel does not delete is in the way of no other, and is tried again until it is not stale
// any more.
func TestRefused(t *testing.T) {
	d := newDriver(t, nstest.New(t))
	svc := Service("a", "10.96.0.1", udpPort, func(s *cluster.Service) { s.Type = cluster.NodePort })
	with := func(endpoints ...string) state { return stateOf(svc, Slice("a", udpEP, endpoints...)) }
	const (
		kept, busy, other = "10.96.0.1:53 10.244.1.3:53", "10.96.0.1:53 10.244.1.2:53", "10.96.0.1:53 10.244.1.4:53"
		nodePort          = "10.0.0.1:30053 10.244.1.2:53"
	)
	both := with("10.244.1.2@n1", "10.244.1.3@n1", "10.244.1.4@n1")
	both.setIn(d)
	if err := d.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, f := range []string{kept, busy, other, nodePort} {
		track(t, d, client(i, f), f)
	}
	really, tries := d.deleteFlow, 0
	d.deleteFlow = func(f cluster.Family, fl flow) error {
		if fl.answers == flowOf(busy).answers { // a flowtable has taken it over
			tries++
			return unix.EBUSY
		}
		return really(f, fl)
	}
	deletes := func(what string, wantErr error, wantTries int, want ...string) {
		t.Helper()
		tries = 0
		if err := d.Delete(t.Context()); !errors.Is(err, wantErr) || d.Pending() != (wantErr != nil) {
			t.Fatalf("%s: %v, pending: %v", what, err, d.Pending())
		}
		slices.Sort(want)
		if got := udpFlows(t, d); !slices.Equal(got, want) || tries != wantTries {
			t.Errorf("%s, %d tried, want %d; there are %q, want %q", what, tries, wantTries, got, want)
		}
	}
	with("10.244.1.3@n1").setIn(d)
	deletes("two endpoints went", unix.EBUSY, 2, kept, busy, nodePort)

	// The cluster IP's is not stale any more.
	svc = Service("a", "10.96.0.1", udpPort)
	if with("10.244.1.2@n1", "10.244.1.3@n1").setIn(d); !d.Pending() {
		t.Error("nothing is pending")
	}
	deletes("one came back and the node port went", unix.EBUSY, 1, kept, busy, nodePort)

	// Another use of the node port is none of ours. What goes there is asked for by itself, and so the kernel does not tell
	// of the rest.
	const hostPort = "10.0.0.1:30053 10.244.1.9:53"
	track(t, d, client(9, hostPort), hostPort)
	told := d.told
	deletes("again", unix.EBUSY, 1, kept, busy, nodePort, hostPort)
	if d.told != told+2 {
		t.Errorf("the kernel told of %d flows, want 2", d.told-told)
	}
	d.deleteFlow = really
	deletes("the kernel does", nil, 0, kept, busy, hostPort)

	broken := errors.New("no answer")
	d.deleteFlow = func(cluster.Family, flow) error { return broken }
	with("10.244.1.3@n1").setIn(d)
	for range 2 {
		deletes("the kernel does not answer", broken, 0, kept, busy, hostPort)
	}
	d.deleteFlow = really
	deletes("it answers again", nil, 0, kept, hostPort)
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
	states := []state{stateOf(svc, Slice("a", udpEP, "10.244.1.2@n1")), stateOf(svc, Slice("a", udpEP, "10.244.1.3@n1"))}
	for i := 0; b.Loop(); i++ {
		states[i%2].setIn(d)
		if err := d.Delete(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
