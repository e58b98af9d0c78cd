// Command bench measures Seamark's parts and holds them to their targets; see package bench.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/bench/failover"
	"github.com/seamark-io/seamark/integration/bench/provider"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "bench",
		Short:         "Measure Seamark's parts and hold them to their targets",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(providerCommand(), failoverCommand())
	return root
}

func providerCommand() *cobra.Command {
	o := provider.Options{Services: []int{1000, 10_000}, Samples: 200, Limit: 40 * time.Minute, Log: os.Stderr}
	var out string
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "Measure how fast, and at what cost, Services get their addresses",
		Long: `provider measures how fast, and at what cost, Services get their addresses: an
allocation by itself, Services made one at a time, and many made at once, in a lab
of three nodes that it makes and takes down. It prints each figure beside its target
and ends with status 1 if one was missed. The whole takes 15 to 30 minutes. If it cannot
be finished, it prints what was measured until then, and saves nothing.

It needs root, the packages of hack/install-packages and the images of make images;
make bench-provider sees to all of that.`,
		Example: `  bench provider
  bench provider --lab sm --services 1000 --cpuprofile /tmp/controller.pprof`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := provider.Run(cmd.Context(), o)
			return finish(r, err, out)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Lab, "lab", o.Lab, "name of a lab that is up; without it one is made, and taken down")
	f.IntSliceVar(&o.Services, "services", o.Services, "how many Services to make at once; several numbers one after the other")
	f.IntVar(&o.Samples, "samples", o.Samples, "how many Services to make one at a time")
	f.DurationVar(&o.Limit, "limit", o.Limit, "how long measuring in the lab may take")
	f.StringVar(&o.Profile, "cpuprofile", o.Profile, "file for a profile of the controller's CPU in the first ten seconds of the first burst")
	f.StringVar(&out, "out", out, "file for the results as Markdown; JSON and samples go beside it")
	return cmd
}

func failoverCommand() *cobra.Command {
	o := failover.Options{Repetitions: 30, Many: 1000, Addresses: 10_000, Outage: 5 * time.Minute, Busy: 10 * time.Minute, Limit: 2 * time.Hour, Log: os.Stderr}
	var out string
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure for how long an address does not answer when its owner fails",
		Long: `failover measures for how long an address does not answer when what answers for it
fails: its link, its agent, the link to a router; and how long a new Service takes to its
first answer. It makes a lab of three nodes and takes it down, prints each figure beside
its target, and ends with status 1 if one was missed. The whole takes about an hour and a half.

It needs root, the packages of hack/install-packages and the images of make images;
make bench-failover sees to all of that.`,
		Example: "  bench failover --only link4,keepalived --repetitions 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := failover.Run(cmd.Context(), o)
			return finish(r, err, out)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Repetitions, "repetitions", o.Repetitions, "how often each fault is made; those that take long less often")
	f.IntVar(&o.Many, "many", o.Many, "number of Services where there are many")
	f.IntVar(&o.Addresses, "addresses", o.Addresses, "number of addresses of the agent whose size is measured, and of routes where there are many")
	f.DurationVar(&o.Outage, "outage", o.Outage, "how long the API server is gone before a fault")
	f.DurationVar(&o.Busy, "busy", o.Busy, "how long all processors are kept busy")
	f.StringSliceVar(&o.Only, "only", nil, "measurements to make: "+strings.Join(failover.Names(), ", ")+" (default: all)")
	f.DurationVar(&o.Limit, "limit", o.Limit, "how long measuring in the lab may take")
	f.StringVar(&out, "out", out, "file for the results as Markdown; JSON and samples go beside it")
	return cmd
}

// finish prints a report, saves it if it has a file, and returns an error if a target was missed. Of one that could not be finished,
// for the error given, it prints what there is.
func finish(r bench.Report, err error, out string) error {
	if err != nil {
		if len(r.Figures) > 0 {
			fmt.Fprint(os.Stdout, "Not finished:\n\n")
			err = errors.Join(err, r.WriteText(os.Stdout))
		}
		return err
	}
	r.Command = strings.Join(append([]string{"bin/bench"}, os.Args[1:]...), " ")
	if err := r.WriteText(os.Stdout); err != nil {
		return err
	}
	if out != "" {
		if err := r.Save(out); err != nil {
			return err
		}
	}
	return r.Err()
}
