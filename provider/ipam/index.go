package ipam

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Index is the pools, the claims on their addresses, and what Services want of each other, in a form that answers at once.
// What it answers does not depend on the order in which it was told. The zero value is not usable: NewIndex. It is not
// safe for concurrent use.
type Index struct {
	pools     []*pool // in order of preference
	byName    map[string]*pool
	refused   map[string]Refused
	spans     []ownedSpan // ordered by address; they do not overlap
	taken     []Overlap   // ordered by address; they may overlap
	claims    map[netip.Addr]*Claim
	byService map[cluster.Name][]netip.Addr // sorted
	// reservations are the addresses that are reserved for a Service, in use or not; sorted.
	reservations map[cluster.Name][]netip.Addr
	// uses counts the claims by their pool, also one that does not exist.
	uses map[string]*[2]uses

	// parties are the Services that share, byKey those of each key.
	parties map[cluster.Name]party
	byKey   map[string]map[cluster.Name]struct{}
	// askers are the Services that ask for addresses by name, askedBy those of each address.
	askers  map[cluster.Name]Request
	askedBy map[netip.Addr][]cluster.Name
}

// Pool is a pool that gives out addresses: those of its ranges that are not taken.
type Pool struct {
	cluster.Pool
	// Taken are the parts of its ranges that belong to somebody else.
	Taken []Overlap
}

// Overlap is a range of a pool that belongs to somebody else.
type Overlap struct {
	netipx.IPRange
	// By says whose, after "is": "part of the pod range of node n1"; or it is "IPPool" and a name.
	By string
	// older is true when it is an older pool, which gives the addresses out.
	older bool
}

// Refused is what counts of a pool that gives nothing out.
type Refused struct {
	// Why, and what to change.
	Why string
	// Retain is its reclaim policy.
	Retain bool
	// Deleted is true for a pool that is only there until its last address is free.
	Deleted bool
}

// pool is a Pool and its free addresses.
type pool struct {
	Pool
	spans []*span
	total [2]int64 // IPv4, IPv6: how many it can give out if none is held
	held  [2]int64 // claims on addresses that count in total
}

type ownedSpan struct {
	*span
	pool *pool
}

type uses struct{ used, reserved int64 }

// Counts counts a pool's addresses of one family. Each is capped at math.MaxInt64.
type Counts struct {
	// Total is how many it has given out or can give out: all the others together.
	Total int64
	// Used and Reserved are the claims with and without Services that came from the pool, wherever they lie today, or lie in
	// it and name none.
	Used, Reserved int64
	// Free is how many it can give out now.
	Free int64
}

// NewIndex returns an Index without pools and claims.
func NewIndex() *Index {
	return &Index{
		claims: map[netip.Addr]*Claim{}, byService: map[cluster.Name][]netip.Addr{},
		reservations: map[cluster.Name][]netip.Addr{}, uses: map[string]*[2]uses{},
		parties: map[cluster.Name]party{}, byKey: map[string]map[cluster.Name]struct{}{},
		askers: map[cluster.Name]Request{}, askedBy: map[netip.Addr][]cluster.Name{},
	}
}

// SetPools replaces the pools; claims stay, also those on addresses that are in no pool any more. What two pools have in
// common must be taken in one of them (Judge). refused holds those that give nothing out, by name.
func (x *Index) SetPools(pools []Pool, refused map[string]Refused) {
	x.pools, x.byName, x.spans, x.taken, x.refused = nil, map[string]*pool{}, nil, nil, refused
	for _, p := range pools {
		pool := &pool{Pool: p}
		for _, r := range p.givable() {
			s := newSpan(r, p.AvoidBuggyIPs)
			pool.spans = append(pool.spans, s)
			x.spans = append(x.spans, ownedSpan{s, pool})
			total := &pool.total[slot(cluster.FamilyOf(r.From()))]
			*total = addSaturating(*total, s.size())
		}
		x.taken = append(x.taken, p.Taken...)
		x.pools = append(x.pools, pool)
		x.byName[p.Name] = pool
	}
	slices.SortFunc(x.spans, func(a, b ownedSpan) int { return a.From().Compare(b.From()) })
	slices.SortStableFunc(x.taken, func(a, b Overlap) int { return a.From().Compare(b.From()) })
	slices.SortFunc(x.pools, func(a, b *pool) int { return cmp.Or(a.compareRank(b), cmp.Compare(a.Name, b.Name)) })
	x.uses = map[string]*[2]uses{}
	for a, c := range x.claims {
		x.countHeld(a, 1)
		x.countUse(a, *c, 1)
	}
}

// givable returns the pool's ranges without what is taken, in the order in which they are written.
func (p *Pool) givable() (out []netipx.IPRange) {
	if len(p.Taken) == 0 {
		return p.Ranges
	}
	for _, r := range p.Ranges {
		var b netipx.IPSetBuilder
		b.AddRange(r)
		for _, t := range p.Taken {
			b.RemoveRange(t.IPRange)
		}
		if set, err := b.IPSet(); err == nil { // ranges that parsed make a set
			out = append(out, set.Ranges()...)
		}
	}
	return out
}

// compareRank orders pools that a request may use: by priority, and a pool that selects the Service before one that is
// for everybody.
func (p *pool) compareRank(q *pool) int {
	everybody := func(p *pool) int {
		if len(p.NamespaceSelector)+len(p.ServiceSelector) == 0 {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(p.Priority, q.Priority), cmp.Compare(everybody(p), everybody(q)))
}

// Set makes the change of a Decision.
func (x *Index) Set(c Change) {
	if c.Claim == nil {
		x.Release(c.Addr)
	} else {
		x.Hold(c.Addr, c.Claim)
	}
}

// Hold records a claim on an address, in place of any earlier one. The index keeps c, which must not be changed any more.
func (x *Index) Hold(a netip.Addr, c *Claim) {
	old, held := x.Claim(a)
	for _, u := range old.Users {
		if !c.uses(u.Service) {
			unlink(x.byService, u.Service, a)
		}
	}
	for _, u := range c.Users {
		link(x.byService, u.Service, a)
	}
	if old.ReservedFor != c.ReservedFor {
		unlink(x.reservations, old.ReservedFor, a)
		link(x.reservations, c.ReservedFor, a)
	}
	if held {
		x.countUse(a, old, -1)
	} else {
		x.countHeld(a, 1)
	}
	x.countUse(a, *c, 1)
	x.claims[a] = c
}

// Release forgets the claim on an address, if there is one.
func (x *Index) Release(a netip.Addr) {
	c, held := x.Claim(a)
	if !held {
		return
	}
	for _, u := range c.Users {
		unlink(x.byService, u.Service, a)
	}
	unlink(x.reservations, c.ReservedFor, a)
	delete(x.claims, a)
	x.countUse(a, c, -1)
	x.countHeld(a, -1)
	x.freed(a)
}

func (x *Index) freed(a netip.Addr) {
	if s, ok := x.spanOf(a); ok {
		s.release(a)
	}
}

// link adds an address to those of a Service; the zero Name has none.
func link(m map[cluster.Name][]netip.Addr, s cluster.Name, a netip.Addr) {
	if s == (cluster.Name{}) {
		return
	}
	if i, linked := slices.BinarySearchFunc(m[s], a, netip.Addr.Compare); !linked {
		m[s] = slices.Insert(m[s], i, a)
	}
}

func unlink(m map[cluster.Name][]netip.Addr, s cluster.Name, a netip.Addr) {
	addrs := m[s]
	if i, linked := slices.BinarySearchFunc(addrs, a, netip.Addr.Compare); linked {
		addrs = slices.Delete(addrs, i, i+1)
		m[s] = addrs
	}
	if len(addrs) == 0 {
		delete(m, s)
	}
}

// Describe tells what a Service wants, so that others find those that they can share with, and leave alone what somebody
// asks for by name. It replaces what was told of it before, and reports whether that makes a difference to others.
func (x *Index) Describe(r Request) (news bool) {
	if x.knows(r) {
		return false
	}
	news = x.Forget(r.Service)
	if r.Invalid != nil {
		return news
	}
	if r.Sharing.Key != "" {
		x.parties[r.Service] = party{r.Sharing, r.Ports}
		if x.byKey[r.Sharing.Key] == nil {
			x.byKey[r.Sharing.Key] = map[cluster.Name]struct{}{}
		}
		x.byKey[r.Sharing.Key][r.Service] = struct{}{}
		news = true
	}
	if len(r.Ask.Addresses) > 0 {
		x.askers[r.Service] = r
		for _, a := range r.Ask.Addresses {
			x.askedBy[a] = append(x.askedBy[a], r.Service)
		}
		news = true
	}
	return news
}

// knows reports whether all that counts of a request has been told.
func (x *Index) knows(r Request) bool {
	p, shares := x.parties[r.Service]
	was, asks := x.askers[r.Service]
	if r.Invalid != nil || shares != (r.Sharing.Key != "") || asks != (len(r.Ask.Addresses) > 0) {
		return r.Invalid != nil && !shares && !asks
	}
	if shares && (p.Terms != r.Sharing.Terms || !slices.Equal(p.Namespaces, r.Sharing.Namespaces) || !slices.Equal(p.ports, r.Ports)) {
		return false
	}
	return !asks || was.Ask.Pool == r.Ask.Pool && slices.Equal(was.Ask.Addresses, r.Ask.Addresses) && slices.Equal(was.Families, r.Families) &&
		maps.Equal(was.Labels, r.Labels) && maps.Equal(was.NamespaceLabels, r.NamespaceLabels)
}

// Shares reports whether a Service is known to share addresses.
func (x *Index) Shares(s cluster.Name) bool {
	_, ok := x.parties[s]
	return ok
}

// Forget takes back what Describe told, and reports whether that makes a difference to others. Addresses that the Service
// holds stay.
func (x *Index) Forget(s cluster.Name) (news bool) {
	if p, ok := x.parties[s]; ok {
		news = true
		delete(x.parties, s)
		delete(x.byKey[p.Key], s)
		if len(x.byKey[p.Key]) == 0 {
			delete(x.byKey, p.Key)
		}
	}
	if r, ok := x.askers[s]; ok {
		news = true
		delete(x.askers, s)
		for _, a := range r.Ask.Addresses {
			x.askedBy[a] = slices.DeleteFunc(x.askedBy[a], func(n cluster.Name) bool { return n == s })
			if len(x.askedBy[a]) == 0 {
				delete(x.askedBy, a)
			}
			if !x.held(a) {
				x.freed(a)
			}
		}
	}
	return news
}

// Described returns the Services that were described and may count for others, in no order.
func (x *Index) Described() []cluster.Name {
	out := slices.Collect(maps.Keys(x.parties))
	for s := range x.askers {
		if !x.Shares(s) {
			out = append(out, s)
		}
	}
	return out
}

// asked returns a Service that asks for the address by name and may have it.
func (x *Index) asked(a netip.Addr) (by cluster.Name, ok bool) {
	askers := x.askedBy[a]
	if len(askers) == 0 {
		return cluster.Name{}, false
	}
	s, inPool := x.spanOf(a)
	if !inPool {
		return cluster.Name{}, false
	}
	for _, name := range askers {
		r := x.askers[name]
		if slices.Contains(r.Families, cluster.FamilyOf(a)) && (r.Ask.Pool == "" || r.Ask.Pool == s.pool.Name) && s.pool.selects(r) {
			return name, true
		}
	}
	return cluster.Name{}, false
}

// HeldBy returns the addresses of a Service, sorted. The caller must not change the slice, nor keep it over a Hold or
// Release.
func (x *Index) HeldBy(s cluster.Name) []netip.Addr { return x.byService[s] }

// Claim returns who holds an address.
func (x *Index) Claim(a netip.Addr) (Claim, bool) {
	if c := x.claims[a]; c != nil {
		return *c, true
	}
	return Claim{}, false
}

// claim returns who holds an address; the zero Claim: nobody.
func (x *Index) claim(a netip.Addr) Claim {
	c, _ := x.Claim(a)
	return c
}

// Claims returns all claims, in no order. They must not be changed.
func (x *Index) Claims() iter.Seq2[netip.Addr, *Claim] { return maps.All(x.claims) }

// PoolOf returns the name of the pool that can give the address out, or "".
func (x *Index) PoolOf(a netip.Addr) string {
	if s, ok := x.spanOf(a); ok {
		return s.pool.Name
	}
	return ""
}

// Gives reports whether a pool gives out an address: it lies in it, is nobody else's, and is not left out by avoidBuggyIPs. That
// it is in use, or the pool drains, does not matter.
func (x *Index) Gives(pool string, a netip.Addr) bool {
	s, ok := x.spanOf(a)
	return ok && s.pool.Name == pool && s.usable(a)
}

// TakenBy says who else has the address of a pool; "": nobody.
func (x *Index) TakenBy(a netip.Addr) string {
	for _, t := range x.taken {
		if t.Contains(a) && !t.older {
			return t.By
		}
	}
	return ""
}

// CountsOf returns the counts of a pool for each family that it has; zero Counts for a family that it lacks. A pool that
// does not exist or gives nothing out still has its uses.
func (x *Index) CountsOf(name string) (ipv4, ipv6 Counts) {
	var out [2]Counts
	if p := x.byName[name]; p != nil {
		for i := range out {
			out[i].Free = p.free(i)
		}
	}
	if u := x.uses[name]; u != nil {
		for i := range out {
			out[i].Used, out[i].Reserved = u[i].used, u[i].reserved
		}
	}
	for i := range out {
		out[i].Total = addSaturating(out[i].Free, out[i].Used+out[i].Reserved)
	}
	return out[0], out[1]
}

// free returns how many addresses can be given out. A pool of 2^63 addresses or more has as many as it can say.
func (p *pool) free(family int) int64 {
	if p.total[family] == maxCount {
		return maxCount
	}
	return p.total[family] - p.held[family]
}

// pool returns a pool that gives out addresses; nil: it does not, or there is none of the name.
func (x *Index) pool(name string) *pool { return x.byName[name] }

// exists reports whether there is a pool, one that is refused among them, and nobody has deleted it.
func (x *Index) exists(name string) bool {
	r, refused := x.refused[name]
	return x.pool(name) != nil || refused && !r.Deleted
}

// retains reports whether a pool keeps an address for its Service after that is gone.
func (x *Index) retains(name string) bool {
	if p := x.pool(name); p != nil {
		return p.Retain
	}
	return x.exists(name) && x.refused[name].Retain
}

func (x *Index) spanOf(a netip.Addr) (ownedSpan, bool) {
	i, exact := slices.BinarySearchFunc(x.spans, a, func(s ownedSpan, a netip.Addr) int { return s.From().Compare(a) })
	if !exact {
		i--
	}
	if i < 0 || !x.spans[i].Contains(a) {
		return ownedSpan{}, false
	}
	return x.spans[i], true
}

func (x *Index) countHeld(a netip.Addr, n int64) {
	if s, ok := x.spanOf(a); ok && s.usable(a) {
		s.pool.held[slot(cluster.FamilyOf(a))] += n
	}
}

// countUse counts a claim for the pool that it names; if it names none, as a person's reservation may, for the one that it
// lies in.
func (x *Index) countUse(a netip.Addr, c Claim, n int64) {
	name := c.Pool
	if name == "" {
		name = x.PoolOf(a)
	}
	u := x.uses[name]
	if u == nil {
		u = &[2]uses{}
		x.uses[name] = u
	}
	if len(c.Users) > 0 {
		u[slot(cluster.FamilyOf(a))].used += n
	} else {
		u[slot(cluster.FamilyOf(a))].reserved += n
	}
	if *u == [2]uses{} {
		delete(x.uses, name)
	}
}

// lowest returns the pool's lowest free address of a family, range by range in the order written; the zero Addr when
// there is none.
func (x *Index) lowest(p *pool, f cluster.Family) netip.Addr {
	for _, s := range p.spans {
		if cluster.FamilyOf(s.From()) != f {
			continue
		}
		if a := s.lowest(x.spoken); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// spoken reports whether an address is not for those who ask for any.
func (x *Index) spoken(a netip.Addr) bool {
	if x.held(a) {
		return true
	}
	_, asked := x.asked(a)
	return asked
}

func (x *Index) held(a netip.Addr) bool {
	_, ok := x.claims[a]
	return ok
}

// slot is the place of a family in a pair of counts.
func slot(f cluster.Family) int {
	if f == cluster.IPv4 {
		return 0
	}
	return 1
}
