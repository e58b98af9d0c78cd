// Command demo shows Seamark at work on a cluster that it makes on this machine; see package demo.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/seamark-io/seamark/integration/demo"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "demo",
		Short: "Show Seamark at work on a real cluster, made on this machine for it",
		Long: `demo makes a Kubernetes cluster of three nodes on this machine, with a router and
a host behind it, installs Seamark there, and shows a Service of type LoadBalancer
at work, step by step. It ends with status 0 if every step came out as it should.

It needs root, the packages of hack/install-packages and the images of make images;
make demo sees to all of that.`,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.DisableDefaultCmd = true

	o := demo.Options{Out: os.Stdout, Color: showsColor()}
	up := &cobra.Command{
		Use:   "up",
		Short: "Make the cluster, show every step, and take everything down: about two minutes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return demo.Up(cmd.Context(), o) },
	}
	up.Flags().BoolVar(&o.Keep, "keep", false, "leave the cluster up, and say how to look around in it")
	down := &cobra.Command{
		Use:   "down",
		Short: "Take down what --keep has left",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return demo.Down(cmd.Context(), o.Out) },
	}
	root.AddCommand(up, down)
	return root
}

// showsColor follows https://no-color.org.
func showsColor() bool {
	return term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
