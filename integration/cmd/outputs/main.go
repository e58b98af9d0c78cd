// Command outputs makes the outputs in pages of documentation anew; see package outputs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/outputs"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "outputs:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	o := outputs.Options{Log: os.Stderr}
	cmd := &cobra.Command{
		Use:   "outputs PAGE...",
		Short: "Run the commands in pages of documentation and write what they print",
		Long: `outputs runs the commands in pages of documentation, in a lab of three nodes that it
makes and takes down, and writes what they print into the pages. A page that fails
stays as it is.

It needs root, the packages of hack/install-packages and the images of make images;
make docs-outputs sees to all of that.`,
		Args:          cobra.MinimumNArgs(1),
		RunE:          func(cmd *cobra.Command, args []string) error { return outputs.Update(cmd.Context(), o, args...) },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.Flags().StringVar(&o.Lab, "lab", o.Lab, "name of a lab that is up, with nothing in it but Seamark; without it one is made, and taken down")
	return cmd
}
