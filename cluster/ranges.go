package cluster

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"
)

// ParseRange reads one entry of a pool's addresses: a prefix ("192.0.2.0/28") or a range with both ends included
// ("192.0.2.10-192.0.2.20"), of either family. Addresses that no Service can have are refused. The error says what to write
// instead.
func ParseRange(s string) (netipx.IPRange, error) {
	r, err := parseRange(s)
	if err != nil {
		return netipx.IPRange{}, err
	}
	for _, u := range unusable() {
		if shared := netipx.RangeOfPrefix(u.prefix); r.Overlaps(shared) {
			return netipx.IPRange{}, fmt.Errorf("%q holds addresses of %s, %s, which no Service can have: leave them out", s, u.prefix, u.what)
		}
	}
	return r, nil
}

type specialPurpose struct {
	prefix netip.Prefix
	what   string
}

// unusable returns what cannot be the address of a Service, whoever gives it out (RFC 6890).
func unusable() []specialPurpose {
	return []specialPurpose{
		{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
		{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
		{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
		{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
		{netip.MustParsePrefix("::/128"), "unspecified"},
		{netip.MustParsePrefix("::1/128"), "loopback"},
		{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4 written as IPv6"},
		{netip.MustParsePrefix("fe80::/10"), "link-local"},
		{netip.MustParsePrefix("ff00::/8"), "multicast"},
	}
}

func parseRange(s string) (netipx.IPRange, error) {
	if from, to, ok := strings.Cut(s, "-"); ok {
		return parseEnds(s, from, to)
	}
	if !strings.Contains(s, "/") {
		if a, err := netip.ParseAddr(s); err == nil {
			return netipx.IPRange{}, fmt.Errorf("%q is a single address: write %s/%d", s, a, a.BitLen())
		}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netipx.IPRange{}, fmt.Errorf("%q is neither a prefix such as 192.0.2.0/28 nor a range such as 192.0.2.10-192.0.2.20", s)
	}
	if p.Addr().Is4In6() {
		return netipx.IPRange{}, fmt.Errorf("%q is IPv4 written as IPv6: write it as IPv4", s)
	}
	if p.Masked() != p {
		return netipx.IPRange{}, fmt.Errorf("%q has bits set behind the prefix: write %s for the whole prefix or %s/%d for the one address", s, p.Masked(), p.Addr(), p.Addr().BitLen())
	}
	return netipx.RangeOfPrefix(p), nil
}

func parseEnds(s, from, to string) (netipx.IPRange, error) {
	a, errA := parseEnd(from)
	b, errB := parseEnd(to)
	if errA != nil || errB != nil {
		return netipx.IPRange{}, fmt.Errorf("%q is not a range: write two addresses with '-' between them, such as 192.0.2.10-192.0.2.20", s)
	}
	if FamilyOf(a) != FamilyOf(b) {
		return netipx.IPRange{}, fmt.Errorf("%q mixes IPv4 and IPv6: write one range for each", s)
	}
	if b.Less(a) {
		return netipx.IPRange{}, fmt.Errorf("%q is reversed: write %s-%s", s, b, a)
	}
	return netipx.IPRangeFrom(a, b), nil
}

func parseEnd(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%s has a zone or is IPv4 written as IPv6", s)
	}
	return a, nil
}

// ParseRanges reads all entries of a pool. It returns the ranges in the order written and every problem, among them
// entries that overlap each other; a pool with problems must not be used.
func ParseRanges(entries []string) (ranges []netipx.IPRange, problems []error) {
	if len(entries) == 0 {
		return nil, []error{fmt.Errorf("the pool has no addresses: add a prefix such as 192.0.2.0/28")}
	}
	written := make([]string, 0, len(entries))
	for _, e := range entries {
		r, err := ParseRange(e)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for i, other := range ranges {
			if r.Overlaps(other) {
				problems = append(problems, fmt.Errorf("%q overlaps %q: leave one of them out", e, written[i]))
			}
		}
		ranges, written = append(ranges, r), append(written, e)
	}
	return ranges, problems
}
