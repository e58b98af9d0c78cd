package ipam

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/seamark-io/seamark/cluster"
)

// oracle does what Index does for small pools, slowly: it lists addresses and looks at each.
type oracle struct {
	pools  []cluster.Pool
	claims map[netip.Addr]Claim
}

func (o *oracle) decide(r Request) (want []netip.Addr, reason Reason) {
	var held []netip.Addr
	for a, c := range o.claims {
		if slices.Contains(c.Services, r.Service) {
			held = append(held, a)
		}
	}
	slices.SortFunc(held, netip.Addr.Compare)
	got := map[cluster.Family]netip.Addr{}
	var missing Reason
	for _, f := range r.Families {
		for _, a := range held {
			if cluster.FamilyOf(a) == f && !got[f].IsValid() && (r.Ask.Pool == "" || o.poolOf(a) == r.Ask.Pool || o.claims[a].Pool == r.Ask.Pool) &&
				(!r.Ask.Address(f).IsValid() || r.Ask.Address(f) == a) {
				got[f] = a
			}
		}
	}
	for i, f := range r.Families {
		if got[f].IsValid() {
			continue
		}
		a, why := o.find(r, f, r.Families[i+1:], got)
		if why == "" {
			got[f] = a
		} else if r.AnyFamily && !r.Ask.Address(f).IsValid() {
			if missing == "" {
				missing = why
			}
		} else {
			missing, got = why, nil
			break
		}
	}
	for _, f := range r.Families {
		if got[f].IsValid() {
			want = append(want, got[f])
		}
	}
	if len(want) == 0 {
		for _, f := range r.Families {
			for _, a := range held {
				if cluster.FamilyOf(a) == f {
					want = append(want, a)
				}
			}
		}
		for _, a := range held {
			if !slices.Contains(r.Families, cluster.FamilyOf(a)) {
				want = append(want, a)
			}
		}
		return want, missing
	}
	return want, ""
}

func (o *oracle) find(r Request, f cluster.Family, rest []cluster.Family, got map[cluster.Family]netip.Addr) (netip.Addr, Reason) {
	if a := r.Ask.Address(f); a.IsValid() {
		switch _, taken := o.claims[a]; {
		case taken:
			return netip.Addr{}, AddressTaken
		case o.poolOf(a) == "" || r.Ask.Pool != "" && o.poolOf(a) != r.Ask.Pool:
			return netip.Addr{}, AddressNotInPool
		}
		return a, ""
	}
	// The best of all free addresses, by the rules in the order in which they count.
	type option struct {
		rank [4]int
		pool string
		pos  int
		addr netip.Addr
	}
	var best *option
	known, hasFamily := r.Ask.Pool == "", false
	primary := o.bestRank(r, f)
	for _, p := range o.pools {
		known = known || p.Name == r.Ask.Pool
		if r.Ask.Pool != "" && p.Name != r.Ask.Pool || r.Ask.Pool == "" && !p.AutoAssign {
			continue
		}
		for pos, a := range list(p) {
			if cluster.FamilyOf(a) != f {
				continue
			}
			hasFamily = true
			if _, taken := o.claims[a]; taken {
				continue
			}
			opt := option{pool: p.Name, pos: pos, addr: a}
			opt.rank[0], opt.rank[1], opt.rank[2] = 1, int(p.Priority), 1
			for _, have := range got {
				if have.IsValid() && (o.poolOf(have) == p.Name && !held(o.claims, have) || o.claims[have].Pool == p.Name) {
					opt.rank[0] = 0
				}
			}
			if int(p.Priority) == primary && o.hasFree(p, rest) {
				opt.rank[2] = 0
			}
			if best == nil || slices.Compare(opt.rank[:], best.rank[:]) < 0 ||
				opt.rank == best.rank && (opt.pool < best.pool || opt.pool == best.pool && opt.pos < best.pos) {
				best = &opt
			}
		}
	}
	switch {
	case best != nil:
		return best.addr, ""
	case !known:
		return netip.Addr{}, PoolUnknown
	case !hasFamily:
		return netip.Addr{}, FamilyUnavailable
	default:
		return netip.Addr{}, PoolExhausted
	}
}

func held(claims map[netip.Addr]Claim, a netip.Addr) bool { _, ok := claims[a]; return ok }

func (o *oracle) bestRank(r Request, f cluster.Family) int {
	best := 1000
	for _, p := range o.pools {
		if (r.Ask.Pool == p.Name || r.Ask.Pool == "" && p.AutoAssign) && o.hasFree(p, []cluster.Family{f}) {
			best = min(best, int(p.Priority))
		}
	}
	return best
}

func (o *oracle) hasFree(p cluster.Pool, families []cluster.Family) bool {
	for _, f := range families {
		if !slices.ContainsFunc(list(p), func(a netip.Addr) bool { return cluster.FamilyOf(a) == f && !held(o.claims, a) }) {
			return false
		}
	}
	return true
}

func (o *oracle) poolOf(a netip.Addr) string {
	for _, p := range o.pools {
		if slices.Contains(list(p), a) {
			return p.Name
		}
	}
	return ""
}

// list writes out the usable addresses of a pool.
func list(p cluster.Pool) (out []netip.Addr) {
	for _, r := range p.Ranges {
		for a := r.From(); r.Contains(a); a = a.Next() {
			if !p.AvoidBuggyIPs || !buggy(a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// Random pools, requests, releases and pool changes: the index decides and counts as the oracle does at every step.
func TestAgainstOracle(t *testing.T) {
	const steps = 10_000
	rnd := rand.New(rand.NewPCG(1, 2))
	all := []cluster.Pool{
		poolOf(t, "a", "192.0.2.0/29", "192.0.2.12-192.0.2.14"), poolOf(t, "b", "198.51.100.253-198.51.101.2", "2001:db8::/126"),
		poolOf(t, "c", "2001:db8:c::/125"), poolOf(t, "d", "203.0.113.0/30", "2001:db8:d::1/128"), poolOf(t, "e", "203.0.113.8/30"),
	}
	all[1].AvoidBuggyIPs = true
	all[3].Priority = -1
	all[4].AutoAssign = false
	var everything []netip.Addr
	for _, p := range all {
		everything = append(everything, list(p)...)
	}
	everything = append(everything, addr("10.0.0.1"), addr("198.51.100.255"))

	o := &oracle{claims: map[netip.Addr]Claim{}}
	x := NewIndex()
	reasons := map[Reason]int{}
	for step := range steps {
		if step%500 == 0 {
			o.pools = nil
			for _, p := range all {
				if rnd.IntN(4) > 0 {
					o.pools = append(o.pools, p)
				}
			}
			x.SetPools(slices.Clone(o.pools), nil)
		}
		if rnd.IntN(10) == 0 {
			a := everything[rnd.IntN(len(everything))]
			delete(o.claims, a)
			x.Release(a)
		}
		r := Request{Service: service(fmt.Sprint(rnd.IntN(30)))}
		r.Families = [][]cluster.Family{only4, only6, dual, dual6}[rnd.IntN(4)]
		r.AnyFamily = len(r.Families) == 2 && rnd.IntN(2) == 0
		if rnd.IntN(6) == 0 {
			r.Ask.Pool = []string{"a", "b", "c", "d", "e", "gone"}[rnd.IntN(6)]
		}
		if a := everything[rnd.IntN(len(everything))]; rnd.IntN(6) == 0 && slices.Contains(r.Families, cluster.FamilyOf(a)) {
			r.Ask.Addresses = []netip.Addr{a}
		}

		want, reason := o.decide(r)
		d := x.Decide(r)
		got := reasonOf(d.Problem)
		reasons[got]++
		if got != reason || !slices.Equal(d.Addresses, want) {
			t.Fatalf("step %d: %+v:\ngot  %v %q (%v)\nwant %v %q", step, r, d.Addresses, got, d.Problem, want, reason)
		}
		if d.Problem == nil {
			for _, g := range d.Take {
				c := Claim{Services: []cluster.Name{r.Service}, Pool: g.Pool}
				x.Hold(g.Addr, c)
				o.claims[g.Addr] = c
			}
			for _, a := range d.Drop {
				x.Release(a)
				delete(o.claims, a)
			}
		}
		checkIndex(t, x, o)
	}
	for _, r := range []Reason{"", PoolUnknown, PoolExhausted, FamilyUnavailable, AddressTaken, AddressNotInPool} {
		if reasons[r] < steps/1000 {
			t.Errorf("reason %q came up only %d times: the test does not test it", r, reasons[r])
		}
	}
}

func checkIndex(t *testing.T, x *Index, o *oracle) {
	t.Helper()
	if !maps.EqualFunc(x.claims, o.claims, func(a, b Claim) bool { return a.Pool == b.Pool && slices.Equal(a.Services, b.Services) }) {
		t.Fatalf("claims %v; want %v", x.claims, o.claims)
	}
	for _, p := range o.pools {
		var want [2]Counts
		for _, a := range list(p) {
			c := &want[familyIndex(a)]
			c.Total++
			if !held(o.claims, a) {
				c.Free++
			}
		}
		for a := range o.claims {
			if p.Contains(a) {
				want[familyIndex(a)].Used++
			}
		}
		if v4, v6 := x.CountsOf(p.Name); v4 != want[0] || v6 != want[1] {
			t.Fatalf("pool %s: %+v %+v; want %+v", p.Name, v4, v6, want)
		}
	}
}

// The same Services in any order of arrival, with others coming and going, end up with the same set of addresses.
func TestHistoryIndependence(t *testing.T) {
	pools := []cluster.Pool{poolOf(t, "a", "192.0.2.0/27", "2001:db8::/120"), poolOf(t, "b", "198.51.100.0/24", "2001:db8:b::/64")}
	var first []netip.Addr
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		x := indexOf(pools...)
		settle := func(name string, leave bool) {
			d := x.Decide(Request{Service: service(name), Families: dual})
			for _, g := range d.Take {
				x.Hold(g.Addr, Claim{Services: []cluster.Name{service(name)}, Pool: g.Pool})
			}
			if leave {
				for _, a := range d.Addresses {
					x.Release(a)
				}
			}
		}
		for _, i := range rnd.Perm(60) {
			settle(fmt.Sprint(i), false)
			settle(fmt.Sprint("passer-by-", rnd.IntN(5)), true)
		}
		got := slices.SortedFunc(maps.Keys(x.claims), netip.Addr.Compare)
		if first == nil {
			first = got
		}
		if !slices.Equal(got, first) {
			t.Fatalf("seed %d: %v\nseed 0: %v", seed, got, first)
		}
	}
}
