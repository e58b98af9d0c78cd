package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Request is what a Service wants.
type Request struct {
	Service cluster.Name
	// Labels of the Service and of its namespace, for the selectors of pools.
	Labels          map[string]string
	NamespaceLabels map[string]string

	// Families wanted, the primary one first: spec.ipFamilies.
	Families []cluster.Family
	// AnyFamily is true where one of Families is enough, as for ipFamilyPolicy PreferDualStack.
	AnyFamily bool

	// Ask is what the Service asks for by name. Where Invalid is set, the Service keeps what it has.
	Ask     Ask
	Invalid *Problem

	// Prefer are addresses to take rather than others, if they are free and the pools allow it: what the Service's
	// status says.
	Prefer []netip.Addr
}

// Decision is what to do about a Request.
type Decision struct {
	// Addresses that the Service shall have, in the order of its families. With a Problem: that it goes on having.
	Addresses []netip.Addr
	// Take are those of Addresses that it does not hold yet.
	Take []Grant
	// Drop are the addresses that it holds and shall not have any longer.
	Drop []netip.Addr

	// Problem is why the request cannot be met; then nothing is taken or dropped.
	Problem *Problem
	// Missing is why a family is missing that the Service prefers to have but can do without.
	Missing *Problem
}

// Grant is an address to take and the pool that it comes from.
type Grant struct {
	Addr netip.Addr
	Pool string
}

// Decide answers a request. It changes nothing: the caller holds the addresses in Decision.Take.
//
// What a Service holds and still fits what it asks for stays, whatever became of the pool. A family that is missing
// comes from the pool of the Service's other address if that has a free one, else from the first pool in order of
// priority, then pools with a selector before those without, then pools that have all families wanted, then name.
func (x *Index) Decide(r Request) Decision {
	held := slices.Clone(x.HeldBy(r.Service))
	if p := r.invalid(); p != nil {
		return Decision{Addresses: r.inOrder(held), Problem: p}
	}

	have := map[cluster.Family]Grant{}
	for _, f := range r.Families {
		if a, ok := x.fitting(r, f, held); ok {
			have[f] = Grant{a, x.claims[a].Pool}
		}
	}
	var d Decision
	for i, f := range r.Families {
		if _, ok := have[f]; ok {
			continue
		}
		g, p := x.find(r, f, r.Families[i+1:], have)
		if p == nil {
			have[f] = g
			d.Take = append(d.Take, g)
			continue
		}
		if r.AnyFamily && !r.Ask.Address(f).IsValid() {
			d.Missing = cmp.Or(d.Missing, p)
			continue
		}
		return Decision{Addresses: r.inOrder(held), Problem: p}
	}
	if len(have) == 0 {
		return Decision{Addresses: r.inOrder(held), Problem: d.Missing}
	}

	for _, f := range r.Families {
		if g, ok := have[f]; ok {
			d.Addresses = append(d.Addresses, g.Addr)
		}
	}
	for _, a := range held {
		if !slices.Contains(d.Addresses, a) {
			d.Drop = append(d.Drop, a)
		}
	}
	return d
}

func (r *Request) invalid() *Problem {
	if r.Invalid != nil {
		return r.Invalid
	}
	for _, a := range r.Ask.Addresses {
		if f := cluster.FamilyOf(a); !slices.Contains(r.Families, f) {
			return problem(InvalidRequest, nil, "the Service asks for %s but has no %s family: leave the address out, or set spec.ipFamilyPolicy to PreferDualStack", a, f)
		}
	}
	return nil
}

// inOrder sorts addresses by the Service's families; those of a family that it no longer wants come last.
func (r *Request) inOrder(addrs []netip.Addr) []netip.Addr {
	rank := func(a netip.Addr) int {
		i := slices.Index(r.Families, cluster.FamilyOf(a))
		if i < 0 {
			return len(r.Families)
		}
		return i
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	return addrs
}

// fitting returns the address of a family that the Service holds and that is what it asks for; of several the one that
// its status names, then the lowest.
func (x *Index) fitting(r Request, f cluster.Family, held []netip.Addr) (best netip.Addr, ok bool) {
	for _, a := range held {
		if cluster.FamilyOf(a) != f || r.Ask.Address(f).IsValid() && r.Ask.Address(f) != a {
			continue
		}
		if r.Ask.Pool != "" && r.Ask.Pool != x.PoolOf(a) && r.Ask.Pool != x.claims[a].Pool {
			continue
		}
		if !ok || !slices.Contains(r.Prefer, best) && slices.Contains(r.Prefer, a) {
			best, ok = a, true
		}
	}
	return best, ok
}

// find looks for an address of a family. rest are the families to be looked for next, have is what there is already.
func (x *Index) find(r Request, f cluster.Family, rest []cluster.Family, have map[cluster.Family]Grant) (Grant, *Problem) {
	if a := r.Ask.Address(f); a.IsValid() {
		return x.named(r, a)
	}
	pools, p := x.candidates(r, f)
	if p != nil {
		return Grant{}, p
	}
	for _, a := range r.Prefer {
		if s, ok := x.spanOf(a); ok && cluster.FamilyOf(a) == f && !x.held(a) && s.usable(a) && slices.Contains(pools, s.pool) {
			return Grant{a, s.pool.Name}, nil
		}
	}
	for _, g := range have {
		for _, p := range pools {
			if a := x.lowest(p, f); p.Name == g.Pool && a.IsValid() {
				return Grant{a, p.Name}, nil
			}
		}
	}
	for i, p := range pools {
		if !x.lowest(p, f).IsValid() {
			continue
		}
		for _, better := range pools[i:] {
			if p.compareRank(better) == 0 && x.lowest(better, f).IsValid() && x.hasAll(better, rest) {
				p = better
				break
			}
		}
		return Grant{x.lowest(p, f), p.Name}, nil
	}
	return Grant{}, x.exhausted(pools, f)
}

func (x *Index) hasAll(p *pool, families []cluster.Family) bool {
	return !slices.ContainsFunc(families, func(f cluster.Family) bool { return !x.lowest(p, f).IsValid() })
}

// named answers a request for one address.
func (x *Index) named(r Request, a netip.Addr) (Grant, *Problem) {
	if c, ok := x.claims[a]; ok {
		if len(c.Services) == 0 {
			return Grant{}, problem(AddressTaken, nil, "%s is reserved by a VIP without Services: ask for another address", a)
		}
		p := problem(AddressTaken, nil, "%s belongs to Service %s: ask for another address, or delete that Service", a, c.Services[0])
		p.By = c.Services[0]
		return Grant{}, p
	}
	s, ok := x.spanOf(a)
	switch {
	case !ok:
		return Grant{}, problem(AddressNotInPool, nil, "%s is in no IPPool%s: ask for another address, or add this one to a pool", a, x.andRefused())
	case r.Ask.Pool != "" && s.pool.Name != r.Ask.Pool:
		return Grant{}, problem(AddressNotInPool, []*pool{s.pool}, "%s is in IPPool %s, but the Service names IPPool %s: change one of the two", a, s.pool.Name, r.Ask.Pool)
	case !s.usable(a):
		return Grant{}, problem(AddressNotInPool, []*pool{s.pool}, "%s is left out of IPPool %s by avoidBuggyIPs: ask for another address", a, s.pool.Name)
	case !s.pool.selects(r):
		return Grant{}, mismatch([]*pool{s.pool})
	}
	return Grant{a, s.pool.Name}, nil
}

// candidates returns the pools that the request may use and that have addresses of the family, in order of preference.
func (x *Index) candidates(r Request, f cluster.Family) ([]*pool, *Problem) {
	allowed := x.pools
	if r.Ask.Pool != "" {
		i := slices.IndexFunc(x.pools, func(p *pool) bool { return p.Name == r.Ask.Pool })
		if i < 0 {
			return nil, x.unknown(r.Ask.Pool)
		}
		allowed = x.pools[i : i+1]
	} else {
		allowed = filter(allowed, func(p *pool) bool { return p.AutoAssign })
		if len(allowed) == 0 {
			return nil, x.noPool()
		}
	}
	selected := filter(allowed, func(p *pool) bool { return p.selects(r) })
	if len(selected) == 0 {
		return nil, mismatch(allowed)
	}
	pools := filter(selected, func(p *pool) bool { return p.countOf(f).Total > 0 })
	if len(pools) == 0 {
		return nil, problem(FamilyUnavailable, selected, "no %s addresses in %s%s: add a prefix of that family to a pool, or take %s out of the Service's spec.ipFamilies",
			f, poolList(names(selected)), x.andRefused(), f)
	}
	return pools, nil
}

func (x *Index) exhausted(pools []*pool, f cluster.Family) *Problem {
	var used, total int64
	for _, p := range pools {
		c := p.countOf(f)
		used, total = addSaturating(used, c.Total-c.Free), addSaturating(total, c.Total)
	}
	return problem(PoolExhausted, pools, "no free %s address in %s (%d of %d in use)%s: add addresses to a pool, or delete a Service of type LoadBalancer",
		f, poolList(names(pools)), used, total, x.andRefused())
}

func (x *Index) unknown(name string) *Problem {
	if why, ok := x.refused[name]; ok {
		return &Problem{Reason: PoolNotReady, Pools: []string{name}, Message: fmt.Sprintf("IPPool %s gives nothing out: %s", name, why)}
	}
	message := fmt.Sprintf("there is no IPPool %s: create it, or change the annotation %s", name, AnnotationPool)
	if len(x.pools) > 0 {
		message += " (there is " + poolList(names(x.pools)) + ")"
	}
	return &Problem{Reason: PoolUnknown, Pools: []string{name}, Message: message}
}

func (x *Index) noPool() *Problem {
	switch {
	case len(x.pools) > 0:
		return problem(NoPool, x.pools, "%s: autoAssign is false everywhere: name a pool in the annotation %s, or set autoAssign to true%s",
			poolList(names(x.pools)), AnnotationPool, x.andRefused())
	case len(x.refused) > 0:
		p := problem(PoolNotReady, nil, "no IPPool is ready%s: see the condition Ready of each", x.andRefused())
		p.Pools = x.refusedNames()
		return p
	default:
		return problem(NoPool, nil, "there is no IPPool: create one with the addresses that Services may have")
	}
}

func mismatch(pools []*pool) *Problem {
	return problem(SelectorMismatch, pools, "%s: the selectors do not match the labels of the Service and its namespace: change the labels, or serviceSelector and namespaceSelector",
		poolList(names(pools)))
}

// andRefused names the pools that would count if they were valid: often the cause of what is missing.
func (x *Index) andRefused() string {
	if len(x.refused) == 0 {
		return ""
	}
	return " (not ready: " + strings.Join(x.refusedNames(), ", ") + ")"
}

func (x *Index) refusedNames() []string {
	var out []string
	for name := range x.refused {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (p *pool) selects(r Request) bool {
	return p.NamespaceSelector.Matches(r.NamespaceLabels) && p.ServiceSelector.Matches(r.Labels)
}

func (p *pool) countOf(f cluster.Family) Counts {
	if f == cluster.IPv4 {
		return p.count[0]
	}
	return p.count[1]
}

func names(pools []*pool) []string {
	out := make([]string, len(pools))
	for i, p := range pools {
		out[i] = p.Name
	}
	return out
}

func filter(pools []*pool, keep func(*pool) bool) []*pool {
	out := make([]*pool, 0, len(pools))
	for _, p := range pools {
		if keep(p) {
			out = append(out, p)
		}
	}
	return out
}
