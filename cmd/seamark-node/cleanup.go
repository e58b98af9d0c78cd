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
		RunE: func(cmd *cobra.Command, _ []string) error { return cleanup(cmd.Context()) },
	}
}

// cleanup removes what each part left; what one of them cannot remove does not keep the others.
func cleanup(ctx context.Context) error {
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", what, err))
		}
	}
	try("the service proxy's tables", proxy.Cleanup(ctx))
	try("the table of echo requests", speaker.Cleanup(ctx))
	try("the DNS addresses", removeDNS(ctx))
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
