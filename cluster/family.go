package cluster

import "net/netip"

// Family is an IP family. The zero value is none.
type Family uint8

// The families, by the number of their IP version.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address. An IPv4-mapped IPv6 address counts as IPv6: callers Unmap what they parse.
func FamilyOf(a netip.Addr) Family {
	switch {
	case a.Is4():
		return IPv4
	case a.IsValid():
		return IPv6
	default:
		return 0
	}
}

// String returns "IPv4" or "IPv6", as Kubernetes writes a family.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	default:
		return "none"
	}
}

// Bits returns the length of an address of the family: 32 or 128.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}
