package ipam

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// Claim is who has an address. The zero Claim keeps it from everybody. Claims are values: nothing that a Claim refers to
// may be changed.
type Claim struct {
	// Users of the address, ordered by name.
	Users []User
	// Terms on which several use it; zero for one alone.
	Terms Terms
	// Pool that the address came from.
	Pool string
	// ReservedFor is the Service that has it even while it does not use it; the zero Name: none.
	ReservedFor cluster.Name
	// Since orders the addresses of a Service that holds too many: the oldest stays. Zero: not recorded yet.
	Since time.Time
}

// User is a Service that uses an address.
type User struct {
	Service cluster.Name
	// Ports of the Service that are served there, sorted, where several use the address. One alone has all its ports.
	Ports []cluster.Port
}

// Change is what an address shall be from now on.
type Change struct {
	Addr netip.Addr
	// Claim on the address; nil: nobody's, free.
	Claim *Claim
}

// uses reports whether a Service uses the address.
func (c *Claim) uses(s cluster.Name) bool {
	return slices.ContainsFunc(c.Users, func(u User) bool { return u.Service == s })
}

// Equal reports whether two claims say the same of who has the address.
func (c *Claim) Equal(o *Claim) bool {
	return c.Pool == o.Pool && c.Terms == o.Terms && c.ReservedFor == o.ReservedFor &&
		slices.EqualFunc(c.Users, o.Users, func(a, b User) bool { return a.Service == b.Service && slices.Equal(a.Ports, b.Ports) })
}

// with returns the claim with a user more, or with other ports for one that is there.
func (c Claim) with(u User) Claim {
	users := slices.Clone(c.Users)
	i, found := slices.BinarySearchFunc(users, u.Service, func(u User, s cluster.Name) int { return u.Service.Compare(s) })
	if found {
		users[i] = u
	} else {
		users = slices.Insert(users, i, u)
	}
	c.Users = users
	return c
}

// without returns the claim without a user. One who stays behind alone has the address for itself.
func (c Claim) without(s cluster.Name) Claim {
	c.Users = slices.DeleteFunc(slices.Clone(c.Users), func(u User) bool { return u.Service == s })
	if len(c.Users) < 2 {
		c.Terms = Terms{}
	}
	if len(c.Users) == 1 {
		c.Users[0].Ports = nil
	}
	return c
}

// empty reports whether nothing keeps the address from being given to anyone.
func (c *Claim) empty() bool { return len(c.Users) == 0 && c.ReservedFor == cluster.Name{} }
