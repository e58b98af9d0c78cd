// Command lab runs real Kubernetes clusters on this machine, each in network
// namespaces of its own; see package lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/artifacts"
	"github.com/seamark-io/seamark/integration/lab"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if status := exitStatus(0); errors.As(err, &status) {
		return int(status)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	return 0
}

// app is what all subcommands share.
type app struct {
	name string
}

func newCommand() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "lab",
		Short: "Run a real Kubernetes cluster on this machine, in network namespaces",
		Long: `lab runs real Kubernetes clusters on this machine: control plane, nodes with
containerd, a BIRD router and plain hosts, each a network namespace, connected
by a switch whose links can be cut. It needs root.

Hosts are lan (the switch), cp, node1…nodeN, client (on the nodes' LAN), router,
router2 and remote (behind the routers).`,
		Example: `  lab up --nodes 3
  export KUBECONFIG=$(lab kubeconfig)
  lab exec client -- curl -s http://10.77.0.200/
  lab cut node1 && lab heal node1
  lab down`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	name := os.Getenv("SEAMARK_LAB")
	if name == "" {
		name = lab.DefaultOptions().Name
	}
	root.PersistentFlags().StringVarP(&a.name, "name", "n", name, "name of the lab (also $SEAMARK_LAB); several can run at once")
	root.AddCommand(a.up(), a.down(), a.build(), a.list(), a.status(), a.kubeconfig(), a.exec(), a.load(), a.logs())
	root.AddCommand(a.cut(), a.heal())
	root.AddCommand(
		a.signal("freeze", "Stop all processes of a name on a host (SIGSTOP), also those in pods", (*lab.Lab).Freeze),
		a.signal("thaw", "Let frozen processes go on (SIGCONT)", (*lab.Lab).Thaw),
		a.signal("kill", "Kill all processes of a name on a host (SIGKILL), also those in pods", (*lab.Lab).Kill),
		a.node(), a.etcd())
	return root
}

// args accepts from least to most arguments, any number from least if most is
// negative, and otherwise says how the command is used.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return fmt.Errorf("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// open opens the lab; progress goes to standard error.
func (a *app) open() (*lab.Lab, error) {
	l, err := lab.Open(a.name)
	if errors.Is(err, lab.ErrNotFound) {
		return nil, fmt.Errorf("%w: start it with: lab up --name %s", err, a.name)
	}
	if err != nil {
		return nil, err
	}
	l.SetProgress(os.Stderr)
	return l, nil
}

func (a *app) up() *cobra.Command {
	o := lab.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab and wait until its cluster is ready",
		Example: `  lab up                                       # Seamark in all its parts
  lab up --proxy kube-proxy --dns coredns --lb none   # the control: upstream's parts`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name, o.Progress = a.name, os.Stderr
			l, err := lab.Up(cmd.Context(), o)
			if err != nil && l != nil {
				return fmt.Errorf("%w\nWhat was made is still there: look with lab status and lab logs, remove it with lab down", err)
			}
			if err != nil {
				return err
			}
			fmt.Printf("export KUBECONFIG=%s\n", l.Kubeconfig())
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "number of nodes")
	f.StringVar((*string)(&o.Families), "families", string(o.Families), "IP families: dual, ipv4 or ipv6")
	f.StringVar((*string)(&o.LB), "lb", string(o.LB), "load balancer provider: seamark or none")
	f.IntVar(&o.Zones, "zones", o.Zones, "number of zones to spread the nodes over; 0 gives them no zone label")
	f.BoolVar(&o.Router2, "router2", o.Router2, "add a second router")
	f.IntVar(&o.Segment2, "segment2", o.Segment2, "number of nodes, counted from the last, on a second LAN segment")
	f.DurationVar(&o.HeartbeatInterval, "heartbeat-interval", o.HeartbeatInterval, "time between the agents' heartbeats; 0 is their default")
	f.DurationVar(&o.NodeGrace, "node-grace", o.NodeGrace, "time until a silent node is NotReady; 0 is Kubernetes' default of 50s")
	complete(cmd, "families", "dual", "ipv4", "ipv6")
	complete(cmd, "lb", "seamark", "none")
	needs(cmd, &o)
	return cmd
}

// needs adds the flags that say what must be built for a lab.
func needs(cmd *cobra.Command, o *lab.Options) {
	f := cmd.Flags()
	f.StringVar((*string)(&o.Proxy), "proxy", string(o.Proxy), "service proxy: seamark, kube-proxy or none")
	f.StringVar((*string)(&o.DNS), "dns", string(o.DNS), "cluster DNS: seamark, coredns or none")
	f.StringSliceVar(&o.Images, "images", o.Images, "further images for all nodes: agnhost, e2e")
	f.StringVar(&o.Source, "source", o.Source, "checkout of Seamark (default: around the working directory)")
	complete(cmd, "proxy", "seamark", "kube-proxy", "none")
	complete(cmd, "dns", "seamark", "coredns", "none")
	complete(cmd, "images", "agnhost", "e2e")
}

func (a *app) build() *cobra.Command {
	o := lab.DefaultOptions()
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build what lab up would build, and keep it in the cache",
		Long: `Build what lab up would build with the same flags, where it is not in the cache
yet: the programs of Kubernetes, and images that are not Seamark's own.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			programs, images := lab.Needs(o)
			cache := &artifacts.Cache{Source: o.Source, Log: os.Stderr}
			return cache.Prepare(cmd.Context(), programs, images)
		},
	}
	needs(cmd, &o)
	return cmd
}

func complete(cmd *cobra.Command, flag string, values ...string) {
	// Fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove a lab and everything of it, whatever state it is in",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return lab.Down(cmd.Context(), a.name, os.Stderr)
		},
	}
}

func (a *app) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Print the names of the labs of this machine",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := lab.List()
			for _, name := range names {
				fmt.Println(name)
			}
			return err
		},
	}
}

func (a *app) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the path of the lab's kubeconfig",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			fmt.Println(l.Kubeconfig())
			return nil
		},
	}
}

func (a *app) load() *cobra.Command {
	return &cobra.Command{
		Use:   "load IMAGE.tar [NODE…]",
		Short: "Import an image archive (OCI or docker) on all nodes, or on those named",
		Args:  args(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.Load(cmd.Context(), args[0], args[1:]...)
		},
	}
}
