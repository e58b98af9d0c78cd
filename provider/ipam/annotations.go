package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// Annotations of a Service that say which address it wants, and with whom it shares it.
const (
	// AnnotationAddresses names addresses, at most one of each family, with ',' between them.
	AnnotationAddresses = "seamark.io/addresses"
	// AnnotationPool names an IPPool.
	AnnotationPool = "seamark.io/pool"
	// AnnotationReassign is "true" for a Service that is to leave an address that the pools would not give it today, or that it
	// cannot share any more with those that use it.
	AnnotationReassign = "seamark.io/reassign"
	// AnnotationSharingKey is any text. Services with the same key may use one address, if their ports differ.
	AnnotationSharingKey = "seamark.io/sharing-key"
	// AnnotationSharingNamespaces names namespaces, with ',' between them: Services of two namespaces share an address
	// only if each names the other's.
	AnnotationSharingNamespaces = "seamark.io/sharing-namespaces"
)

// MetalLB's annotations of the same meaning (https://metallb.io/usage/), under its present and its former domain.
const (
	metallbAddresses    = "metallb.io/loadBalancerIPs"
	metallbPool         = "metallb.io/address-pool"
	metallbOldAddresses = "metallb.universe.tf/loadBalancerIPs"
	metallbOldPool      = "metallb.universe.tf/address-pool"
	metallbSharing      = "metallb.io/allow-shared-ip"
	metallbOldSharing   = "metallb.universe.tf/allow-shared-ip"
)

// Ask is which addresses a Service asks for. The zero value asks for any.
type Ask struct {
	// Pool by name.
	Pool string
	// Addresses, at most one of each family.
	Addresses []netip.Addr
	// Reassign is true for a Service that does not insist on what it has.
	Reassign bool
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
	ask.Pool, notices = first(places(annotations, AnnotationPool, metallbPool, metallbOldPool))
	switch value := strings.TrimSpace(annotations[AnnotationReassign]); value {
	case "true":
		ask.Reassign = true
	case "", "false":
	default:
		problem = &Problem{Reason: InvalidRequest, Message: fmt.Sprintf("%s: %q is neither true nor false", AnnotationReassign, value)}
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

// ParseSharing reads on what terms a Service shares addresses; its Selector is not in the annotations.
func ParseSharing(annotations map[string]string) (s Sharing, notices []string, problem *Problem) {
	s.Key, notices = first(places(annotations, AnnotationSharingKey, metallbSharing, metallbOldSharing))
	if len(s.Key) > maxSharingKey {
		return Sharing{}, notices, &Problem{Reason: InvalidRequest, Message: fmt.Sprintf("%s has %d bytes: write at most %d", AnnotationSharingKey, len(s.Key), maxSharingKey)}
	}
	for name := range strings.SplitSeq(annotations[AnnotationSharingNamespaces], ",") {
		if name = strings.TrimSpace(name); name != "" {
			s.Namespaces = append(s.Namespaces, name)
		}
	}
	slices.Sort(s.Namespaces)
	s.Namespaces = slices.Compact(s.Namespaces)
	return s, notices, nil
}

// first returns what counts of several settings, with a notice of each that says something else.
func first(found []setting) (value string, notices []string) {
	if len(found) == 0 {
		return "", nil
	}
	for _, other := range found[1:] {
		if other.value != found[0].value {
			notices = append(notices, notice(found[0], other))
		}
	}
	return found[0].value, notices
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
