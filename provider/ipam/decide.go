package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

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

	// Ports of the Service, sorted, and the terms on which it shares an address with other Services.
	Ports   []cluster.Port
	Sharing Sharing

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
	// Changes of claims that make it so, first what it takes or keeps, then what it gives up.
	Changes []Change

	// Problem is why the request cannot be met; then it keeps the addresses that it has and gets no other.
	Problem *Problem
	// Missing is why a family is missing that the Service prefers to have but can do without. If it has an address of that
	// family, though not one that it asks for, it keeps that.
	Missing *Problem
}

// Decide answers a request. It changes nothing: the caller makes the Changes.
//
// What a Service holds and still fits what it asks for stays, whatever became of the pool, unless it asks to be moved. A
// family that is missing comes from a reservation for the Service; else it is the address that its status names; else one
// that it can share by its key; else one of the pool of its other address; else of the first pool in order of priority,
// then pools with a selector before those without, then pools that have all families wanted, then name.
func (x *Index) Decide(r Request) Decision {
	held := slices.Clone(x.HeldBy(r.Service))
	if p := r.invalid(); p != nil {
		return x.keep(r, held, p)
	}
	have := make(map[cluster.Family]Change, 2)
	var d Decision
	for _, f := range r.Families {
		if a, ok := x.fitting(r, f, held); ok {
			c, p := x.stay(r, a, x.claim(a))
			if p != nil {
				return x.keep(r, held, p)
			}
			have[f] = Change{a, &c}
		}
	}
	var lacking []cluster.Family
	for i, f := range r.Families {
		if _, ok := have[f]; ok {
			continue
		}
		c, p := x.find(r, f, r.Families[i+1:], have)
		switch {
		case p == nil:
			have[f] = c
		case r.AnyFamily && !r.Ask.Address(f).IsValid():
			d.Missing = cmp.Or(d.Missing, p)
			lacking = append(lacking, f)
		default:
			return x.keep(r, held, p)
		}
	}
	if len(have) == 0 {
		return x.keep(r, held, d.Missing)
	}
	for _, f := range lacking {
		if a, ok := x.oldest(f, held); ok {
			c, _ := x.stay(r, a, x.claim(a))
			have[f] = Change{a, &c}
		}
	}
	for _, f := range r.Families {
		if c, ok := have[f]; ok {
			d.Addresses = append(d.Addresses, c.Addr)
			d.Changes = x.appendChange(d.Changes, c)
		}
	}
	for _, a := range held {
		if !slices.Contains(d.Addresses, a) {
			d.Changes = append(d.Changes, x.leave(r.Service, a, false))
		}
	}
	return d
}

// Leave returns the changes that take all its addresses away from a Service that is none of ours any more. Where the pool
// retains addresses, they stay reserved for it, also while the pool gives nothing out; not where it is being deleted.
func (x *Index) Leave(s cluster.Name) []Change {
	var out []Change
	for _, a := range x.HeldBy(s) {
		out = append(out, x.leave(s, a, true))
	}
	return out
}

func (x *Index) leave(s cluster.Name, a netip.Addr, retain bool) Change {
	c := x.claim(a).without(s)
	if retain && x.retains(c.Pool) && c.empty() {
		c.ReservedFor = s
	}
	if c.empty() {
		return Change{Addr: a}
	}
	return Change{a, &c}
}

// keep answers a request that cannot be met: nothing is taken or given up. Only the ports follow the Service, as far as
// they are free at the addresses that it has.
func (x *Index) keep(r Request, held []netip.Addr, p *Problem) Decision {
	d := Decision{Problem: p}
	for _, a := range held {
		c, _ := x.stay(r, a, x.claim(a))
		d.Changes = x.appendChange(d.Changes, Change{a, &c})
	}
	d.Addresses = r.inOrder(held)
	return d
}

// appendChange appends what is not so yet.
func (x *Index) appendChange(list []Change, c Change) []Change {
	if is := x.claims[c.Addr]; is != nil && is.Equal(c.Claim) {
		return list
	}
	return append(list, c)
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

// fitting returns the address of a family that the Service holds and that is what it asks for.
func (x *Index) fitting(r Request, f cluster.Family, held []netip.Addr) (netip.Addr, bool) {
	return x.oldest(f, slices.DeleteFunc(slices.Clone(held), func(a netip.Addr) bool {
		c := x.claim(a)
		return r.Ask.Address(f).IsValid() && r.Ask.Address(f) != a ||
			r.Ask.Pool != "" && r.Ask.Pool != x.PoolOf(a) && r.Ask.Pool != c.Pool ||
			r.Ask.Reassign && (!x.wouldGive(r, a) || x.quarrel(r, a) != nil)
	}))
}

// oldest returns the oldest address of a family, so that all who look at several choose the same one.
func (x *Index) oldest(f cluster.Family, held []netip.Addr) (best netip.Addr, ok bool) {
	for _, a := range held {
		if cluster.FamilyOf(a) == f && (!ok || older(x.claim(a).Since, x.claim(best).Since)) {
			best, ok = a, true
		}
	}
	return best, ok
}

// older orders by age; what is not recorded yet is the youngest.
func older(a, b time.Time) bool {
	return !a.IsZero() && (b.IsZero() || a.Before(b))
}

// wouldGive reports whether the pools would give the address to the Service today.
func (x *Index) wouldGive(r Request, a netip.Addr) bool {
	s, ok := x.spanOf(a)
	if !ok || s.pool.Draining {
		return false
	}
	if x.claim(a).ReservedFor == r.Service {
		return true
	}
	asked := r.Ask.Pool == s.pool.Name || slices.Contains(r.Ask.Addresses, a)
	return s.usable(a) && s.pool.selects(r) && (s.pool.AutoAssign || asked)
}

// quarrel says why the Service does not fit any more at an address that it uses with others; nil: it does.
func (x *Index) quarrel(r Request, a netip.Addr) *Problem {
	_, p := x.stay(r, a, x.claim(a))
	return p
}

// find looks for an address of a family. rest are the families to be looked for next, have is what there is already.
func (x *Index) find(r Request, f cluster.Family, rest []cluster.Family, have map[cluster.Family]Change) (Change, *Problem) {
	if a := r.Ask.Address(f); a.IsValid() {
		return x.named(r, a)
	}
	if a, ok := x.reserved(r, f); ok {
		return x.named(r, a)
	}
	pools, p := x.candidates(r, f)
	if a, ok := x.preferred(r, f); ok {
		return x.take(r, a)
	}
	if p != nil {
		return Change{}, p
	}
	if a, _ := x.joinable(r, f, pools); a.IsValid() {
		c, p := x.join(r, a, x.claim(a))
		return Change{a, &c}, p
	}
	for _, g := range have {
		for _, p := range pools {
			if p.Name != g.Claim.Pool {
				continue
			}
			if a := x.lowest(p, f); a.IsValid() {
				return x.take(r, a)
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
		return x.take(r, x.lowest(p, f))
	}
	return Change{}, x.exhausted(r, pools, f)
}

// take makes a free address the Service's.
func (x *Index) take(r Request, a netip.Addr) (Change, *Problem) {
	return Change{a, &Claim{Users: []User{{Service: r.Service}}, Pool: x.PoolOf(a)}}, nil
}

// poolFor returns the pool that an address comes from if the Service gets it; nil: none gives it. An address that is kept for the
// Service and has been lost to its pool is as good as one in use: it comes from the pool that had it, unless it is somebody's
// today, or the Service is to leave what the pools would not give it.
func (x *Index) poolFor(r Request, a netip.Addr) *pool {
	if s, ok := x.spanOf(a); ok {
		return s.pool
	}
	if c := x.claim(a); c.ReservedFor == r.Service && !r.Ask.Reassign && x.TakenBy(a) == "" {
		return x.pool(c.Pool)
	}
	return nil
}

// reserved returns the lowest address of a family that is kept for the Service, if a pool gives it out.
func (x *Index) reserved(r Request, f cluster.Family) (best netip.Addr, ok bool) {
	for _, a := range x.reservations[r.Service] {
		p := x.poolFor(r, a)
		if p == nil || cluster.FamilyOf(a) != f || p.Draining || r.Ask.Pool != "" && r.Ask.Pool != p.Name {
			continue
		}
		if c := x.claim(a); len(c.Users) > 0 {
			if _, p := x.join(r, a, c); p != nil {
				continue
			}
		}
		return a, true
	}
	return best, false
}

// preferred returns an address that the Service had, if the pools and nobody else object. That a pool is draining or only
// for those who ask does not matter: it is not a new address.
func (x *Index) preferred(r Request, f cluster.Family) (netip.Addr, bool) {
	if r.Ask.Reassign {
		return netip.Addr{}, false
	}
	for _, a := range r.Prefer {
		s, ok := x.spanOf(a)
		if ok && cluster.FamilyOf(a) == f && !x.held(a) && s.usable(a) && s.pool.selects(r) &&
			(r.Ask.Pool == "" || r.Ask.Pool == s.pool.Name) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (x *Index) hasAll(p *pool, families []cluster.Family) bool {
	return !slices.ContainsFunc(families, func(f cluster.Family) bool { return !x.lowest(p, f).IsValid() })
}

// named answers a request for one address.
func (x *Index) named(r Request, a netip.Addr) (Change, *Problem) {
	c, held := x.Claim(a)
	mine := c.ReservedFor == r.Service
	if held && len(c.Users) == 0 && !mine {
		return Change{}, reservedForOthers(a, c.ReservedFor)
	}
	from := x.poolFor(r, a)
	switch {
	case from == nil && x.TakenBy(a) != "":
		return Change{}, problem(AddressNotInPool, nil, "%s is not given out: it is %s: ask for another address", a, x.TakenBy(a))
	case from == nil:
		return Change{}, problem(AddressNotInPool, nil, "%s is in no IPPool%s: ask for another address, or add this one to a pool", a, x.andRefusedFor(r))
	case r.Ask.Pool != "" && from.Name != r.Ask.Pool:
		return Change{}, problem(AddressNotInPool, []*pool{from}, "%s is in IPPool %s, but the Service names IPPool %s: change one of the two", a, from.Name, r.Ask.Pool)
	case !mine && !x.Gives(from.Name, a):
		return Change{}, problem(AddressNotInPool, []*pool{from}, "%s is left out of IPPool %s by avoidBuggyIPs: ask for another address", a, from.Name)
	case !mine && !from.selects(r):
		return Change{}, mismatch([]*pool{from})
	case c.uses(r.Service): // it is to leave what it would not get today: only this is left that could be wrong
		return Change{}, cmp.Or(x.quarrel(r, a), draining([]*pool{from}))
	case len(c.Users) > 0:
		joined, p := x.join(r, a, c)
		if p != nil && p.Reason == SharingConflict {
			p.Message += r.wayOut(a)
		}
		if p == nil && from.Draining {
			p = draining([]*pool{from})
		}
		return Change{a, &joined}, p
	case from.Draining && !slices.Contains(r.Prefer, a):
		return Change{}, draining([]*pool{from})
	}
	c.Pool = from.Name
	c.Users = []User{{Service: r.Service}}
	return Change{a, &c}, nil
}

func reservedForOthers(a netip.Addr, by cluster.Name) *Problem {
	if by == (cluster.Name{}) {
		return problem(AddressTaken, nil, "%s is reserved by a VIP without Services: ask for another address, or delete that VIP", a)
	}
	p := problem(AddressTaken, nil, "%s is reserved for Service %s: ask for another address, or delete that VIP", a, by)
	p.By = by
	return p
}

// candidates returns the pools that the request may use and that have addresses of the family, in order of preference.
func (x *Index) candidates(r Request, f cluster.Family) ([]*pool, *Problem) {
	allowed := x.pools
	if r.Ask.Pool != "" {
		p := x.pool(r.Ask.Pool)
		if p == nil {
			return nil, x.unknown(r.Ask.Pool)
		}
		allowed = []*pool{p}
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
	active := filter(selected, func(p *pool) bool { return !p.Draining })
	if len(active) == 0 {
		return nil, draining(selected)
	}
	pools := filter(active, func(p *pool) bool { return p.total[slot(f)] > 0 })
	if len(pools) == 0 {
		return nil, problem(FamilyUnavailable, active, "no %s addresses in %s%s: add a prefix of that family to a pool, or take %s out of the Service's spec.ipFamilies",
			f, poolList(names(active)), x.andRefusedFor(r), f)
	}
	return pools, nil
}

func draining(pools []*pool) *Problem {
	return problem(PoolDraining, pools, "%s: draining, so nothing new is given out: set spec.state to Active, or add another pool", poolList(names(pools)))
}

func (x *Index) exhausted(r Request, pools []*pool, f cluster.Family) *Problem {
	var used, free, total int64
	for _, p := range pools {
		n := p.free(slot(f))
		used, free, total = addSaturating(used, p.total[slot(f)]-n), addSaturating(free, n), addSaturating(total, p.total[slot(f)])
	}
	asked := ""
	if free > 0 {
		asked = fmt.Sprintf(", and %d asked for by name by Services that wait", free)
	}
	return problem(PoolExhausted, pools, "no free %s address in %s (%d of %d in use%s)%s: add addresses to a pool, or delete a Service of type LoadBalancer",
		f, poolList(names(pools)), used, total, asked, x.andRefusedFor(r))
}

func (x *Index) unknown(name string) *Problem {
	if r, ok := x.refused[name]; ok {
		return &Problem{Reason: PoolNotReady, Pools: []string{name}, Message: fmt.Sprintf("IPPool %s gives nothing out: %s", name, r.Why)}
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

// andRefusedFor is andRefused, except that to a Service that names its pool the others are nothing.
func (x *Index) andRefusedFor(r Request) string {
	if r.Ask.Pool != "" {
		return ""
	}
	return x.andRefused()
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
