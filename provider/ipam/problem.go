package ipam

import (
	"fmt"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Reason is why a request cannot be met, in the CamelCase of condition and event reasons.
type Reason string

// The reasons.
const (
	// NoPool: there is no pool at all that gives out addresses to Services that name none.
	NoPool Reason = "NoPool"
	// PoolUnknown: the Service names a pool that does not exist.
	PoolUnknown Reason = "PoolUnknown"
	// PoolNotReady: every pool that comes into question is invalid.
	PoolNotReady Reason = "PoolNotReady"
	// PoolExhausted: every pool that comes into question is full.
	PoolExhausted Reason = "PoolExhausted"
	// SelectorMismatch: the selectors of the pools leave the Service out.
	SelectorMismatch Reason = "SelectorMismatch"
	// FamilyUnavailable: no pool that comes into question has addresses of the family.
	FamilyUnavailable Reason = "FamilyUnavailable"
	// AddressNotInPool: the Service names an address that no pool, or not the pool that it names, can give out.
	AddressNotInPool Reason = "AddressNotInPool"
	// AddressTaken: the Service names an address that something else holds.
	AddressTaken Reason = "AddressTaken"
	// PoolDraining: every pool that comes into question is draining.
	PoolDraining Reason = "PoolDraining"
	// SharingConflict: the Service cannot share an address with those that use it, or not all of its ports there.
	SharingConflict Reason = "SharingConflict"
	// InvalidRequest: the annotations cannot be read or contradict the Service's IP families.
	InvalidRequest Reason = "InvalidRequest"
)

// Reasons returns all reasons.
func Reasons() []Reason {
	return []Reason{NoPool, PoolUnknown, PoolNotReady, PoolExhausted, PoolDraining, SelectorMismatch, FamilyUnavailable,
		AddressNotInPool, AddressTaken, SharingConflict, InvalidRequest}
}

// Problem is why a request, or a part of it, cannot be met. It is an error whose text says what to change.
type Problem struct {
	Reason  Reason
	Message string
	// Pools that are full, invalid or unfit, by name.
	Pools []string
	// By is the Service that holds the address or the port, for AddressTaken and SharingConflict; the zero Name where there
	// is none, or more than one.
	By cluster.Name
}

// Error returns the message.
func (p *Problem) Error() string { return p.Message }

func problem(r Reason, pools []*pool, format string, args ...any) *Problem {
	p := &Problem{Reason: r, Message: fmt.Sprintf(format, args...)}
	for _, pool := range pools {
		p.Pools = append(p.Pools, pool.Name)
	}
	return p
}

// poolList writes pools as a person would: "IPPool a", "IPPools a, b", with no more than a few names.
func poolList(names []string) string {
	const most = 5
	switch n := len(names); {
	case n == 1:
		return "IPPool " + names[0]
	case n > most:
		return fmt.Sprintf("IPPools %s and %d more", strings.Join(names[:most], ", "), n-most)
	default:
		return "IPPools " + strings.Join(names, ", ")
	}
}
