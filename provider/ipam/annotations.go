package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Annotations of a Service that say which address it wants.
const (
	// AnnotationAddresses names addresses, at most one of each family, with ',' between them.
	AnnotationAddresses = "seamark.io/addresses"
	// AnnotationPool names an IPPool.
	AnnotationPool = "seamark.io/pool"
)

// MetalLB's annotations of the same meaning (https://metallb.io/usage/), under its present and its former domain.
const (
	metallbAddresses    = "metallb.io/loadBalancerIPs"
	metallbPool         = "metallb.io/address-pool"
	metallbOldAddresses = "metallb.universe.tf/loadBalancerIPs"
	metallbOldPool      = "metallb.universe.tf/address-pool"
)

// Ask is which addresses a Service asks for. The zero value asks for any.
type Ask struct {
	// Pool by name.
	Pool string
	// Addresses, at most one of each family.
	Addresses []netip.Addr
}

// Address returns the address of a family that is asked for; the zero Addr when any will do.
func (a Ask) Address(f cluster.Family) netip.Addr {
	for _, addr := range a.Addresses {
		if cluster.FamilyOf(addr) == f {
			return addr
		}
	}
	return netip.Addr{}
}

// setting is one place in a Service where a wish can stand.
type setting struct{ name, value string }

// ParseAsk reads the annotations and spec.loadBalancerIP of a Service. What stands in several places counts in this
// order: seamark.io/, metallb.io/, metallb.universe.tf/, spec.loadBalancerIP; each place that says something else than
// the one that counts gives a notice. The problem is nil or an InvalidRequest that says what to write.
func ParseAsk(annotations map[string]string, loadBalancerIP string) (ask Ask, notices []string, problem *Problem) {
	pools := places(annotations, AnnotationPool, metallbPool, metallbOldPool)
	if len(pools) > 0 {
		ask.Pool = pools[0].value
		for _, other := range pools[1:] {
			if other.value != ask.Pool {
				notices = append(notices, notice(pools[0], other))
			}
		}
	}

	addresses := places(annotations, AnnotationAddresses, metallbAddresses, metallbOldAddresses)
	if ip := strings.TrimSpace(loadBalancerIP); ip != "" {
		addresses = append(addresses, setting{"spec.loadBalancerIP", ip})
	}
	if len(addresses) > 0 {
		var err error
		if ask.Addresses, err = parseAddresses(addresses[0].value); err != nil {
			problem = &Problem{Reason: InvalidRequest, Message: fmt.Sprintf("%s: %s", addresses[0].name, err)}
		}
		for _, other := range addresses[1:] {
			if got, err := parseAddresses(other.value); err != nil || !slices.Equal(got, ask.Addresses) {
				notices = append(notices, notice(addresses[0], other))
			}
		}
	}
	return ask, notices, problem
}

func places(annotations map[string]string, names ...string) (found []setting) {
	for _, name := range names {
		if value := strings.TrimSpace(annotations[name]); value != "" {
			found = append(found, setting{name, value})
		}
	}
	return found
}

func notice(counts, other setting) string {
	return fmt.Sprintf("%s (%q) and %s (%q) differ: the first counts, remove one of them",
		counts.name, counts.value, other.name, other.value)
}

// parseAddresses reads a list of addresses and returns it sorted.
func parseAddresses(list string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for s := range strings.SplitSeq(list, ",") {
		s = strings.TrimSpace(s)
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is not an address: write one such as 192.0.2.7, or one of each family with ',' between them", s)
		case a.Zone() != "":
			return nil, fmt.Errorf("%q has a zone: write %s", s, a.WithZone(""))
		case a.Is4In6():
			return nil, fmt.Errorf("%q is IPv4 written as IPv6: write %s", s, a.Unmap())
		}
		for _, other := range addrs {
			if cluster.FamilyOf(other) == cluster.FamilyOf(a) {
				return nil, fmt.Errorf("%s and %s are both %s: a Service has one address of each family", other, a, cluster.FamilyOf(a))
			}
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}
