package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seamark-io/seamark/dns/bind"
	"github.com/seamark-io/seamark/dns/notrack"
	"github.com/seamark-io/seamark/proxy"
	"github.com/seamark-io/seamark/speaker"
)

func newCleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove what the agent left in this node's kernel",
		Long: `Remove what the agent left in this node's kernel: its nftables tables, and the cluster DNS
addresses on the loopback interface. Run it on a node where the agent runs no longer:
until then Services go on working there, as they were when it stopped.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return removeUnused(cmd.Context(), leftovers(&config{})) },
	}
}

// leftover is what a part leaves in this node's kernel at its end, so that traffic goes on until an agent runs again.
type leftover struct {
	what string
	// used: the part is switched on, and takes over what is there.
	used   bool
	remove func(context.Context) error
}

func leftovers(c *config) []leftover {
	return []leftover{
		{"the service proxy's tables", c.proxy, proxy.Cleanup},
		{"the table of echo requests", c.speaker, speaker.Cleanup},
		{"the DNS addresses", c.dns, removeDNS},
	}
}

// removeUnused removes what no part takes over; what cannot be removed does not keep the rest.
func removeUnused(ctx context.Context, all []leftover) error {
	var errs []error
	for _, l := range all {
		if l.used {
			continue
		}
		if err := l.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", l.what, err))
		}
	}
	return errors.Join(errs...)
}

// removeDNS removes the cluster DNS addresses, so that another DNS can be reached at them, and their rules.
func removeDNS(ctx context.Context) error {
	addresses, err := bind.New()
	if err == nil {
		err = addresses.Set(ctx, nil)
		addresses.Close()
	}
	return errors.Join(err, (&notrack.Driver{}).Set(ctx, nil, nil, nil))
}
