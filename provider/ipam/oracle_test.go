package ipam

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// oracle does what Index does for small pools, slowly: it lists addresses and looks at each.
type oracle struct {
	pools    []Pool
	claims   map[netip.Addr]Claim
	services map[cluster.Name]Request
}

// option is an address that a Service could have, and all that counts in the choice, in the order in which it counts.
type option struct {
	addr netip.Addr
	rank []int
	pool string
	pos  int
}

func (a option) compare(b option) int {
	return cmp.Or(slices.Compare(a.rank, b.rank), cmp.Compare(a.pool, b.pool), cmp.Compare(a.pos, b.pos))
}

// find returns the best address of a family that a Service could have, knowing nothing of how the Index looks for it.
func (o *oracle) find(r Request, f cluster.Family, rest []cluster.Family, got map[cluster.Family]netip.Addr) (best netip.Addr, ok bool) {
	var options []option
	best4 := o.bestRank(r, f)
	for _, p := range o.pools {
		careless := p
		careless.AvoidBuggyIPs = false // what is reserved for a Service it may have
		for pos, a := range list(careless) {
			if cluster.FamilyOf(a) != f || r.Ask.Pool != "" && r.Ask.Pool != p.Name {
				continue
			}
			c, claimed := o.claims[a]
			selected := p.NamespaceSelector.Matches(r.NamespaceLabels) && p.ServiceSelector.Matches(r.Labels)
			auto := p.AutoAssign || r.Ask.Pool != ""
			askedByOther := false
			for _, other := range o.services {
				askedByOther = askedByOther || other.Service != r.Service && slices.Contains(other.Ask.Addresses, a) && p.ServiceSelector.Matches(other.Labels)
			}
			opt := option{addr: a, pool: p.Name, pos: pos}
			switch {
			case claimed && c.ReservedFor == r.Service && !p.Draining && (len(c.Users) == 0 || o.joins(r, c)):
				opt.rank, opt.pool, opt.pos = []int{0}, "", addrRank(a)
			case p.AvoidBuggyIPs && buggy(a):
				continue
			case !claimed && selected && slices.Contains(r.Prefer, a) && !r.Ask.Reassign:
				opt.rank, opt.pool, opt.pos = []int{1}, "", slices.Index(r.Prefer, a)
			case p.Draining || !selected || !auto:
				continue
			case claimed && len(c.Users) > 0 && o.joins(r, c):
				opt.rank = []int{2, int(p.Priority), len(p.ServiceSelector) * -1}
				opt.pos = addrRank(a)
			case claimed || askedByOther:
				continue
			default:
				opt.rank = []int{4, int(p.Priority), len(p.ServiceSelector) * -1, 1}
				for _, have := range got {
					if have.IsValid() && o.poolOf(have) == p.Name {
						opt.rank[0] = 3
					}
				}
				if opt.rank[0] == 4 && slices.Equal(opt.rank[1:3], best4) && o.hasFree(r, p, rest) {
					opt.rank[3] = 0
				}
			}
			options = append(options, opt)
		}
	}
	if len(options) == 0 {
		return best, false
	}
	return slices.MinFunc(options, option.compare).addr, true
}

// addrRank orders the few addresses of the test.
func addrRank(a netip.Addr) int {
	b := a.As16()
	return int(b[12])<<24 | int(b[13])<<16 | int(b[14])<<8 | int(b[15]) + int(b[5])<<32
}

func (o *oracle) bestRank(r Request, f cluster.Family) (best []int) {
	for _, p := range o.pools {
		rank := []int{int(p.Priority), len(p.ServiceSelector) * -1}
		if !p.Draining && (r.Ask.Pool == p.Name || r.Ask.Pool == "" && p.AutoAssign) && p.ServiceSelector.Matches(r.Labels) &&
			o.hasFree(r, p, []cluster.Family{f}) && (best == nil || slices.Compare(rank, best) < 0) {
			best = rank
		}
	}
	return best
}

// joins reports whether a Service may use an address together with those that do.
func (o *oracle) joins(r Request, c Claim) bool {
	for _, u := range c.Users {
		other := o.services[u.Service]
		ports := u.Ports
		if len(c.Users) == 1 {
			ports = other.Ports
		}
		consent := r.Service.Namespace == u.Service.Namespace ||
			slices.Contains(r.Sharing.Namespaces, u.Service.Namespace) && slices.Contains(other.Sharing.Namespaces, r.Service.Namespace)
		if r.Sharing.Key == "" || r.Sharing.Terms != other.Sharing.Terms || !consent || len(without(r.Ports, ports)) != len(r.Ports) {
			return false
		}
	}
	return true
}

func (o *oracle) hasFree(r Request, p Pool, families []cluster.Family) bool {
	for _, f := range families {
		if !slices.ContainsFunc(list(p), func(a netip.Addr) bool {
			_, claimed := o.claims[a]
			for _, other := range o.services {
				claimed = claimed || slices.Contains(other.Ask.Addresses, a) && p.ServiceSelector.Matches(other.Labels)
			}
			return cluster.FamilyOf(a) == f && !claimed
		}) {
			return false
		}
	}
	return true
}

// inRange is like poolOf, for an address that avoidBuggyIPs leaves out, too.
func (o *oracle) inRange(a netip.Addr) string {
	for _, p := range o.pools {
		p.AvoidBuggyIPs = false
		if slices.Contains(list(p), a) {
			return p.Name
		}
	}
	return ""
}

func (o *oracle) poolOf(a netip.Addr) string {
	for _, p := range o.pools {
		if slices.Contains(list(p), a) {
			return p.Name
		}
	}
	return ""
}

// list writes out the addresses that a pool can give out.
func list(p Pool) (out []netip.Addr) {
	for _, r := range p.Ranges {
		for a := r.From(); r.Contains(a); a = a.Next() {
			taken := slices.ContainsFunc(p.Taken, func(o Overlap) bool { return o.Contains(a) })
			if !taken && (!p.AvoidBuggyIPs || !buggy(a)) {
				out = append(out, a)
			}
		}
	}
	return out
}

// check compares a decision with what the oracle finds, and with what must be so for every decision.
func (o *oracle) check(r Request, d Decision) error {
	var held []netip.Addr
	for a, c := range o.claims {
		if c.uses(r.Service) {
			held = append(held, a)
		}
	}
	after := maps.Clone(o.claims)
	for _, c := range d.Changes {
		if c.Claim == nil {
			delete(after, c.Addr)
		} else {
			after[c.Addr] = *c.Claim
		}
	}
	var have []netip.Addr
	for a, c := range after {
		if c.uses(r.Service) {
			have = append(have, a)
		}
		if err := consistent(o.claims[a], c, r.Service); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	sorted := func(list []netip.Addr) []netip.Addr {
		return slices.SortedFunc(slices.Values(list), netip.Addr.Compare)
	}
	if !slices.Equal(sorted(have), sorted(d.Addresses)) {
		return fmt.Errorf("it says %v and leaves %v", d.Addresses, have)
	}
	if d.Problem != nil {
		if !slices.Equal(sorted(have), sorted(held)) {
			return fmt.Errorf("with a problem (%w) it changes %v to %v", d.Problem, held, have)
		}
		return o.checkProblem(r, d, held)
	}
	got := map[cluster.Family]netip.Addr{}
	for _, a := range d.Addresses {
		if got[cluster.FamilyOf(a)].IsValid() || !slices.Contains(r.Families, cluster.FamilyOf(a)) {
			return fmt.Errorf("addresses %v for the families %v", d.Addresses, r.Families)
		}
		got[cluster.FamilyOf(a)] = a
	}
	if len(got) < len(r.Families) && (!r.AnyFamily || len(got) == 0) {
		return fmt.Errorf("addresses %v for the families %v", d.Addresses, r.Families)
	}
	// In the order of the families: each is kept, asked for, or what the oracle finds.
	sofar := map[cluster.Family]netip.Addr{}
	for _, a := range held {
		if slices.Contains(d.Addresses, a) {
			sofar[cluster.FamilyOf(a)] = a
		}
	}
	for i, f := range r.Families {
		if sofar[f].IsValid() {
			continue
		}
		if ask := r.Ask.Address(f); ask.IsValid() {
			if got[f] != ask {
				return fmt.Errorf("asked for %s, got %s", ask, got[f])
			}
			sofar[f] = ask
			continue
		}
		a, ok := o.find(r, f, r.Families[i+1:], sofar)
		if ok != got[f].IsValid() || ok && a != got[f] {
			return fmt.Errorf("%s is %s, want %s", f, got[f], a)
		}
		if ok {
			sofar[f] = a
		}
	}
	return nil
}

// checkProblem checks that what is refused cannot be had.
func (o *oracle) checkProblem(r Request, d Decision, held []netip.Addr) error {
	switch d.Problem.Reason {
	case PoolExhausted, PoolDraining, SelectorMismatch, FamilyUnavailable, NoPool, PoolUnknown, PoolNotReady:
		for _, f := range r.Families {
			if r.Ask.Address(f).IsValid() || slices.ContainsFunc(held, func(a netip.Addr) bool { return cluster.FamilyOf(a) == f }) {
				continue
			}
			if _, ok := o.find(r, f, nil, nil); !ok {
				return nil
			}
		}
		if r.Ask.Pool != "" || r.Ask.Reassign || len(r.Ask.Addresses) > 0 {
			return nil // about an address that it names, or holds and does not count
		}
		return fmt.Errorf("%w, but every family can be had", d.Problem)
	case AddressTaken:
		for _, a := range r.Ask.Addresses {
			if c, ok := o.claims[a]; ok && !c.uses(r.Service) {
				return nil
			}
		}
		return fmt.Errorf("%w, but none is", d.Problem)
	}
	return nil
}

// consistent checks a claim after a decision about a Service.
func consistent(before, after Claim, s cluster.Name) error {
	seen := map[cluster.Port]cluster.Name{}
	for _, u := range after.Users {
		for _, p := range u.Ports {
			if other, taken := seen[p]; taken {
				return fmt.Errorf("port %s belongs to %s and to %s", p, other, u.Service)
			}
			seen[p] = u.Service
		}
	}
	for _, u := range before.Users {
		if u.Service != s && !after.uses(u.Service) {
			return fmt.Errorf("%s lost it", u.Service)
		}
		if i := slices.IndexFunc(after.Users, func(v User) bool { return v.Service == u.Service }); u.Service != s && len(before.Users) > 1 && len(after.Users) > 1 && !slices.Equal(after.Users[i].Ports, u.Ports) {
			return fmt.Errorf("%s had the ports %v and now has %v", u.Service, u.Ports, after.Users[i].Ports)
		}
	}
	return nil
}

// world is a random sequence of all that can happen to an Index, told to the oracle as well.
type world struct {
	*oracle
	x     *Index
	rnd   *rand.Rand
	all   []Pool
	addrs []netip.Addr
	clock int64
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{oracle: &oracle{claims: map[netip.Addr]Claim{}, services: map[cluster.Name]Request{}}, x: NewIndex(), rnd: rand.New(rand.NewPCG(seed, 2))}
	w.all = untaken([]cluster.Pool{
		poolOf(t, "a", "192.0.2.0/29", "192.0.2.12-192.0.2.14"), poolOf(t, "b", "198.51.100.253-198.51.101.2", "2001:db8::/126"),
		poolOf(t, "c", "2001:db8:c::/125"), poolOf(t, "d", "203.0.113.0/30", "2001:db8:d::1/128"), poolOf(t, "e", "203.0.113.8/30"),
	})
	w.all[1].AvoidBuggyIPs = true
	w.all[2].Retain = true
	w.all[3].Priority = -1
	w.all[3].ServiceSelector = cluster.Selector{{Key: "tier", Operator: cluster.In, Values: []string{"gold"}}}
	w.all[4].AutoAssign = false
	w.all[4].Retain = true
	for _, p := range w.all {
		w.addrs = append(w.addrs, list(p)...)
	}
	w.addrs = append(w.addrs, addr("10.0.0.1"), addr("198.51.100.255"))
	return w
}

func (w *world) oneOf(n int) bool           { return w.rnd.IntN(n) == 0 }
func (w *world) addr() netip.Addr           { return w.addrs[w.rnd.IntN(len(w.addrs))] }
func (w *world) service() cluster.Name      { return service(fmt.Sprint(w.rnd.IntN(30))) }
func (w *world) hold(a netip.Addr, c Claim) { w.claims[a] = c; w.x.Hold(a, c) }

// editPools has another selection of the pools, some of them draining or with a part taken.
func (w *world) editPools() {
	w.pools = nil
	for _, p := range w.all {
		p.Draining = w.oneOf(6)
		if r := p.Ranges[0]; w.oneOf(4) {
			p.Taken = overlaps(p.Ranges, []netipx.IPRange{netipx.IPRangeFrom(r.From(), r.From().Next())}, "somebody's", false)
		}
		if w.rnd.IntN(5) > 0 {
			w.pools = append(w.pools, p)
		}
	}
	w.x.SetPools(slices.Clone(w.pools), nil)
}

// request is what a Service could want.
func (w *world) request() Request {
	r := Request{Service: w.service()}
	r.Families = [][]cluster.Family{only4, only6, dual, dual6}[w.rnd.IntN(4)]
	r.AnyFamily = len(r.Families) == 2 && w.oneOf(2)
	if w.oneOf(3) {
		r.Labels = map[string]string{"tier": "gold"}
	}
	for p := range 4 {
		if w.oneOf(2) {
			r.Ports = append(r.Ports, cluster.Port{Protocol: cluster.TCP, Number: uint16(p + 1)})
		}
	}
	if w.oneOf(2) {
		r.Sharing.Key = []string{"k", "l"}[w.rnd.IntN(2)]
		if w.oneOf(4) {
			r.Sharing.Selector = "app=web"
		}
	}
	if w.oneOf(4) {
		r.Service.Namespace = "bar"
		r.Sharing.Namespaces = []string{"shop"}
	} else if w.oneOf(3) {
		r.Sharing.Namespaces = []string{"bar"}
	}
	if w.oneOf(6) {
		r.Ask.Pool = []string{"a", "b", "c", "d", "e", "gone"}[w.rnd.IntN(6)]
	}
	if a := w.addr(); w.oneOf(8) && slices.Contains(r.Families, cluster.FamilyOf(a)) {
		r.Ask.Addresses = []netip.Addr{a}
	}
	r.Ask.Reassign = w.oneOf(8)
	if w.oneOf(8) {
		r.Prefer = []netip.Addr{w.addr()}
	}
	return r
}

// Random pools, requests, reservations, releases and edits: the index decides and counts as the oracle does at every step.
func TestAgainstOracle(t *testing.T) {
	steps := 100_000
	if raceEnabled {
		steps /= 5
	}
	w := newWorld(t, 1)
	reasons := map[Reason]int{}
	shared, moved := 0, 0
	for step := range steps {
		w.clock++
		if step%200 == 0 {
			w.editPools()
		}
		if w.oneOf(20) {
			a := w.addr()
			if c, ok := w.claims[a]; !ok || len(c.Users) == 0 {
				w.hold(a, Claim{ReservedFor: w.service(), Pool: w.poolOf(a), Since: time.Unix(w.clock, 0)})
			}
		}
		if w.oneOf(10) {
			a := w.addr()
			delete(w.claims, a)
			w.x.Release(a)
		}
		if w.oneOf(4) {
			s := w.service()
			delete(w.services, s)
			w.x.Forget(s)
			for _, c := range w.x.Leave(s) {
				if err := w.checkLeave(s, c); err != nil {
					t.Fatalf("step %d: %s leaves: %v", step, s, err)
				}
				w.set(c)
			}
		}
		r := w.request()
		w.services[r.Service] = r
		w.x.Describe(r)
		d := w.x.Decide(r)
		if err := w.check(r, d); err != nil {
			t.Fatalf("step %d: %+v:\n%+v (%v)\n%v\nclaims %v", step, r, d, d.Problem, err, w.claims)
		}
		reasons[reasonOf(d.Problem)]++
		for _, c := range d.Changes {
			w.set(c)
			if c.Claim != nil && len(c.Claim.Users) > 1 {
				shared++
			}
			if c.Claim == nil {
				moved++
			}
		}
		if again := w.x.Decide(r); len(again.Changes) > 0 {
			t.Fatalf("step %d: %+v: a second time is no no-op: %+v", step, r, again)
		}
		if step%10 == 0 {
			w.checkIndex(t)
		}
		if step%1000 == 0 {
			w.checkRebuilt(t)
		}
	}
	for _, r := range []Reason{"", PoolUnknown, PoolExhausted, PoolDraining, FamilyUnavailable, AddressTaken, AddressNotInPool, SharingConflict, SelectorMismatch} {
		if reasons[r] < steps/2000 {
			t.Errorf("reason %q came up only %d times: the test does not test it", r, reasons[r])
		}
	}
	if shared < steps/100 || moved < steps/100 {
		t.Errorf("only %d shared and %d moved: the test does not test it", shared, moved)
	}
}

func (w *world) set(c Change) {
	if c.Claim == nil {
		delete(w.claims, c.Addr)
		w.x.Release(c.Addr)
		return
	}
	claim := *c.Claim
	if claim.Since.IsZero() {
		claim.Since = time.Unix(w.clock, 0)
	}
	w.hold(c.Addr, claim)
}

// checkLeave checks what becomes of an address whose Service goes.
func (w *world) checkLeave(s cluster.Name, c Change) error {
	before := w.claims[c.Addr]
	retain := slices.ContainsFunc(w.pools, func(p Pool) bool { return p.Name == before.Pool && p.Retain })
	want := before.ReservedFor
	if retain && len(before.Users) == 1 && want == (cluster.Name{}) {
		want = s
	}
	switch {
	case len(before.Users) == 1 && want == (cluster.Name{}):
		if c.Claim != nil {
			return fmt.Errorf("%s is kept: %v", c.Addr, *c.Claim)
		}
	case c.Claim == nil || c.Claim.uses(s) || c.Claim.ReservedFor != want:
		return fmt.Errorf("%s: %v becomes %v, want it reserved for %s", c.Addr, before, c.Claim, want)
	default:
		return consistent(before, *c.Claim, s)
	}
	return nil
}

func (w *world) checkIndex(t *testing.T) {
	t.Helper()
	if !maps.EqualFunc(w.x.claims, w.claims, func(a, b Claim) bool { return a.Equal(&b) }) {
		t.Fatalf("claims %v; want %v", w.x.claims, w.claims)
	}
	for _, p := range w.all {
		var want [2]Counts
		for a, c := range w.claims {
			pool := cmp.Or(c.Pool, w.inRange(a))
			switch {
			case pool != p.Name:
			case len(c.Users) > 0:
				want[slot(cluster.FamilyOf(a))].Used++
			default:
				want[slot(cluster.FamilyOf(a))].Reserved++
			}
		}
		for _, q := range w.pools {
			if q.Name != p.Name {
				continue
			}
			for _, a := range list(q) {
				c := &want[slot(cluster.FamilyOf(a))]
				c.Total++
				if _, held := w.claims[a]; !held {
					c.Free++
				}
			}
		}
		if v4, v6 := w.x.CountsOf(p.Name); v4 != want[0] || v6 != want[1] {
			t.Fatalf("pool %s: %+v %+v; want %+v %+v", p.Name, v4, v6, want[0], want[1])
		}
	}
}

// checkRebuilt tells the same objects to another index in another order: it must answer the same.
func (w *world) checkRebuilt(t *testing.T) {
	t.Helper()
	x := NewIndex()
	var tell []func()
	for a, c := range w.claims {
		tell = append(tell, func() { x.Hold(a, c) })
	}
	for _, r := range w.services {
		tell = append(tell, func() { x.Describe(r) })
	}
	pools := slices.Clone(w.pools)
	w.rnd.Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
	tell = append(tell, func() { x.SetPools(pools, nil) })
	w.rnd.Shuffle(len(tell), func(i, j int) { tell[i], tell[j] = tell[j], tell[i] })
	for _, f := range tell {
		f()
	}
	for range 50 {
		r := w.request()
		a, b := w.x.Decide(r), x.Decide(r)
		if !slices.Equal(a.Addresses, b.Addresses) || reasonOf(a.Problem) != reasonOf(b.Problem) || len(a.Changes) != len(b.Changes) {
			t.Fatalf("%+v:\n%+v (%v)\nrebuilt in another order:\n%+v (%v)", r, a, a.Problem, b, b.Problem)
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
		// Two that ask by name, known before anyone is served.
		asks := map[string]Ask{"7": {Addresses: addrs("192.0.2.9")}, "8": {Addresses: addrs("192.0.2.3 2001:db8::3")}}
		request := func(name string) Request {
			return Request{Service: service(name), Families: dual, Ask: asks[name]}
		}
		for name := range asks {
			x.Describe(request(name))
		}
		settle := func(name string, leave bool) {
			for _, c := range x.Decide(request(name)).Changes {
				x.Set(c)
			}
			if leave {
				for _, c := range x.Leave(service(name)) {
					x.Set(c)
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
