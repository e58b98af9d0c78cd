package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Terms are what all Services at one address must have in common.
type Terms struct {
	// Key is the annotation seamark.io/sharing-key.
	Key string
	// Selector of the pods, in canonical text, where externalTrafficPolicy is Local: traffic comes only to nodes with such
	// a pod, so the Services must have the same ones. Empty where it is Cluster.
	Selector string
}

// Sharing is on what terms a Service shares its addresses with others. Without a key it shares with nobody.
type Sharing struct {
	Terms
	// Namespaces of Services that it shares with, beside its own.
	Namespaces []string
}

// party is a Service that may share, as far as the others must know it.
type party struct {
	Sharing
	ports []cluster.Port
}

// join adds the Service to those that use an address.
func (x *Index) join(r Request, a netip.Addr, c Claim) (Claim, *Problem) {
	if len(c.Users) >= maxUsers {
		return Claim{}, problem(SharingConflict, nil, "%s is used by %d Services, and that is the limit: use another sharing key", a, maxUsers)
	}
	alone := len(c.Users) == 1
	for _, u := range c.Users {
		other := x.parties[u.Service]
		if p := r.mayShare(a, u.Service, other); p != nil {
			return Claim{}, p
		}
		if alone {
			u.Ports = other.ports
			c = c.with(u)
		}
		if p := r.clash(a, u); p != nil {
			return Claim{}, p
		}
	}
	c.Terms = r.Sharing.Terms
	return x.adopted(a, c).with(User{r.Service, r.Ports}), nil
}

// adopted returns the claim with the pool that the address lies in today, if the one that it came from is gone or being deleted.
// One that gives nothing out for another reason, such as a mistake in its spec, may do so again soon.
func (x *Index) adopted(a netip.Addr, c Claim) Claim {
	if s, ok := x.spanOf(a); ok && !x.exists(c.Pool) {
		c.Pool = s.pool.Name
	}
	return c
}

// stay returns what becomes of the claim on an address that the Service uses and goes on using. It is judged by what it
// does itself: where the others no longer fit, that is told to them. What it may not have at the address it has not got.
func (x *Index) stay(r Request, a netip.Addr, c Claim) (Claim, *Problem) {
	c = x.adopted(a, c)
	if len(c.Users) == 1 {
		c.Terms = Terms{}
		return c.with(User{Service: r.Service}), nil
	}
	var problem *Problem
	note := func(p *Problem) {
		if problem == nil {
			problem = p
		}
	}
	if r.Sharing.Terms != c.Terms && x.agreed(r, a, c) {
		c.Terms = r.Sharing.Terms // all have changed them, one after the other
	}
	if r.Sharing.Terms != c.Terms {
		note(r.differs(a, c.Terms, c.others(r.Service)))
	}
	ports := r.Ports
	for _, u := range c.Users {
		if u.Service == r.Service {
			continue
		}
		if !r.allows(u.Service.Namespace) {
			note(r.refuses(a, u.Service))
		}
		if p := r.clash(a, u); p != nil {
			note(p)
			ports = without(ports, u.Ports)
		}
	}
	if problem != nil {
		problem.Message += r.wayOut(a)
	}
	return c.with(User{r.Service, ports}), problem
}

// wayOut is what the Service can do about a conflict at an address, beside what ends it there.
func (r *Request) wayOut(a netip.Addr) string {
	if r.Ask.Address(cluster.FamilyOf(a)) == a {
		return ", or ask for another address"
	}
	return ", or annotate this Service with " + AnnotationReassign + `: "true" to move it to another address`
}

// agreed reports whether all that use an address would share it with the Service as they are now.
func (x *Index) agreed(r Request, a netip.Addr, c Claim) bool {
	for _, u := range c.Users {
		if u.Service != r.Service && r.mayShare(a, u.Service, x.parties[u.Service]) != nil {
			return false
		}
	}
	return true
}

// mayShare says why the Service and the user of an address do not share it, whatever their ports.
func (r *Request) mayShare(a netip.Addr, with cluster.Name, other party) *Problem {
	switch {
	case r.Sharing.Key == "" || other.Key == "":
		return r.taken(a, with)
	case r.Sharing.Terms != other.Terms:
		return r.differs(a, other.Terms, []string{with.String()})
	case !r.allows(with.Namespace):
		return r.refuses(a, with)
	case with.Namespace != r.Service.Namespace && !slices.Contains(other.Namespaces, r.Service.Namespace):
		return r.conflict(with, "%s is used by Service %s, which does not share with namespace %s: add that to its annotation %s",
			a, with, r.Service.Namespace, AnnotationSharingNamespaces)
	}
	return nil
}

// allows reports whether the Service would share an address with one of the namespace.
func (r *Request) allows(namespace string) bool {
	return namespace == r.Service.Namespace || slices.Contains(r.Sharing.Namespaces, namespace)
}

func (r *Request) taken(a netip.Addr, by cluster.Name) *Problem {
	p := problem(AddressTaken, nil, "%s belongs to Service %s: ask for another address, delete that Service, or give both the same annotation %s", a, by, AnnotationSharingKey)
	p.By = by
	return p
}

func (r *Request) conflict(with cluster.Name, format string, args ...any) *Problem {
	p := problem(SharingConflict, nil, format, args...)
	p.By = with
	return p
}

func (r *Request) refuses(a netip.Addr, with cluster.Name) *Problem {
	return r.conflict(with, "%s is used by Service %s as well: add %s to the annotation %s", a, with, with.Namespace, AnnotationSharingNamespaces)
}

func (r *Request) differs(a netip.Addr, terms Terms, others []string) *Problem {
	services := "Service " + others[0]
	if len(others) > 1 {
		services = "Services " + strings.Join(others, ", ")
	}
	if r.Sharing.Key != terms.Key {
		return problem(SharingConflict, nil, "%s is used by %s with the sharing key %q, and this Service has %q: make the annotations %s equal",
			a, services, terms.Key, r.Sharing.Key, AnnotationSharingKey)
	}
	if terms.Selector == "" || r.Sharing.Selector == "" {
		return problem(SharingConflict, nil, "%s is used by %s: externalTrafficPolicy must be Cluster for all that share an address, or Local with equal selectors", a, services)
	}
	return problem(SharingConflict, nil, "%s is used by %s, which selects %q, and this Service %q: with externalTrafficPolicy Local all that share an address must select the same pods",
		a, services, terms.Selector, r.Sharing.Selector)
}

// clash says which ports a user of the address has that the Service wants as well.
func (r *Request) clash(a netip.Addr, u User) *Problem {
	var both []string
	for _, p := range r.Ports {
		if slices.Contains(u.Ports, p) {
			both = append(both, p.String())
		}
	}
	if len(both) == 0 {
		return nil
	}
	return r.conflict(u.Service, "port %s of %s belongs to Service %s: change the port", strings.Join(both, ", "), a, u.Service)
}

func (c *Claim) others(s cluster.Name) (out []string) {
	for _, u := range c.Users {
		if u.Service != s {
			out = append(out, u.Service.String())
		}
	}
	return out
}

// without returns the ports that are not among those taken.
func without(ports, taken []cluster.Port) []cluster.Port {
	return slices.DeleteFunc(slices.Clone(ports), func(p cluster.Port) bool { return slices.Contains(taken, p) })
}

// joinable returns the lowest address of a family that the Service can share with others of its key, in the first of the
// pools that has one.
func (x *Index) joinable(r Request, f cluster.Family, pools []*pool) (netip.Addr, *pool) {
	if r.Sharing.Key == "" {
		return netip.Addr{}, nil
	}
	var best netip.Addr
	rank := len(pools)
	seen := map[netip.Addr]struct{}{} // each has many users
	for name := range x.byKey[r.Sharing.Key] {
		for _, a := range x.byService[name] {
			if _, again := seen[a]; again {
				continue
			}
			seen[a] = struct{}{}
			s, ok := x.spanOf(a)
			if !ok || cluster.FamilyOf(a) != f || !s.usable(a) {
				continue
			}
			i := slices.Index(pools, s.pool)
			if i < 0 || i > rank || i == rank && best.IsValid() && best.Less(a) {
				continue
			}
			if _, p := x.join(r, a, x.claim(a)); p == nil {
				best, rank = a, i
			}
		}
	}
	if !best.IsValid() {
		return best, nil
	}
	return best, pools[rank]
}

const (
	maxSharingKey = 253
	maxUsers      = 256 // of VIP.spec.services
)
