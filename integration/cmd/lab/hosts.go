package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/lab"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the lab's hosts, what runs on them, and the cluster's nodes",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.Status(cmd.Context(), os.Stdout)
		},
	}
}

func (a *app) exec() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "exec HOST -- COMMAND [ARG…]",
		Short:             "Run a command on a host; kubectl works there, too",
		Example:           "  lab exec router -- birdc show route\n  lab exec node1 -- ctr -n k8s.io containers ls",
		Args:              args(2, -1),
		ValidArgsFunction: a.completeHosts(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			h, err := l.Host(args[0])
			if err != nil {
				return err
			}
			command := args[1:]
			if command[0] == "--" && len(command) > 1 {
				command = command[1:]
			}
			c := h.Command(context.WithoutCancel(cmd.Context()), command...)
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			return runForwarding(c)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows HOST is the command's own
	return cmd
}

// exitStatus is what "lab exec" ends with, after its command.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// runForwarding runs a command to its end. The command decides what a signal means:
// those of our terminal it gets as we do, and what else asks us to end is passed on.
// If it fails the error is its [exitStatus], as a shell tells it.
func runForwarding(c *exec.Cmd) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				_ = c.Process.Signal(s) // it may have ended
			case <-ended:
				return
			}
		}
	}()
	err := c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitStatus(128 + int(status.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

func (a *app) logs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs HOST [PROCESS]",
		Short: "Print the log of a process or container of a host, or the ends of all its logs",
		Args:  args(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			h, err := l.Host(args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return h.LogTails(os.Stdout)
			}
			return h.Logs(cmd.Context(), os.Stdout, args[1], follow)
		},
		ValidArgsFunction: a.completeHosts(1),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what is added, until interrupted")
	return cmd
}

func (a *app) cut() *cobra.Command {
	var oneWay bool
	var loss int
	cmd := &cobra.Command{
		Use:   "cut HOST [HOST]",
		Short: "Pull the cable of a host, or drop what is sent between two",
		Long: `With one host the switch side of its links goes down: the host loses its carrier.
With two the switch drops every frame between them, or with --one-way those from the first to
the second, or with --loss a share in both directions; both reach all others.`,
		Example:           "  lab cut node1\n  lab cut --loss 20 node1 node2",
		Args:              args(1, 2),
		ValidArgsFunction: a.completeHosts(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			two := (*lab.Lab).CutBetween
			switch {
			case (oneWay || loss > 0) && len(args) < 2:
				return errors.New("--one-way and --loss are for what is between two hosts: name both")
			case oneWay:
				two = (*lab.Lab).CutOneWay
			case loss > 0:
				two = func(l *lab.Lab, ctx context.Context, a, b string) error { return l.LoseBetween(ctx, a, b, loss) }
			}
			return a.oneOrTwo((*lab.Lab).Cut, two)(cmd, args)
		},
	}
	cmd.Flags().BoolVar(&oneWay, "one-way", false, "drop only what the first host sends to the second")
	cmd.Flags().IntVar(&loss, "loss", 0, "drop so many per cent, chosen at random")
	cmd.MarkFlagsMutuallyExclusive("one-way", "loss")
	return cmd
}

func (a *app) heal() *cobra.Command {
	return &cobra.Command{
		Use:               "heal HOST [HOST]",
		Short:             "Undo what cut did to the same hosts",
		Args:              args(1, 2),
		ValidArgsFunction: a.completeHosts(2),
		RunE:              a.oneOrTwo((*lab.Lab).Heal, (*lab.Lab).HealBetween),
	}
}

func (a *app) oneOrTwo(
	one func(*lab.Lab, context.Context, string) error,
	two func(*lab.Lab, context.Context, string, string) error,
) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		l, err := a.open()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return one(l, cmd.Context(), args[0])
		}
		return two(l, cmd.Context(), args[0], args[1])
	}
}

func (a *app) signal(verb, short string, send func(*lab.Lab, context.Context, string, string) error) *cobra.Command {
	return &cobra.Command{
		Use:               verb + " HOST PROCESS",
		Short:             short,
		Example:           fmt.Sprintf("  lab %s node1 kubelet\n  lab %s node1 seamark-node", verb, verb),
		Args:              args(2, 2),
		ValidArgsFunction: a.completeHosts(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return send(l, cmd.Context(), args[0], args[1])
		},
	}
}

func (a *app) node() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Switch nodes (also routers and plain hosts) off and on",
	}
	power := func(verb, short string, do func(*lab.Lab, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use:               verb + " NODE",
			Short:             short,
			Args:              args(1, 1),
			ValidArgsFunction: a.completeHosts(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				l, err := a.open()
				if err != nil {
					return err
				}
				return do(l, cmd.Context(), args[0])
			},
		}
	}
	cmd.AddCommand(
		power("stop", "Switch a node off, as if its power failed; its files stay", (*lab.Lab).StopNode),
		power("start", "Switch a node on, or start what of the lab's own was killed there", (*lab.Lab).StartNode))
	return cmd
}

func (a *app) etcd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "etcd",
		Short: "Save what the cluster's store holds, and go back to it",
	}
	do := func(verb, short string, do func(*lab.Lab, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use:   verb + " SNAPSHOT",
			Short: short,
			Args:  args(1, 1),
			RunE: func(cmd *cobra.Command, args []string) error {
				l, err := a.open()
				if err != nil {
					return err
				}
				return do(l, cmd.Context(), args[0])
			},
		}
	}
	cmd.AddCommand(
		do("snapshot", "Save what etcd holds, under a name", (*lab.Lab).Snapshot),
		do("restore", "Start etcd and the API server anew with what was saved", (*lab.Lab).Restore))
	return cmd
}

// completeHosts completes the first n arguments with the names of hosts.
func (a *app) completeHosts(n int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		l, err := lab.Open(a.name)
		if err != nil || len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, h := range l.Plan().Hosts {
			names = append(names, h.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
