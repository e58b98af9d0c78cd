package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func addrs(list string) (out []netip.Addr) {
	for _, s := range strings.Fields(list) {
		out = append(out, addr(s))
	}
	return out
}

func service(name string) cluster.Name { return cluster.Name{Namespace: "shop", Name: name} }

// poolOf makes a pool that is open to all.
func poolOf(t testing.TB, name string, ranges ...string) cluster.Pool {
	t.Helper()
	parsed, problems := cluster.ParseRanges(ranges)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cluster.Pool{Name: name, Ranges: parsed, AutoAssign: true}
}

func indexOf(pools ...cluster.Pool) *Index {
	x := NewIndex()
	x.SetPools(untaken(pools), nil)
	return x
}

// untaken are pools that nobody else has a part of.
func untaken(pools []cluster.Pool) (out []Pool) {
	for _, p := range pools {
		out = append(out, Pool{Pool: p})
	}
	return out
}

// usedBy is the claim of Services that have all their ports at an address.
func usedBy(services ...string) (c Claim) {
	for _, s := range services {
		c.Users = append(c.Users, User{Service: service(s)})
	}
	return c
}

var (
	only4 = []cluster.Family{cluster.IPv4}
	only6 = []cluster.Family{cluster.IPv6}
	dual  = []cluster.Family{cluster.IPv4, cluster.IPv6}
	dual6 = []cluster.Family{cluster.IPv6, cluster.IPv4}
)

func TestDecide(t *testing.T) {
	gold := cluster.Selector{{Key: "tier", Operator: cluster.In, Values: []string{"gold"}}}
	a := poolOf(t, "a", "192.0.2.0/30")
	b := poolOf(t, "b", "198.51.100.0/30", "2001:db8::/126")
	six := poolOf(t, "six", "2001:db8:6::/64")
	first := poolOf(t, "z-first", "203.0.113.0/30")
	first.Priority = -1
	selected := poolOf(t, "selected", "203.0.113.4/30")
	selected.ServiceSelector = gold
	private := poolOf(t, "private", "203.0.113.8/30")
	private.NamespaceSelector = gold
	manual := poolOf(t, "manual", "203.0.113.16/30")
	manual.AutoAssign = false
	drained := poolOf(t, "drained", "203.0.113.32/30")
	drained.Draining = true
	careful := poolOf(t, "careful", "203.0.112.254-203.0.113.1")
	careful.AvoidBuggyIPs = true

	goldLabels := map[string]string{"tier": "gold"}
	me, other := service("me"), service("other")
	tests := []struct {
		name    string
		pools   []cluster.Pool
		refused []string
		held    map[string]string // address: service; "" for a reservation
		request Request

		want    string // addresses that the Service has in the end
		drop    string
		reason  Reason
		missing Reason
		says    string // part of the problem's message
	}{
		{name: "lowest free address", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.0": "other", "192.0.2.2": "other"},
			request: Request{Families: only4}, want: "192.0.2.1"},
		{name: "ties by name", pools: []cluster.Pool{b, a}, request: Request{Families: only4}, want: "192.0.2.0"},
		{name: "lower priority first", pools: []cluster.Pool{a, first}, request: Request{Families: only4}, want: "203.0.113.0"},
		{name: "a selector that matches comes before none", pools: []cluster.Pool{a, selected}, request: Request{Families: only4, Labels: goldLabels}, want: "203.0.113.4"},
		{name: "priority counts more than a selector", pools: []cluster.Pool{first, selected}, request: Request{Families: only4, Labels: goldLabels}, want: "203.0.113.0"},
		{name: "a selector that does not match", pools: []cluster.Pool{a, selected}, request: Request{Families: only4}, want: "192.0.2.0"},
		{name: "namespace selector", pools: []cluster.Pool{a, private}, request: Request{Families: only4, NamespaceLabels: goldLabels}, want: "203.0.113.8"},
		{name: "the next pool when one is full", pools: []cluster.Pool{a, b}, held: full("192.0.2.0/30"), request: Request{Families: only4}, want: "198.51.100.0"},
		{name: "avoidBuggyIPs", pools: []cluster.Pool{careful}, request: Request{Families: only4}, want: "203.0.112.254"},
		{name: "avoidBuggyIPs skips .255 and .0", pools: []cluster.Pool{careful}, held: map[string]string{"203.0.112.254": "other"}, request: Request{Families: only4}, want: "203.0.113.1"},

		{name: "dual stack from one pool", pools: []cluster.Pool{a, b}, request: Request{Families: dual}, want: "198.51.100.0 2001:db8::"},
		{name: "dual stack, IPv6 first", pools: []cluster.Pool{b}, request: Request{Families: dual6}, want: "2001:db8:: 198.51.100.0"},
		{name: "dual stack from two pools", pools: []cluster.Pool{a, six}, request: Request{Families: dual}, want: "192.0.2.0 2001:db8:6::"},
		{name: "priority counts more than one pool for both", pools: []cluster.Pool{first, b}, request: Request{Families: dual}, want: "203.0.113.0 2001:db8::"},
		{name: "second family added: the pool of the first", pools: []cluster.Pool{b, six}, held: map[string]string{"198.51.100.3": "me"}, request: Request{Families: dual}, want: "198.51.100.3 2001:db8::"},
		{name: "second family given up", pools: []cluster.Pool{b}, held: map[string]string{"198.51.100.0": "me", "2001:db8::": "me"}, request: Request{Families: only4}, want: "198.51.100.0", drop: "2001:db8::"},
		{name: "both families or none", pools: []cluster.Pool{a}, request: Request{Families: dual}, reason: FamilyUnavailable, says: "no IPv6 addresses in IPPool a"},
		{name: "second family required but not there: the first goes on", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.0": "me"}, request: Request{Families: dual}, want: "192.0.2.0", reason: FamilyUnavailable},
		{name: "preferred family not there", pools: []cluster.Pool{a}, request: Request{Families: dual, AnyFamily: true}, want: "192.0.2.0", missing: FamilyUnavailable},
		{name: "primary family not there but the preferred one", pools: []cluster.Pool{six}, request: Request{Families: dual, AnyFamily: true}, want: "2001:db8:6::", missing: FamilyUnavailable},
		{name: "neither family", pools: []cluster.Pool{a}, held: full("192.0.2.0/30"), request: Request{Families: dual, AnyFamily: true}, reason: PoolExhausted},

		{name: "keeps what it holds", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.3": "me"}, request: Request{Families: only4}, want: "192.0.2.3"},
		{name: "keeps it when the pool is gone", held: map[string]string{"192.0.2.3": "me"}, request: Request{Families: only4}, want: "192.0.2.3"},
		{name: "keeps it when the labels change", pools: []cluster.Pool{selected}, held: map[string]string{"203.0.113.5": "me"}, request: Request{Families: only4}, want: "203.0.113.5"},
		{name: "two of one family, equally old: the lowest stays", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.1": "me", "192.0.2.2": "me"},
			request: Request{Families: only4, Prefer: addrs("192.0.2.2")}, want: "192.0.2.1", drop: "192.0.2.2"},
		{name: "takes back what its status says", pools: []cluster.Pool{a}, request: Request{Families: only4, Prefer: addrs("192.0.2.3")}, want: "192.0.2.3"},
		{name: "but not what another has", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.3": "other"}, request: Request{Families: only4, Prefer: addrs("192.0.2.3")}, want: "192.0.2.0"},
		{name: "also from a pool for those who ask", pools: []cluster.Pool{a, manual}, request: Request{Families: only4, Prefer: addrs("203.0.113.17")}, want: "203.0.113.17"},
		{name: "and from a draining pool", pools: []cluster.Pool{a, drained}, request: Request{Families: only4, Prefer: addrs("203.0.113.33")}, want: "203.0.113.33"},
		{name: "but not from one whose selector leaves it out", pools: []cluster.Pool{a, selected}, request: Request{Families: only4, Prefer: addrs("203.0.113.5")}, want: "192.0.2.0"},

		{name: "a draining pool gives nothing", pools: []cluster.Pool{drained}, request: Request{Families: only4}, reason: PoolDraining, says: "IPPool drained: draining"},
		{name: "nor by name", pools: []cluster.Pool{drained, a}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("203.0.113.33")}}, reason: PoolDraining},
		{name: "nor to one that names it", pools: []cluster.Pool{drained, a}, request: Request{Families: only4, Ask: Ask{Pool: "drained"}}, reason: PoolDraining},
		{name: "another pool does", pools: []cluster.Pool{drained, a}, request: Request{Families: only4}, want: "192.0.2.0"},
		{name: "what is used in a draining pool stays", pools: []cluster.Pool{drained, a}, held: map[string]string{"203.0.113.33": "me"}, request: Request{Families: only4}, want: "203.0.113.33"},

		{name: "reassign: out of a draining pool", pools: []cluster.Pool{drained, a}, held: map[string]string{"203.0.113.33": "me"},
			request: Request{Families: only4, Ask: Ask{Reassign: true}, Prefer: addrs("203.0.113.33")}, want: "192.0.2.0", drop: "203.0.113.33"},
		{name: "reassign: out of no pool", pools: []cluster.Pool{a}, held: map[string]string{"10.0.0.1": "me"}, request: Request{Families: only4, Ask: Ask{Reassign: true}}, want: "192.0.2.0", drop: "10.0.0.1"},
		{name: "reassign: out of a pool whose selector leaves it out", pools: []cluster.Pool{a, selected}, held: map[string]string{"203.0.113.5": "me"}, request: Request{Families: only4, Ask: Ask{Reassign: true}}, want: "192.0.2.0", drop: "203.0.113.5"},
		{name: "reassign: what fits stays", pools: []cluster.Pool{a, first}, held: map[string]string{"192.0.2.3": "me"}, request: Request{Families: only4, Ask: Ask{Reassign: true}}, want: "192.0.2.3"},
		{name: "reassign: no other: stays", pools: []cluster.Pool{drained}, held: map[string]string{"203.0.113.33": "me"}, request: Request{Families: only4, Ask: Ask{Reassign: true}}, want: "203.0.113.33", reason: PoolDraining},

		{name: "named pool", pools: []cluster.Pool{a, manual}, request: Request{Families: only4, Ask: Ask{Pool: "manual"}}, want: "203.0.113.16"},
		{name: "named pool, later", pools: []cluster.Pool{a, manual}, held: map[string]string{"192.0.2.0": "me"}, request: Request{Families: only4, Ask: Ask{Pool: "manual"}}, want: "203.0.113.16", drop: "192.0.2.0"},
		{name: "named pool, later, but full", pools: []cluster.Pool{a, manual}, held: with(full("203.0.113.16/30"), "192.0.2.0", "me"), request: Request{Families: only4, Ask: Ask{Pool: "manual"}}, want: "192.0.2.0", reason: PoolExhausted, says: "IPPool manual (4 of 4 in use)"},
		{name: "of other pools a Service that names one hears nothing", pools: []cluster.Pool{manual}, refused: []string{"bad"}, held: full("203.0.113.16/30"), request: Request{Families: only4, Ask: Ask{Pool: "manual"}}, reason: PoolExhausted, says: "IPPool manual (4 of 4 in use): add"},
		{name: "one that names none hears of all", pools: []cluster.Pool{a}, refused: []string{"bad"}, held: full("192.0.2.0/30"), request: Request{Families: only4}, reason: PoolExhausted, says: "(4 of 4 in use) (not ready: bad): add"},
		{name: "named pool that is not there", pools: []cluster.Pool{a}, request: Request{Families: only4, Ask: Ask{Pool: "gone"}}, reason: PoolUnknown, says: "there is no IPPool gone: create it, or change the annotation seamark.io/pool (there is IPPool a)"},
		{name: "named pool that is not ready", refused: []string{"bad"}, request: Request{Families: only4, Ask: Ask{Pool: "bad"}}, reason: PoolNotReady, says: "IPPool bad gives nothing out: \"x\" is neither"},
		{name: "named pool for others", pools: []cluster.Pool{selected}, request: Request{Families: only4, Ask: Ask{Pool: "selected"}}, reason: SelectorMismatch, says: "IPPool selected"},
		{name: "named pool without the family", pools: []cluster.Pool{a, b}, request: Request{Families: only6, Ask: Ask{Pool: "a"}}, reason: FamilyUnavailable},

		{name: "named address", pools: []cluster.Pool{a}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("192.0.2.2")}}, want: "192.0.2.2"},
		{name: "named address of a pool for those who ask", pools: []cluster.Pool{manual}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("203.0.113.18")}}, want: "203.0.113.18"},
		{name: "one address named, the other family from its pool", pools: []cluster.Pool{b, six}, request: Request{Families: dual, Ask: Ask{Addresses: addrs("198.51.100.2")}}, want: "198.51.100.2 2001:db8::"},
		{name: "named addresses of two pools", pools: []cluster.Pool{a, six}, request: Request{Families: dual, Ask: Ask{Addresses: addrs("192.0.2.2 2001:db8:6::9")}}, want: "192.0.2.2 2001:db8:6::9"},
		{name: "named address, later", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.0": "me"}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("192.0.2.2")}}, want: "192.0.2.2", drop: "192.0.2.0"},
		{name: "named address that another has", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.0": "me", "192.0.2.2": "other"}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("192.0.2.2")}}, want: "192.0.2.0", reason: AddressTaken, says: "192.0.2.2 belongs to Service shop/other"},
		{name: "named address that is reserved", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.2": ""}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("192.0.2.2")}}, reason: AddressTaken, says: "reserved"},
		{name: "named address outside", pools: []cluster.Pool{a}, refused: []string{"bad"}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("192.0.2.9")}}, reason: AddressNotInPool, says: "192.0.2.9 is in no IPPool (not ready: bad)"},
		{name: "named address in another pool than the named one", pools: []cluster.Pool{a, b}, request: Request{Families: only4, Ask: Ask{Pool: "b", Addresses: addrs("192.0.2.2")}}, reason: AddressNotInPool, says: "is in IPPool a, but the Service names IPPool b"},
		{name: "named address that is left out", pools: []cluster.Pool{careful}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("203.0.113.0")}}, reason: AddressNotInPool, says: "avoidBuggyIPs"},
		{name: "named address of a pool for others", pools: []cluster.Pool{selected}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("203.0.113.5")}}, reason: SelectorMismatch},
		{name: "named address of a family that the Service lacks", pools: []cluster.Pool{a, six}, held: map[string]string{"192.0.2.0": "me"}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("2001:db8:6::1")}}, want: "192.0.2.0", reason: InvalidRequest, says: "has no IPv6 family"},
		{name: "what is asked for by name is never optional", pools: []cluster.Pool{b, six}, held: map[string]string{"2001:db8::1": "other"}, request: Request{Families: dual, AnyFamily: true, Ask: Ask{Addresses: addrs("2001:db8::1")}}, reason: AddressTaken},
		{name: "annotations that cannot be read", pools: []cluster.Pool{a}, held: map[string]string{"192.0.2.1": "me"}, request: Request{Families: only4, Invalid: &Problem{Reason: InvalidRequest, Message: "x"}}, want: "192.0.2.1", reason: InvalidRequest},
		{name: "named address that it has and is to leave", pools: []cluster.Pool{drained}, held: map[string]string{"203.0.113.33": "me"}, request: Request{Families: only4, Ask: Ask{Addresses: addrs("203.0.113.33"), Reassign: true}}, want: "203.0.113.33", reason: PoolDraining},
		{name: "a preferred family that the named pool lacks is kept", pools: []cluster.Pool{a, b}, held: map[string]string{"198.51.100.1": "me", "2001:db8::1": "me"}, request: Request{Families: dual, AnyFamily: true, Ask: Ask{Pool: "a"}}, want: "192.0.2.0 2001:db8::1", drop: "198.51.100.1", missing: FamilyUnavailable},

		{name: "no pool", request: Request{Families: only4}, reason: NoPool, says: "create one"},
		{name: "no pool is ready", refused: []string{"x", "w"}, request: Request{Families: only4}, reason: PoolNotReady, says: "no IPPool is ready (not ready: w, x)"},
		{name: "no pool for those who ask for none", pools: []cluster.Pool{manual}, request: Request{Families: only4}, reason: NoPool, says: "autoAssign"},
		{name: "all pools for others", pools: []cluster.Pool{selected, private}, request: Request{Families: only4}, reason: SelectorMismatch, says: "IPPools private, selected"},
		{name: "all pools full", pools: []cluster.Pool{a, first}, held: merge(full("192.0.2.0/30"), full("203.0.113.0/30")), request: Request{Families: only4}, reason: PoolExhausted,
			says: "no free IPv4 address in IPPools z-first, a (8 of 8 in use): add addresses to a pool, or delete a Service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := NewIndex()
			refused := map[string]Refused{}
			for _, name := range tt.refused {
				refused[name] = Refused{Why: `"x" is neither`}
			}
			x.SetPools(untaken(tt.pools), refused)
			for a, s := range tt.held {
				c := Claim{Since: time.Unix(1, 0)}
				if s != "" {
					c.Users = usedBy(s).Users
				}
				x.Hold(addr(a), &c)
			}
			tt.request.Service = me
			d := x.Decide(tt.request)
			before := slices.Clone(x.HeldBy(me))
			for _, c := range d.Changes {
				x.Set(c)
			}
			drop := slices.DeleteFunc(before, func(a netip.Addr) bool { return slices.Contains(x.HeldBy(me), a) })
			if !slices.Equal(d.Addresses, addrs(tt.want)) || !slices.Equal(drop, addrs(tt.drop)) {
				t.Errorf("addresses %v, drop %v; want %q, drop %q (problem: %v)", d.Addresses, drop, tt.want, tt.drop, d.Problem)
			}
			if got := reasonOf(d.Problem); got != tt.reason {
				t.Errorf("reason %q; want %q", got, tt.reason)
			}
			if got := reasonOf(d.Missing); got != tt.missing {
				t.Errorf("missing %q; want %q", got, tt.missing)
			}
			if d.Problem != nil && !strings.Contains(d.Problem.Message, tt.says) {
				t.Errorf("message %q; want %q in it", d.Problem.Message, tt.says)
			}
			if tt.reason == AddressTaken && tt.held["192.0.2.2"] == "other" && d.Problem.By != other {
				t.Errorf("taken by %v; want %v", d.Problem.By, other)
			}
			if again := x.Decide(tt.request); len(again.Changes) > 0 || reasonOf(again.Problem) != tt.reason {
				t.Errorf("a second time is no no-op: %+v", again)
			}
		})
	}
}

func reasonOf(p *Problem) Reason {
	if p == nil {
		return ""
	}
	return p.Reason
}

// full holds all addresses of a prefix for other Services.
func full(prefix string) map[string]string {
	held := map[string]string{}
	p := netip.MustParsePrefix(prefix)
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		held[a.String()] = "other"
	}
	return held
}

func with(held map[string]string, address, service string) map[string]string {
	held[address] = service
	return held
}

func merge(a, b map[string]string) map[string]string {
	for k, v := range b {
		a[k] = v
	}
	return a
}

func TestCounts(t *testing.T) {
	careful := poolOf(t, "careful", "192.0.0.0/22", "192.0.8.5/32")
	careful.AvoidBuggyIPs = true
	x := indexOf(careful, poolOf(t, "six", "2001:db8::/64", "2001:db8:1::/126"), poolOf(t, "four", "8.0.0.0/6"), poolOf(t, "edge", "2001:db8:2::-2001:db8:2::7fff:ffff:ffff:fffe"))
	for a, c := range map[string]Claim{"192.0.0.1": {Pool: "careful"}, "192.0.1.0": {Pool: "careful", Users: usedBy("a").Users},
		"2001:db8:1::1": {Pool: "six", Users: usedBy("a", "b").Users}, "10.0.0.1": {Pool: "gone", Users: usedBy("c").Users}} {
		x.Hold(addr(a), &Claim{})
		x.Hold(addr(a), &c)
	}
	tests := []struct {
		pool   string
		v4, v6 Counts
	}{
		{pool: "careful", v4: Counts{Total: 4*254 + 2, Used: 1, Reserved: 1, Free: 4 * 254}}, // one that it has given is one that it leaves out today,
		{pool: "six", v6: Counts{Total: maxCount, Used: 1, Free: maxCount}},
		{pool: "four", v4: Counts{Total: 1<<26 - 1, Free: 1<<26 - 1}}, // 10.0.0.1 came from another
		{pool: "edge", v6: Counts{Total: maxCount, Free: maxCount}},
		{pool: "none"},
		{pool: "gone", v4: Counts{Total: 1, Used: 1}},
	}
	for _, tt := range tests {
		v4, v6 := x.CountsOf(tt.pool)
		if v4 != tt.v4 || v6 != tt.v6 {
			t.Errorf("%s: %+v %+v; want %+v %+v", tt.pool, v4, v6, tt.v4, tt.v6)
		}
	}
	x.Release(addr("192.0.0.1"))
	x.Release(addr("192.0.0.1"))
	if v4, _ := x.CountsOf("careful"); v4 != (Counts{Total: 1018, Used: 1, Free: 1017}) {
		t.Errorf("after a release: %+v", v4)
	}
}

// The names of many pools must not make a message that nobody reads, nor one that an event cannot hold.
func TestMessageOfManyPools(t *testing.T) {
	var pools []cluster.Pool
	for i := range 40 {
		p := poolOf(t, fmt.Sprintf("pool-%02d", i), fmt.Sprintf("192.0.2.%d/32", i))
		p.AutoAssign = false
		pools = append(pools, p)
	}
	d := indexOf(pools...).Decide(Request{Service: service("me"), Families: only4})
	if d.Problem == nil || !strings.Contains(d.Problem.Message, "pool-04 and 35 more") {
		t.Errorf("got %v", d.Problem)
	}
}
