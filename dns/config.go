package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/dns/zone"
)

// Defaults of Config.
const (
	// DefaultMaxForwards is the number of queries under way elsewhere that CoreDNS' kubeadm configuration allows.
	DefaultMaxForwards = 1000
	// DefaultMaxTCP bounds the TCP connections at one address.
	DefaultMaxTCP = 1000
	// Port is where DNS is served at the cluster IPs.
	Port = 53
)

// Source gives Snapshots.
type Source interface {
	// Snapshot returns the newest Snapshot, nil before the first.
	Snapshot() *cluster.Snapshot
	// Changed receives after there is a newer one.
	Changed() <-chan struct{}
}

// Addresses makes addresses local to this node, and keeps them beyond the end of the process.
type Addresses interface {
	// Get returns the addresses that are there from an earlier Set.
	Get(ctx context.Context) ([]netip.Addr, error)
	// Set makes exactly these the addresses that are there.
	Set(ctx context.Context, want []netip.Addr) error
}

// Notrack exempts DNS at addresses from connection tracking, and keeps that beyond the end of the process.
type Notrack interface {
	// Set exempts exactly the queries to, and the replies from, these addresses. Those that are ours do not refuse queries
	// while nobody listens.
	Set(ctx context.Context, ours, queries, replies []netip.Addr) error
}

// Config configures a Server.
type Config struct {
	Source Source
	// Zone configures the cluster domain. Zone.Service is the Service at whose cluster IPs the Server listens.
	Zone zone.Config

	// Addresses and Notrack make the cluster IPs of Zone.Service ours. If Addresses is nil, the Server listens at
	// Listen only.
	Addresses Addresses
	Notrack   Notrack
	// Listen are further addresses to listen at; they must exist.
	Listen []netip.AddrPort

	// Upstreams are the servers that are asked for names outside the cluster, in the order of preference. If there are
	// none, the nameserver lines of the file ResolvConf count, which is read again when it changes.
	Upstreams  []netip.AddrPort
	ResolvConf string
	// MaxForwards bounds the queries under way to other servers; more fail at once. Default: DefaultMaxForwards.
	MaxForwards int
	// MaxTCP bounds the TCP connections at one address; more wait. Default: DefaultMaxTCP.
	MaxTCP int

	// Registerer takes the metrics; nil: none are registered.
	Registerer prometheus.Registerer
	// Log default: slog.Default.
	Log *slog.Logger
}

func (c *Config) setDefaults() {
	if c.MaxForwards == 0 {
		c.MaxForwards = DefaultMaxForwards
	}
	if c.MaxTCP == 0 {
		c.MaxTCP = DefaultMaxTCP
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func (c *Config) validate() error {
	errs := []error{c.Zone.Validate()}
	if c.MaxForwards < 0 || c.MaxTCP < 0 {
		errs = append(errs, errors.New("limits must be positive"))
	}
	for _, a := range c.Listen {
		if !a.IsValid() || a.Addr().IsUnspecified() {
			errs = append(errs, fmt.Errorf("listen address %s: name one address, so that replies come from the address that was asked", a))
		}
	}
	if own := ownAmong(c.Upstreams, c.Listen); len(own) > 0 {
		errs = append(errs, fmt.Errorf("upstream %s is an address that this server listens at: queries would go round in circles", own[0]))
	}
	return errors.Join(errs...)
}
