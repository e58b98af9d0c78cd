package ipam

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// Claim is who holds an address.
type Claim struct {
	// Services that use the address, sorted; none: it is held for nobody (a reservation, or on its way out).
	Services []cluster.Name
	// Pool that the address came from.
	Pool string
}

// Index is the pools and the claims on their addresses, in a form that answers at once. The zero value is not usable:
// NewIndex. It is not safe for concurrent use.
type Index struct {
	pools     []*pool // in order of preference
	refused   map[string]string
	spans     []ownedSpan // ordered by address; they do not overlap
	claims    map[netip.Addr]Claim
	byService map[cluster.Name][]netip.Addr // sorted
}

// pool is a valid pool and its free addresses.
type pool struct {
	cluster.Pool
	spans []*span
	count [2]Counts // IPv4, IPv6
}

type ownedSpan struct {
	*span
	pool *pool
}

// Counts counts a pool's addresses of one family. Each is capped at math.MaxInt64.
type Counts struct {
	Total, Used, Free int64
}

// NewIndex returns an Index without pools and claims.
func NewIndex() *Index {
	return &Index{claims: map[netip.Addr]Claim{}, byService: map[cluster.Name][]netip.Addr{}}
}

// SetPools replaces the pools; claims stay, also those on addresses that are in no pool any more. Valid pools must not
// overlap (Judge). refused holds the names of the others and what is wrong with them.
func (x *Index) SetPools(valid []cluster.Pool, refused map[string]string) {
	x.pools, x.spans, x.refused = nil, nil, refused
	for _, p := range valid {
		pool := &pool{Pool: p}
		for _, r := range p.Ranges {
			s := newSpan(r, p.AvoidBuggyIPs)
			pool.spans = append(pool.spans, s)
			x.spans = append(x.spans, ownedSpan{s, pool})
			c := &pool.count[familyIndex(r.From())]
			c.Total = addSaturating(c.Total, s.size())
		}
		for i := range pool.count {
			pool.count[i].Free = pool.count[i].Total
		}
		x.pools = append(x.pools, pool)
	}
	slices.SortFunc(x.spans, func(a, b ownedSpan) int { return a.From().Compare(b.From()) })
	slices.SortFunc(x.pools, func(a, b *pool) int { return cmp.Or(a.compareRank(b), cmp.Compare(a.Name, b.Name)) })
	for a := range x.claims {
		x.countClaim(a, 1)
	}
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

// Hold records that the address is held, in place of any earlier claim on it.
func (x *Index) Hold(a netip.Addr, c Claim) {
	old, held := x.claims[a]
	if held && old.Pool == c.Pool && slices.Equal(old.Services, c.Services) {
		return
	}
	for _, s := range old.Services {
		x.unlink(s, a)
	}
	c.Services = slices.Clone(c.Services)
	slices.SortFunc(c.Services, cluster.Name.Compare)
	for _, s := range c.Services {
		addrs := x.byService[s]
		i, _ := slices.BinarySearchFunc(addrs, a, netip.Addr.Compare)
		x.byService[s] = slices.Insert(addrs, i, a)
	}
	x.claims[a] = c
	if !held {
		x.countClaim(a, 1)
	}
}

// Release forgets the claim on an address, if there is one.
func (x *Index) Release(a netip.Addr) {
	c, held := x.claims[a]
	if !held {
		return
	}
	for _, s := range c.Services {
		x.unlink(s, a)
	}
	delete(x.claims, a)
	x.countClaim(a, -1)
	if s, ok := x.spanOf(a); ok {
		s.release(a)
	}
}

func (x *Index) unlink(s cluster.Name, a netip.Addr) {
	addrs := x.byService[s]
	if i, ok := slices.BinarySearchFunc(addrs, a, netip.Addr.Compare); ok {
		addrs = slices.Delete(addrs, i, i+1)
	}
	if len(addrs) == 0 {
		delete(x.byService, s)
	} else {
		x.byService[s] = addrs
	}
}

// HeldBy returns the addresses of a Service, sorted. The caller must not change the slice, nor keep it over a Hold or
// Release.
func (x *Index) HeldBy(s cluster.Name) []netip.Addr { return x.byService[s] }

// Claim returns who holds an address.
func (x *Index) Claim(a netip.Addr) (Claim, bool) {
	c, ok := x.claims[a]
	return c, ok
}

// Claims returns all claims, in no order.
func (x *Index) Claims() iter.Seq2[netip.Addr, Claim] { return maps.All(x.claims) }

// PoolOf returns the name of the valid pool that the address lies in, or "".
func (x *Index) PoolOf(a netip.Addr) string {
	if s, ok := x.spanOf(a); ok {
		return s.pool.Name
	}
	return ""
}

// CountsOf returns the counts of a valid pool for each family that it has; zero Counts for a family that it lacks.
func (x *Index) CountsOf(name string) (ipv4, ipv6 Counts) {
	for _, p := range x.pools {
		if p.Name == name {
			return p.count[0], p.count[1]
		}
	}
	return Counts{}, Counts{}
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

func (x *Index) countClaim(a netip.Addr, n int64) {
	s, ok := x.spanOf(a)
	if !ok {
		return
	}
	c := &s.pool.count[familyIndex(a)]
	c.Used += n
	// A pool of 2^63 addresses or more has as many free as it can say.
	if s.usable(a) && c.Total < maxCount {
		c.Free -= n
	}
}

// lowest returns the pool's lowest free address of a family, range by range in the order written; the zero Addr when
// there is none.
func (x *Index) lowest(p *pool, f cluster.Family) netip.Addr {
	for _, s := range p.spans {
		if cluster.FamilyOf(s.From()) != f {
			continue
		}
		if a := s.lowest(x.claims); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

func (x *Index) held(a netip.Addr) bool {
	_, ok := x.claims[a]
	return ok
}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
