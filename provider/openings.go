package provider

import (
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// An opening is anything that may let a Service have what it waits for: an address frees, a pool changes, a user or a port
// leaves a shared address. Between an opening and the moment when all that wait have been looked at, nobody who comes new may
// take an address: that would be out of turn. So openings are counted, each by whoever makes it and under the same lock.

// opening notes an opening; mu is held.
func (a *allocator) opening() {
	a.openings++
	a.hooks.opened()
}

// open notes an opening that the allocator does not see by itself.
func (a *allocator) open() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opening()
}

// openSince notes another opening if there were any since: for a Service that was not in the queue then and is now.
func (a *allocator) openSince(at uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.openings != at {
		a.opening()
	}
}

// unserved returns the number of openings, and whether there were any since those that were served.
func (a *allocator) unserved() (to uint64, any bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.openings, a.openings != a.served
}

// serve notes that all that wait have been looked at after so many openings.
func (a *allocator) serve(to uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.served = to
}

// described returns the Services that were described and may count for others.
func (a *allocator) described() []cluster.Name {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index.Described()
}

// free makes an address nobody's; mu is held.
func (a *allocator) free(addr netip.Addr) {
	delete(a.ending, addr)
	if _, held := a.index.Claim(addr); held {
		a.index.Release(addr)
		a.opening()
	}
}

// hold makes the index say who has an address; mu is held. The claim is kept and must not be changed any more.
func (a *allocator) hold(addr netip.Addr, c *ipam.Claim) {
	was, held := a.index.Claim(addr)
	delete(a.ending, addr)
	a.index.Hold(addr, c)
	if held && opens(was, *c) || !held && a.invites(*c) {
		a.opening()
	}
}

// opens reports whether a change of a claim may let somebody in that was kept out before.
func opens(was, now ipam.Claim) bool {
	if was.ReservedFor != now.ReservedFor || len(was.Users) > 1 && was.Terms != now.Terms {
		return true
	}
	return slices.ContainsFunc(was.Users, func(u ipam.User) bool {
		i := slices.IndexFunc(now.Users, func(v ipam.User) bool { return u.Service == v.Service })
		return i < 0 || slices.ContainsFunc(u.Ports, func(p cluster.Port) bool { return !slices.Contains(now.Users[i].Ports, p) })
	})
}

// invites reports whether a new claim lets others in: those that it is reserved for, or that share with its users.
func (a *allocator) invites(c ipam.Claim) bool {
	return c.ReservedFor != cluster.Name{} || slices.ContainsFunc(c.Users, func(u ipam.User) bool { return a.index.Shares(u.Service) })
}
