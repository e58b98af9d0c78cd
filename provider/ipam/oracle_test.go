package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// oracle is the Index and Judge once more, written to be read: the pools are lists of all their addresses, and each
// question looks at every one of them.
type oracle struct {
	pools    []writtenPool
	foreign  []netipx.IPRange
	claims   map[netip.Addr]Claim
	services map[cluster.Name]Request // what the Services want that can be read
	places   []place                  // of all pools, by name, in the order written
}

// writtenPool is a pool as a person wrote it. Its ranges do not overlap each other.
type writtenPool struct {
	cluster.Pool
	created         time.Time
	broken, deleted bool
}

// place is an address that a pool gives out.
type place struct {
	addr netip.Addr
	pool writtenPool
}

// arrange finds out which pool gives out which address: of those that have it the oldest, and none what is foreign.
func (o *oracle) arrange() {
	o.places = nil
	byName := slices.SortedFunc(slices.Values(o.pools), func(a, b writtenPool) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range byName {
		for _, r := range p.Ranges {
			for a := r.From(); r.Contains(a); a = a.Next() {
				if o.owner(a) == p.Name {
					o.places = append(o.places, place{a, p})
				}
			}
		}
	}
}

// owner is the pool that gives an address out.
func (o *oracle) owner(a netip.Addr) string {
	for _, r := range o.foreign {
		if r.Contains(a) {
			return ""
		}
	}
	var oldest *writtenPool
	for _, p := range o.pools {
		older := oldest == nil || p.created.Before(oldest.created) || p.created.Equal(oldest.created) && p.Name < oldest.Name
		if p.Contains(a) && !p.broken && !p.deleted && older {
			oldest = &p
		}
	}
	if oldest == nil {
		return ""
	}
	return oldest.Name
}

// gives reports whether a pool gives out addresses at all.
func (o *oracle) gives(name string) bool {
	return slices.ContainsFunc(o.places, func(at place) bool { return at.pool.Name == name })
}

func (o *oracle) pool(name string) (writtenPool, bool) {
	for _, p := range o.pools {
		if p.Name == name {
			return p, true
		}
	}
	return writtenPool{}, false
}

func (o *oracle) at(a netip.Addr) (place, bool) {
	for _, at := range o.places {
		if at.addr == a {
			return at, true
		}
	}
	return place{}, false
}

// placeFor is where an address comes from for a Service: the pool that gives it out, or, where it is reserved for the Service and no
// pool has it, the one that had it when the Service used it.
func (o *oracle) placeFor(r Request, a netip.Addr) (place, bool) {
	if at, ok := o.at(a); ok {
		return at, true
	}
	c := o.claims[a]
	p, _ := o.pool(c.Pool)
	isForeign := slices.ContainsFunc(o.pools, func(q writtenPool) bool { return o.gives(q.Name) && q.Contains(a) })
	if r.Ask.Reassign || c.ReservedFor != r.Service || !o.gives(p.Name) || isForeign {
		return place{}, false
	}
	return place{a, p}, true
}

// leftOut reports whether avoidBuggyIPs keeps the address back.
func (at place) leftOut() bool {
	if !at.pool.AvoidBuggyIPs || !at.addr.Is4() {
		return false
	}
	last := at.addr.As4()[3]
	return last == 0 || last == 255
}

func (p writtenPool) isFor(r Request) bool {
	return p.NamespaceSelector.Matches(r.NamespaceLabels) && p.ServiceSelector.Matches(r.Labels)
}

// free reports whether an address is there for those who ask for any.
func (o *oracle) free(at place) bool {
	if _, claimed := o.claims[at.addr]; claimed || at.leftOut() {
		return false
	}
	for _, s := range o.services {
		hasFamily := slices.Contains(s.Families, cluster.FamilyOf(at.addr))
		contradicts := s.Ask.Pool != "" && s.Ask.Pool != at.pool.Name
		if slices.Contains(s.Ask.Addresses, at.addr) && hasFamily && !contradicts && at.pool.isFor(s) {
			return false
		}
	}
	return true
}

func (o *oracle) heldBy(s cluster.Name) (held []netip.Addr) {
	for a, c := range o.claims {
		if c.uses(s) {
			held = append(held, a)
		}
	}
	slices.SortFunc(held, netip.Addr.Compare)
	return held
}

// refusal is why a request, or a family, cannot be had: each of these reasons is true, and one of them must be told.
type refusal struct {
	reasons []Reason
	pools   []string     // that must be named; nil: it does not matter
	about   []netip.Addr // whose users can be named
}

func refused(reason Reason) *refusal { return &refusal{reasons: []Reason{reason}} }

// answer is what a Service shall have.
type answer struct {
	addrs            map[cluster.Family]netip.Addr
	refused, missing *refusal
}

// decide keeps of what a Service holds what fits, and looks for what is missing.
func (o *oracle) decide(r Request) answer {
	held := o.heldBy(r.Service)
	if r.Invalid != nil || slices.ContainsFunc(r.Ask.Addresses, func(a netip.Addr) bool { return !slices.Contains(r.Families, cluster.FamilyOf(a)) }) {
		return answer{refused: refused(InvalidRequest)}
	}
	got := answer{addrs: map[cluster.Family]netip.Addr{}}
	for _, f := range r.Families {
		if a := o.kept(r, f, held); a.IsValid() {
			if o.quarrels(r, a) {
				return answer{refused: &refusal{reasons: []Reason{SharingConflict}, about: []netip.Addr{a}}}
			}
			got.addrs[f] = a
		}
	}
	for i, f := range r.Families {
		if got.addrs[f].IsValid() {
			continue
		}
		a, why := o.find(r, f, r.Families[i+1:], got.addrs)
		switch {
		case why == nil:
			got.addrs[f] = a
		case !r.AnyFamily || r.Ask.Address(f).IsValid():
			return answer{refused: why}
		case got.missing == nil:
			got.missing = why
		}
	}
	if len(got.addrs) == 0 {
		return answer{refused: got.missing}
	}
	for _, f := range r.Families {
		of := slices.DeleteFunc(slices.Clone(held), func(a netip.Addr) bool { return cluster.FamilyOf(a) != f })
		if !got.addrs[f].IsValid() && len(of) > 0 {
			got.addrs[f] = o.oldest(of) // better than none
		}
	}
	return got
}

// kept is the oldest address of a family that the Service holds and that fits its request.
func (o *oracle) kept(r Request, f cluster.Family, held []netip.Addr) netip.Addr {
	var fit []netip.Addr
	for _, a := range held {
		c := o.claims[a]
		at, inPool := o.at(a)
		ask := r.Ask.Address(f)
		rightPool := r.Ask.Pool == "" || c.Pool == r.Ask.Pool || inPool && at.pool.Name == r.Ask.Pool
		if cluster.FamilyOf(a) != f || ask.IsValid() && ask != a || !rightPool {
			continue
		}
		automatic := inPool && (at.pool.AutoAssign || ask == a || r.Ask.Pool == at.pool.Name)
		today := inPool && !at.pool.Draining && (c.ReservedFor == r.Service || automatic && at.pool.isFor(r) && !at.leftOut())
		if r.Ask.Reassign && (!today || o.quarrels(r, a)) {
			continue
		}
		fit = append(fit, a)
	}
	if len(fit) == 0 {
		return netip.Addr{}
	}
	return o.oldest(fit)
}

func (o *oracle) oldest(of []netip.Addr) netip.Addr {
	return slices.MinFunc(of, func(a, b netip.Addr) int {
		sinceA, sinceB := o.claims[a].Since, o.claims[b].Since
		switch {
		case sinceA.IsZero() && !sinceB.IsZero():
			return 1 // not recorded yet: young
		case sinceB.IsZero() && !sinceA.IsZero():
			return -1
		}
		return cmp.Or(sinceA.Compare(sinceB), a.Compare(b))
	})
}

// others are the users of an address without the Service, with the ports that they have there.
func (o *oracle) others(a netip.Addr, s cluster.Name) (out []User) {
	users := o.claims[a].Users
	for _, u := range users {
		if len(users) == 1 {
			u.Ports = o.services[u.Service].Ports // all of them
		}
		if u.Service != s {
			out = append(out, u)
		}
	}
	return out
}

func overlap(a, b []cluster.Port) bool {
	return slices.ContainsFunc(a, func(p cluster.Port) bool { return slices.Contains(b, p) })
}

// sharesWith reports whether r would share with Services of a namespace.
func sharesWith(r Request, namespace string) bool {
	return r.Service.Namespace == namespace || slices.Contains(r.Sharing.Namespaces, namespace)
}

// company is what keeps a Service from one who uses an address: the keys, or the terms. Ports do not count.
func (o *oracle) company(r Request, with cluster.Name) (why []Reason) {
	other := o.services[with]
	if r.Sharing.Key == "" || other.Sharing.Key == "" {
		return []Reason{AddressTaken}
	}
	if r.Sharing.Terms != other.Sharing.Terms || !sharesWith(r, with.Namespace) || !sharesWith(other, r.Service.Namespace) {
		return []Reason{SharingConflict}
	}
	return nil
}

// unshared is what keeps a Service from an address that others use: what they have told, and the ports that they have.
func (o *oracle) unshared(r Request, a netip.Addr) (why []Reason) {
	for _, u := range o.others(a, r.Service) {
		why = append(why, o.company(r, u.Service)...)
		if overlap(r.Ports, u.Ports) {
			why = append(why, SharingConflict)
		}
	}
	return why
}

// agreed reports whether all who use an address have the terms of the Service today.
func (o *oracle) agreed(r Request, a netip.Addr) bool {
	return !slices.ContainsFunc(o.others(a, r.Service), func(u User) bool { return len(o.company(r, u.Service)) > 0 })
}

// quarrels reports whether a Service does not fit any more at an address that it uses with others, by what it does itself.
func (o *oracle) quarrels(r Request, a netip.Addr) bool {
	others := o.others(a, r.Service)
	if len(others) == 0 {
		return false
	}
	return r.Sharing.Terms != o.claims[a].Terms && !o.agreed(r, a) || slices.ContainsFunc(others, func(u User) bool {
		return !sharesWith(r, u.Service.Namespace) || overlap(r.Ports, u.Ports)
	})
}

// option is an address that a Service could have, and what counts in the choice, in the order in which it counts.
type option struct {
	rank []int
	pool string // by name, where it counts
	pos  int    // in the pool, where it counts
	addr netip.Addr
}

func (a option) compare(b option) int {
	return cmp.Or(slices.Compare(a.rank, b.rank), cmp.Compare(a.pool, b.pool), cmp.Compare(a.pos, b.pos), a.addr.Compare(b.addr))
}

// find returns the best address of a family that a Service could have.
func (o *oracle) find(r Request, f cluster.Family, rest []cluster.Family, got map[cluster.Family]netip.Addr) (netip.Addr, *refusal) {
	if a := r.Ask.Address(f); a.IsValid() {
		return a, o.obstacles(r, a)
	}
	freeOf := map[string]map[cluster.Family]bool{}
	for _, at := range o.places {
		if freeOf[at.pool.Name] == nil {
			freeOf[at.pool.Name] = map[cluster.Family]bool{}
		}
		if o.free(at) {
			freeOf[at.pool.Name][cluster.FamilyOf(at.addr)] = true
		}
	}
	var options []option
	places := slices.Clone(o.places)
	for a := range o.claims {
		_, inPool := o.at(a)
		if at, ok := o.placeFor(r, a); ok && !inPool {
			places = append(places, at)
		}
	}
	for pos, at := range places {
		if cluster.FamilyOf(at.addr) != f || r.Ask.Pool != "" && r.Ask.Pool != at.pool.Name {
			continue
		}
		if opt, ok := o.option(r, at, got); ok {
			if opt.rank[0] >= 3 {
				opt.pos = pos
			}
			if opt.rank[0] == 4 {
				lacks := slices.ContainsFunc(rest, func(g cluster.Family) bool { return !freeOf[at.pool.Name][g] })
				opt.rank = append(opt.rank, number(lacks))
			}
			options = append(options, opt)
		}
	}
	if len(options) == 0 {
		return netip.Addr{}, o.whyNone(r, f)
	}
	return slices.MinFunc(options, option.compare).addr, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// option says what an address is to a Service that asks for any: reserved for it (0), its address of before (1), one that it
// can share (2), one beside its other address (3), or any (4).
func (o *oracle) option(r Request, at place, got map[cluster.Family]netip.Addr) (option, bool) {
	c, claimed := o.claims[at.addr]
	shared := len(c.Users) > 0 && len(o.unshared(r, at.addr)) == 0
	mine := claimed && c.ReservedFor == r.Service
	if mine && !at.pool.Draining && (len(c.Users) == 0 || shared) {
		return option{rank: []int{0}, addr: at.addr}, true
	}
	if at.leftOut() || !at.pool.isFor(r) {
		return option{}, false
	}
	if before := slices.Index(r.Prefer, at.addr); !claimed && before >= 0 && !r.Ask.Reassign {
		return option{rank: []int{1, before}, addr: at.addr}, true
	}
	if at.pool.Draining || !at.pool.AutoAssign && r.Ask.Pool == "" {
		return option{}, false
	}
	preference := []int{int(at.pool.Priority), number(len(at.pool.NamespaceSelector)+len(at.pool.ServiceSelector) == 0)}
	if shared {
		return option{rank: append([]int{2}, preference...), pool: at.pool.Name, addr: at.addr}, true
	}
	if !o.free(at) {
		return option{}, false
	}
	for _, a := range got {
		if o.after(r, a).Pool == at.pool.Name {
			return option{rank: []int{3}, addr: at.addr}, true
		}
	}
	return option{rank: append([]int{4}, preference...), pool: at.pool.Name, addr: at.addr}, true
}

// obstacles is all that keeps a Service from the address that it asks for by name; nil: nothing.
func (o *oracle) obstacles(r Request, a netip.Addr) *refusal {
	var why []Reason
	c, claimed := o.claims[a]
	mine := claimed && c.ReservedFor == r.Service
	at, inPool := o.placeFor(r, a)
	if claimed && len(c.Users) == 0 && !mine {
		why = append(why, AddressTaken)
	}
	if !inPool || r.Ask.Pool != "" && r.Ask.Pool != at.pool.Name || at.leftOut() && !mine {
		why = append(why, AddressNotInPool)
	}
	if inPool && !at.pool.isFor(r) && !mine {
		why = append(why, SelectorMismatch)
	}
	before := slices.Contains(r.Prefer, a) && len(c.Users) == 0
	if inPool && at.pool.Draining && !before {
		why = append(why, PoolDraining)
	}
	why = append(why, o.unshared(r, a)...)
	if c.uses(r.Service) && o.quarrels(r, a) {
		why = append(why, SharingConflict)
	}
	if len(why) == 0 {
		return nil
	}
	return &refusal{reasons: why, about: []netip.Addr{a}}
}

// whyNone says why a Service that asks for any address of a family gets none: what stands in the way at the pools that
// come nearest to giving it one.
func (o *oracle) whyNone(r Request, f cluster.Family) *refusal {
	_, exists := o.pool(r.Ask.Pool)
	switch {
	case r.Ask.Pool != "" && !exists:
		return &refusal{reasons: []Reason{PoolUnknown}, pools: []string{r.Ask.Pool}}
	case r.Ask.Pool != "" && !o.gives(r.Ask.Pool):
		return &refusal{reasons: []Reason{PoolNotReady}, pools: []string{r.Ask.Pool}}
	case len(o.places) == 0 && len(o.pools) > 0:
		return refused(PoolNotReady)
	}
	nearness := []Reason{NoPool, SelectorMismatch, PoolDraining, FamilyUnavailable, PoolExhausted}
	nearest := 0
	byReason := map[Reason][]string{}
	for _, p := range o.pools {
		if !o.gives(p.Name) || r.Ask.Pool != "" && r.Ask.Pool != p.Name {
			continue
		}
		reason := PoolExhausted
		switch {
		case !p.AutoAssign && r.Ask.Pool == "":
			reason = NoPool
		case !p.isFor(r):
			reason = SelectorMismatch
		case p.Draining:
			reason = PoolDraining
		case !slices.ContainsFunc(o.places, func(at place) bool {
			return at.pool.Name == p.Name && cluster.FamilyOf(at.addr) == f && !at.leftOut()
		}):
			reason = FamilyUnavailable
		}
		byReason[reason] = append(byReason[reason], p.Name)
		nearest = max(nearest, slices.Index(nearness, reason))
	}
	return &refusal{reasons: nearness[nearest : nearest+1], pools: byReason[nearness[nearest]]}
}

// after is what becomes of the claim on an address that the Service shall have.
func (o *oracle) after(r Request, a netip.Addr) Claim {
	c, claimed := o.claims[a]
	at, inPool := o.at(a)
	others := o.others(a, r.Service)
	from, exists := o.pool(c.Pool)
	stays := exists && !from.deleted // also one that gives nothing out
	switch {
	case !claimed:
		return Claim{Users: []User{{Service: r.Service}}, Pool: at.pool.Name}
	case len(c.Users) == 0:
		return Claim{Users: []User{{Service: r.Service}}, Pool: cmp.Or(at.pool.Name, c.Pool), ReservedFor: c.ReservedFor}
	case !stays && inPool:
		c.Pool = at.pool.Name
	}
	if len(others) == 0 {
		c.Users, c.Terms = []User{{Service: r.Service}}, Terms{}
		return c
	}
	mine := User{Service: r.Service}
	for _, p := range r.Ports {
		if !slices.ContainsFunc(others, func(u User) bool { return slices.Contains(u.Ports, p) }) {
			mine.Ports = append(mine.Ports, p)
		}
	}
	if !c.uses(r.Service) || o.agreed(r, a) {
		c.Terms = r.Sharing.Terms
	}
	c.Users = slices.SortedFunc(slices.Values(append(others, mine)), func(a, b User) int { return a.Service.Compare(b.Service) })
	return c
}

// given is what becomes of the claim on an address that a Service gives up; nil: nobody has it.
func (o *oracle) given(s cluster.Name, a netip.Addr, deleted bool) *Claim {
	c := o.claims[a]
	c.Users = o.others(a, s)
	if len(c.Users) == 1 {
		c.Users = []User{{Service: c.Users[0].Service}}
	}
	if len(c.Users) < 2 {
		c.Terms = Terms{}
	}
	p, ok := o.pool(c.Pool)
	if len(c.Users) > 0 || c.ReservedFor != (cluster.Name{}) {
		return &c
	}
	if deleted && ok && !p.deleted && p.Retain {
		c.ReservedFor = s
		return &c
	}
	return nil
}

// claimsAfter are all claims after an answer.
func (o *oracle) claimsAfter(r Request, got answer) map[netip.Addr]Claim {
	out := maps.Clone(o.claims)
	for _, a := range o.heldBy(r.Service) {
		if got.refused != nil || slices.Contains(slices.Collect(maps.Values(got.addrs)), a) {
			out[a] = o.after(r, a)
		} else if c := o.given(r.Service, a, false); c != nil {
			out[a] = *c
		} else {
			delete(out, a)
		}
	}
	for _, a := range got.addrs {
		out[a] = o.after(r, a)
	}
	return out
}
