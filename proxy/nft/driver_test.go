package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

var (
	web     = []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80, NodePort: 30080}}
	noPort  = []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}}
	webEPs  = []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}
	testCfg = ruleset.Config{Node: "n1", LocalDNS: Name("dns")}
	node1   = Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64")
)

// sample has one of everything.
func sample() *cluster.Snapshot {
	lb := func(vips string) func(*cluster.Service) {
		return func(s *cluster.Service) { s.Type, s.IngressIPs = cluster.LoadBalancer, Addrs(vips) }
	}
	prefixes := func(s *cluster.Service) {
		s.SourceRanges = slices.Concat(prefix("198.51.100.0/24"), prefix("2001:db8:9::/48"))
	}
	return Snapshot(node1,
		Service("web", "10.96.0.1 fd00:96::1", web, lb("192.0.2.10 2001:db8::10"), prefixes),
		Slice("web", webEPs, "10.244.1.2@n1", "10.244.2.2@n2"),
		Slice("web", webEPs, "fd00:244:1::2@n1", "fd00:244:2::2@n2"),
		Service("sticky", "10.96.0.2 fd00:96::2", noPort, lb("192.0.2.11 2001:db8::11"), func(s *cluster.Service) {
			s.ExternalLocal, s.Affinity = true, 3*time.Hour
		}),
		Slice("sticky", webEPs, "10.244.1.3@n1", "10.244.2.3@n2"),
		Slice("sticky", webEPs, "fd00:244:1::3@n1", "fd00:244:2::3@n2"),
		Service("far", "10.96.0.3 fd00:96::3", noPort, func(s *cluster.Service) { s.InternalLocal = true }),
		Slice("far", webEPs, "10.244.2.4@n2"), Slice("far", webEPs, "fd00:244:2::4@n2"),
		Service("dns", "10.96.0.10 fd00:96::a", []cluster.ServicePort{{Name: "dns", Protocol: cluster.UDP, Port: 53}}),
	)
}

func build(t testing.TB, snap *cluster.Snapshot) ruleset.Ruleset {
	t.Helper()
	rs, problems := ruleset.Build(snap, testCfg)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	return rs
}

// nft runs Debian's nft on a host.
func nft(t testing.TB, h *nstest.Host, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal("nft is not installed: run hack/install-packages (Debian package nftables)")
	}
	var out []byte
	var err error
	h.Do(func() { out, err = exec.Command("nft", args...).CombinedOutput() })
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// normal brings what nft lists into the form of ruleset.Table: one element in a line, nothing that is empty, and all
// blocks sorted.
func normal(list string) string {
	var blocks []string
	for block := range strings.SplitSeq(list, "\n\t}\n") {
		head, body, ok := strings.Cut(strings.Trim(block, "\n"), "\n")
		if table, set, found := strings.Cut(block, "{\n"); found && strings.HasPrefix(table, "table") {
			head, body, ok = strings.Cut(set, "\n")
		}
		head = strings.TrimSpace(head)
		if !ok || head == "}" {
			continue
		}
		isChain := strings.HasPrefix(head, "chain")
		var lines []string
		for line := range strings.Lines(body) {
			line = strings.TrimSpace(line)
			switch {
			case isChain:
				lines = append(lines, line)
			case !strings.HasPrefix(line, "type") && !strings.HasPrefix(line, "flags") && !strings.HasPrefix(line, "size"):
				for e := range strings.SplitSeq(strings.Trim(strings.TrimPrefix(line, "elements = "), "{ },"), ",") {
					lines = append(lines, strings.TrimSpace(e))
				}
			}
		}
		if !isChain {
			slices.Sort(lines)
		}
		if len(lines) > 0 {
			blocks = append(blocks, head+"\n"+strings.Join(lines, "\n"))
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// check compares the kernel's tables, as nft lists them, with the wanted ones.
func check(t *testing.T, h *nstest.Host, want ruleset.Ruleset) {
	t.Helper()
	for _, table := range want.Tables() {
		got := normal(nft(t, h, append([]string{"list", "table"}, strings.Fields(tableText(table.Family))...)...))
		if want := normal(table.String()); got != want {
			t.Fatalf("nft lists\n%s\nwant\n%s", got, want)
		}
	}
}

// TestList: what nft prints of the tables is the text of their values.
func TestList(t *testing.T) {
	d, h := newDriver(t)
	rs := build(t, sample())
	set(t, d, rs)
	check(t, h, rs)

	// People save their rules by "nft list ruleset >/etc/nftables.conf": the text must load, and mean the same. nft
	// 1.0.6 prints, but cannot load, maps that rules fill and whose key is longer than 16 bytes: session affinity
	// over IPv6.
	snap := Clone(sample())
	delete(snap.Services, Name("sticky"))
	Service("sticky", "10.96.0.2", noPort, func(s *cluster.Service) { s.Affinity = 3 * time.Hour })(snap)
	rs = build(t, snap)
	set(t, d, rs)
	if _, err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	saved := nft(t, h, "list", "ruleset")
	file := filepath.Join(t.TempDir(), "saved.nft")
	if err := os.WriteFile(file, []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	nft(t, h, "flush", "ruleset")
	nft(t, h, "-f", file)
	if again := nft(t, h, "list", "ruleset"); again != saved {
		t.Errorf("after saving and loading:\n%s\nbefore:\n%s", again, saved)
	}
}

// TestSteps changes one thing after the other and compares each time. A table made anew would have another handle.
func TestSteps(t *testing.T) {
	d, h := newDriver(t)
	snap := sample()
	set(t, d, build(t, snap))
	handle := tableHandle(t, h)
	for _, c := range []struct {
		name string
		part func(*cluster.Snapshot)
	}{
		{"nothing", func(*cluster.Snapshot) {}},
		{"an endpoint comes", Slice("web", webEPs, "10.244.1.2@n1", "10.244.2.2@n2", "10.244.2.9@n2")},
		{"an endpoint changes", Slice("web", webEPs, "10.244.1.2@n1", "10.244.2.2@n2", "10.244.2.8@n2")},
		{"all endpoints go", Slice("web", webEPs)},
		{"all endpoints come", Slice("web", webEPs, "10.244.1.2@n1")},
		{"an endpoint of a sticky Service goes", Slice("sticky", webEPs, "10.244.2.3@n2")},
		{"a Service comes", Service("new", "10.96.0.9", noPort)},
		{"it gets endpoints", Slice("new", webEPs, "10.244.1.9@n1")},
		{"a Service goes", func(s *cluster.Snapshot) { delete(s.Services, Name("web")) }},
		{"the node's pod CIDR changes", Node("n1", "10.0.0.2 fd00::2", "10.244.9.0/24 fd00:244:9::/64")},
		{"all Services go", func(s *cluster.Snapshot) { clear(s.Services) }},
	} {
		snap = Clone(snap, c.part)
		rs := build(t, snap)
		set(t, d, rs)
		if changed, err := d.Check(t.Context()); err != nil || len(changed) > 0 {
			t.Fatalf("%s: Check finds %v, %v", c.name, changed, err)
		}
		t.Run(c.name, func(t *testing.T) { check(t, h, rs) })
	}
	if now := tableHandle(t, h); now != handle {
		t.Errorf("the table was made anew: %s instead of %s", now, handle)
	}
}

func tableHandle(t testing.TB, h *nstest.Host) string {
	line, _, _ := strings.Cut(nft(t, h, "-a", "list", "table", "ip", "seamark"), "\n")
	return line
}

// TestRestart: a new driver changes the difference, and only that.
func TestRestart(t *testing.T) {
	first, h := newDriver(t)
	set(t, first, build(t, sample()))
	first.Close()
	before := nft(t, h, "-a", "list", "table", "ip", "seamark")

	gen := generation(t, h)
	second := driverIn(t, h)
	set(t, second, build(t, sample()))
	if n := generation(t, h) - gen; n > 2 {
		t.Errorf("%d transactions to change nothing; rules may be written once for each table", n)
	}
	check(t, h, build(t, sample()))
	if a, b := strings.SplitN(before, "\n", 2)[0], tableHandle(t, h); a != b {
		t.Errorf("the table was made anew: %q, then %q", a, b)
	}
	second.Close()

	// Meanwhile a Service has gone and another has come.
	snap := Clone(sample(), func(s *cluster.Snapshot) { delete(s.Services, Name("web")) },
		Service("new", "10.96.0.9", noPort), Slice("new", webEPs, "10.244.1.9@n1", "10.244.1.8@n1", "10.244.1.7@n1"))
	third := driverIn(t, h)
	set(t, third, build(t, snap))
	if _, err := third.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, h, build(t, snap))
	if a, b := strings.SplitN(before, "\n", 2)[0], tableHandle(t, h); a != b {
		t.Errorf("the table was made anew: %q, then %q", a, b)
	}
}

func generation(t testing.TB, h *nstest.Host) uint32 {
	t.Helper()
	gen, err := driverIn(t, h).sock.generation()
	if err != nil {
		t.Fatal(err)
	}
	return gen
}

// TestOldTable: a table of another make is replaced in one transaction.
func TestOldTable(t *testing.T) {
	for name, script := range map[string]string{
		"other type of a set":     "table ip seamark { set vips { type inet_service; elements = { 80 }; }; }",
		"set that we do not have": "table ip seamark { set other { type inet_service; }; }",
		"other hook":              "table ip seamark { chain nat-prerouting { type filter hook input priority 5; }; }",
		"dormant":                 "table ip seamark { flags dormant; }",
	} {
		t.Run(name, func(t *testing.T) {
			d, h := newDriver(t)
			nft(t, h, script)
			set(t, d, build(t, sample()))
			check(t, h, build(t, sample()))
		})
	}
}

// TestForeignTables: nobody else's table changes by a byte, not even one that looks like ours.
func TestForeignTables(t *testing.T) {
	d, h := newDriver(t)
	nft(t, h, `table inet seamark { chain c { type filter hook input priority 0; tcp dport 22 counter accept; }; }
		table ip filter { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }
			map m { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }
			chain forward { type filter hook forward priority 10; policy drop; ip saddr @s accept; ip daddr vmap @m; }; }
		table ip6 seamark-speaker { chain c { type nat hook prerouting priority -110; }; }`)
	foreign := []string{"inet seamark", "ip filter", "ip6 seamark-speaker"}
	list := func() (s string) {
		for _, table := range foreign {
			s += nft(t, h, append([]string{"-a", "list", "table"}, strings.Fields(table)...)...)
		}
		return s
	}
	before := list()
	set(t, d, build(t, sample()))
	set(t, d, build(t, Snapshot(node1)))
	if err := d.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := list(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if left := nft(t, h, "list", "tables"); len(strings.Fields(left)) != 3*len(foreign) {
		t.Errorf("Cleanup leaves\n%s", left)
	}
	if err := d.Cleanup(t.Context()); err != nil {
		t.Errorf("a second Cleanup: %v", err)
	}
}

// TestDrift: what others do to our tables is found by Check and put right by Set; what they do elsewhere is not.
func TestDrift(t *testing.T) {
	for name, script := range map[string]string{
		"table deleted":    "delete table ip seamark",
		"all flushed":      "flush ruleset",
		"rules flushed":    "flush table ip6 seamark",
		"element deleted":  "delete element ip seamark services { 10.96.0.1 . tcp . 80 }",
		"element added":    "add element ip seamark vips { 203.0.113.9 }",
		"endpoint changed": "delete element ip seamark endpoints { 10.96.0.1 . tcp . 80 . 0 }; add element ip seamark endpoints { 10.96.0.1 . tcp . 80 . 0 : 10.9.9.9 . 9 }",
		"rule added":       "insert rule ip seamark nat-prerouting drop",
		"chain added":      "add chain ip seamark own",
		"chain renamed":    "rename chain ip seamark refuse refuse2",
		"policy changed":   "chain ip seamark filter-forward { policy drop; }",
		"dormant":          "table ip seamark { flags dormant; }",
	} {
		t.Run(name, func(t *testing.T) {
			d, h := newDriver(t)
			rs := build(t, sample())
			set(t, d, rs)
			nft(t, h, "table ip other { chain c { type filter hook input priority 0; }; }")
			if changed, err := d.Check(t.Context()); err != nil || len(changed) > 0 {
				t.Fatalf("somebody else's table is found as %v, %v", changed, err)
			}
			nft(t, h, script)
			changed, err := d.Check(t.Context())
			if err != nil || len(changed) == 0 {
				t.Fatalf("Check finds %v, %v", changed, err)
			}
			set(t, d, rs)
			if _, err := d.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			check(t, h, rs)
		})
	}
}

// TestCheckRests: whatever others do to tables of theirs, Check takes a small share of the time, and finds what it looks for.
func TestCheckRests(t *testing.T) {
	d, h := newDriver(t)
	rs := build(t, sample())
	set(t, d, rs)
	// A clock by which each look takes a second.
	var clock time.Time
	d.rested, d.now = 40, func() time.Time {
		clock = clock.Add(time.Second / 2)
		return clock
	}
	looks, start := 0, clock
	for i := range 50 {
		clock = clock.Add(5 * time.Second)
		nft(t, h, fmt.Sprintf("add table ip other%d", i))
		before := d.elements.next
		if changed, err := d.Check(t.Context()); err != nil || len(changed) > 0 {
			t.Fatalf("Check finds %v, %v", changed, err)
		}
		if d.elements.next != before {
			looks++
		}
	}
	if most := int(clock.Sub(start)/(20*time.Second)) + 1; looks == 0 || looks > most {
		t.Errorf("%d looks at elements in %s, want 1 to %d", looks, clock.Sub(start), most)
	}
	nft(t, h, "delete element ip seamark services { 10.96.0.1 . tcp . 80 }")
	for range 50 {
		clock = clock.Add(time.Second)
		changed, err := d.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(changed) > 0 {
			return
		}
	}
	t.Error("a deleted element has not been found within 50 s")
}

// TestRefused: Services that the kernel does not take do not keep the others away, and get their rules when they are
// right.
func TestRefused(t *testing.T) {
	d, h := newDriver(t)
	good := build(t, Large(200, 3))
	// Build makes no such element; a mistake of ours, or of a kernel, might.
	broken := func(rs ruleset.Ruleset, names ...string) ruleset.Ruleset {
		rs.IPv4.Services = maps.Clone(rs.IPv4.Services)
		for _, name := range names {
			svc := *rs.IPv4.Services[Name(name)]
			svc.Frontends = slices.Clone(svc.Frontends)
			svc.Frontends[0].Closed = ruleset.Goto("nowhere")
			rs.IPv4.Services[Name(name)] = &svc
		}
		return rs
	}
	refused := func(rs ruleset.Ruleset) (names []string) {
		t.Helper()
		err := d.Set(t.Context(), rs)
		var r *ruleset.RefusedError
		if err != nil && !errors.As(err, &r) {
			t.Fatal(err)
		}
		if r != nil {
			for _, p := range r.Problems {
				names = append(names, p.Service.Name)
			}
		}
		return names
	}
	if got, want := refused(broken(good, "svc-00007", "svc-00150")), []string{"svc-00007", "svc-00150"}; !slices.Equal(got, want) {
		t.Fatalf("refused: %v, want %v", got, want)
	}
	without := good
	without.IPv4.Services = maps.Clone(good.IPv4.Services)
	delete(without.IPv4.Services, Name("svc-00007"))
	delete(without.IPv4.Services, Name("svc-00150"))
	check(t, h, without)

	// One is right again, the other keeps its place among the refused.
	if got, want := refused(broken(good, "svc-00150")), []string{"svc-00150"}; !slices.Equal(got, want) {
		t.Fatalf("refused: %v, want %v", got, want)
	}
	if got := refused(good); len(got) > 0 {
		t.Fatalf("refused: %v", got)
	}
	check(t, h, good)

	// A Service that works keeps its old rules when its new ones are refused.
	if got, want := refused(broken(good, "svc-00003")), []string{"svc-00003"}; !slices.Equal(got, want) {
		t.Fatalf("refused: %v, want %v", got, want)
	}
	check(t, h, good)
	if changed, err := d.Check(t.Context()); err != nil || len(changed) > 0 {
		t.Errorf("Check finds %v, %v", changed, err)
	}
}

// TestSwap: two Services that exchange their addresses do it in one transaction.
func TestSwap(t *testing.T) {
	d, h := newDriver(t)
	set(t, d, build(t, Snapshot(node1, Service("a", "10.96.0.1", noPort), Slice("a", webEPs, "10.244.1.2@n1"),
		Service("b", "10.96.0.2", noPort), Slice("b", webEPs, "10.244.1.3@n1"))))
	rs := build(t, Snapshot(node1, Service("a", "10.96.0.2", noPort), Slice("a", webEPs, "10.244.1.2@n1"),
		Service("b", "10.96.0.1", noPort), Slice("b", webEPs, "10.244.1.3@n1")))
	gen := generation(t, h)
	set(t, d, rs)
	if n := generation(t, h) - gen; n != 1 {
		t.Errorf("%d transactions", n)
	}
	check(t, h, rs)
}

// TestManyTransactions: more than one transaction can hold is made in several, and all of it arrives.
func TestManyTransactions(t *testing.T) {
	d, h := newDriver(t)
	d.limit = 100_000
	snap := Large(500, 10)
	Service("huge", "10.99.0.1", noPort)(snap)
	snap.Slices[Name("huge")] = []*cluster.Slice{LargeSlice(Name("huge"), cluster.IPv4, 0, 5000)}
	rs := build(t, snap)
	err := d.Set(t.Context(), rs)
	var r *ruleset.RefusedError
	if !errors.As(err, &r) || len(r.Problems) != 1 || r.Problems[0].Service != Name("huge") {
		t.Fatalf("Set: %v", err)
	}
	delete(rs.IPv4.Services, Name("huge"))
	check(t, h, rs)
}

// TestNoRights: without CAP_NET_ADMIN the error says so, once for each table, and does not blame Services.
func TestNoRights(t *testing.T) {
	h := nstest.New(t)
	var err error
	h.Run(func() {
		// The thread ends with this function and takes the lack of rights with it.
		if err = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return
		}
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err = unix.Capset(&hdr, &none[0]); err != nil {
			return
		}
		var d *Driver
		if d, err = New(); err != nil {
			return
		}
		defer d.Close()
		rs, _ := ruleset.Build(sample(), testCfg)
		err = d.Set(context.Background(), rs)
	})
	var r *ruleset.RefusedError
	if !errors.Is(err, unix.EPERM) || errors.As(err, &r) {
		t.Errorf("got %v, want EPERM", err)
	}
}

func prefix(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
