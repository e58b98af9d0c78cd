package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/component-base/version"
)

func newCommand() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:   "seamark-node",
		Short: "Announce VIPs, proxy Services and answer the cluster's DNS on one node",
		Long: `seamark-node is Seamark's agent, one on each node. It has three parts, each of which can be switched off:

  speaker  announces the VIPs of Services of type LoadBalancer: by ARP and NDP on the
           node's own segment (one node owns an address), by BGP to routers
  proxy    forwards what arrives for cluster IPs, node ports and VIPs to pods (nftables)
  dns      answers for the cluster's domain at the kube-dns Service's address

What it programmed stays in the kernel when it stops, so a restart interrupts no Service;
names are answered again when it is back, or meanwhile by the DNS Service's endpoints if
there are any. "seamark-node cleanup" removes what is left.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.complete()
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), c)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.AddCommand(newCleanupCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.Get().GitVersion) },
	})
	return cmd
}
