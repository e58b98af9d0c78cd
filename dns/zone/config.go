package zone

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// Defaults of Config.
const (
	DefaultDomain = "cluster.local"
	DefaultTTL    = 5 * time.Second
)

// MaxTTL is the longest TTL that Config takes.
const MaxTTL = time.Hour

// Config says what a Zone is authoritative for.
type Config struct {
	// Domain is the cluster domain, with or without a trailing dot. Default: DefaultDomain.
	Domain string
	// TTL of records, and of negative answers (the MINIMUM field of the SOA record), in whole seconds up to MaxTTL.
	// 0 forbids caching. Endpoints come and go: keep it short.
	TTL time.Duration
	// ReverseCIDRs are the address ranges (of Services and of pods) whose PTR records nobody else knows: an address in
	// them without a name is NXDOMAIN here rather than a question for an upstream server.
	ReverseCIDRs []netip.Prefix
	// Service is the cluster's DNS Service; ns.dns.<Domain>, the zone's name server, has its cluster IPs.
	Service cluster.Name
	// Serial is the serial number of the first Zone's SOA record; each Zone built on an earlier one adds one.
	Serial uint32
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if _, err := parseDomain(c.Domain); err != nil {
		errs = append(errs, err)
	}
	if c.TTL < 0 || c.TTL > MaxTTL || c.TTL%time.Second != 0 {
		errs = append(errs, fmt.Errorf("DNS TTL %s: must be whole seconds from 0s to %s", c.TTL, MaxTTL))
	}
	for _, p := range c.ReverseCIDRs {
		if !p.IsValid() || p.Masked() != p {
			errs = append(errs, fmt.Errorf("reverse zone %s: not a network address; did you mean %s?", p, p.Masked()))
		}
	}
	return errors.Join(errs...)
}

// parseDomain returns the wire form of a domain, in lower case and with the root label.
func parseDomain(domain string) ([]byte, error) {
	var wire []byte
	for label := range strings.SplitSeq(strings.TrimSuffix(domain, "."), ".") {
		if !validLabel(label) {
			return nil, fmt.Errorf("domain %q: label %q must have 1 to %d letters, digits or '-'", domain, label, maxLabel)
		}
		wire = appendLabel(wire, label)
	}
	if wire = append(wire, 0); len(wire) > maxName {
		return nil, fmt.Errorf("domain %q: longer than %d octets", domain, maxName)
	}
	return wire, nil
}

func validLabel(label string) bool {
	for i := range len(label) {
		switch c := lower(label[i]); {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return label != "" && len(label) <= maxLabel
}
