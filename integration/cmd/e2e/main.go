// E2e runs Kubernetes' end-to-end tests in a lab; see package e2e.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/artifacts"
	"github.com/seamark-io/seamark/integration/e2e"
	"github.com/seamark-io/seamark/integration/lab"
)

// errFailed is returned for a run that has a result, which is not good. The summary says more.
var errFailed = errors.New("not all specs passed")

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "e2e",
		Short: "Run Kubernetes' end-to-end tests in a lab",
		Example: `  e2e run                                                  # Seamark's proxy, DNS and load balancer
  e2e run --proxy kube-proxy --dns coredns --lb none       # the control: upstream's parts
  e2e run --lab sm --focus 'session affinity'              # in a lab that is up
  e2e list core                                            # what belongs in integration/e2e/core.txt`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(runCommand(), listCommand())
	return root
}

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list core|dualstack|loadbalancer|all",
		Short: "Print the specs of the pinned Kubernetes version that belong in a list",
		Long: `Print the full names of the specs of the pinned Kubernetes version that belong in
integration/e2e/core.txt, dualstack.txt or loadbalancer.txt, as these files have them,
or the names of all specs.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"core", "dualstack", "loadbalancer", "all"},
		RunE: func(cmd *cobra.Command, args []string) error {
			suite, err := e2e.OpenSuite(cmd.Context(), &artifacts.Cache{Log: os.Stderr})
			if err != nil {
				return err
			}
			specs, err := suite.Specs(cmd.Context())
			if err != nil {
				return err
			}
			switch args[0] {
			case "core":
				specs = e2e.CoreOf(specs)
			case "dualstack":
				specs = e2e.DualStackOf(specs)
			case "loadbalancer":
				specs = e2e.LoadBalancerOf(specs)
			}
			fmt.Printf("# Made by: e2e list %s\n%s\n", args[0], strings.Join(specs, "\n"))
			return nil
		},
	}
}

// runOptions are the flags of `e2e run`.
type runOptions struct {
	lab         lab.Options
	name        string // of a running lab
	keep        bool
	lists       []string
	focus, skip string
	procs       int
	timeout     time.Duration
	out         string
}

func runCommand() *cobra.Command {
	o := &runOptions{lab: lab.DefaultOptions()}
	o.lab.Name = "e2e"
	o.lab.Nodes, o.lab.Zones = 6, 3 // specs of traffic distribution want three zones of two nodes
	// Specs keep the machine busier than a node should be, and six agents hear each other's heartbeats on it: no address is to
	// move because of that, and none of the specs is about how fast one moves.
	o.lab.HeartbeatInterval = 300 * time.Millisecond
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run specs, in a lab made for it or in one that is up",
		Long: `Run specs of Kubernetes' end-to-end suite, in a lab made for it or in one that is up.

Without --list and --focus, these are the specs of integration/e2e/core.txt, with
--families dual also those of dualstack.txt, and with --lb seamark those of
loadbalancer.txt. --focus alone picks from all specs of the suite. Specs in
integration/e2e/skip.txt are left out in any case.

The status is 0 only if each of the specs has run and passed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar((*string)(&o.lab.Proxy), "proxy", string(o.lab.Proxy), "service proxy: seamark, kube-proxy or none")
	f.StringVar((*string)(&o.lab.DNS), "dns", string(o.lab.DNS), "cluster DNS: seamark, coredns or none")
	f.StringVar((*string)(&o.lab.LB), "lb", string(o.lab.LB), "load balancer provider: seamark or none")
	f.StringVar((*string)(&o.lab.Families), "families", string(o.lab.Families), "IP families: dual, ipv4 or ipv6")
	f.IntVar(&o.lab.Nodes, "nodes", o.lab.Nodes, "number of nodes, in three zones; some specs want two nodes in each")
	f.StringVar(&o.name, "lab", "", "`NAME` of a lab that is up, to be used and left; its options decide, not the flags above")
	f.BoolVar(&o.keep, "keep", false, "leave the lab up that was made for the run")
	f.StringSliceVar(&o.lists, "list", nil, "`FILE` with the full names of specs, one a line; may be given several times")
	f.StringVar(&o.focus, "focus", "", "only specs whose names match the `REGEXP`")
	f.StringVar(&o.skip, "skip", "", "no specs whose names match the `REGEXP`")
	f.IntVar(&o.procs, "procs", 0, "specs at a time; 0: two or four for each processor, by how fast the lab came up")
	f.DurationVar(&o.timeout, "timeout", 50*time.Minute, "time for all specs")
	f.StringVar(&o.out, "out", "bin/reports/e2e", "`DIRECTORY` for junit.xml and e2e.log")
	return cmd
}

func (o *runOptions) run(ctx context.Context) (err error) {
	out, err := filepath.Abs(o.out)
	if err != nil {
		return err
	}
	if err := lab.CheckVisible("--out", out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	suite, err := o.openSuite(ctx)
	if err != nil {
		return err
	}
	selection, err := o.selection(ctx, suite)
	if err != nil {
		return err
	}
	before, err := busy()
	if err != nil {
		return err
	}
	l, down, err := o.openLab(ctx)
	defer func() { err = errors.Join(err, down()) }()
	if err != nil {
		return err
	}
	if err := o.chooseProcs(before); err != nil {
		return err
	}
	summary, err := suite.Run(ctx, e2e.Config{
		Lab: l, Selection: selection, Procs: o.procs, Timeout: o.timeout, Dir: out, Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	if err := summary.Write(os.Stdout); err != nil {
		return err
	}
	if !summary.OK() {
		return fmt.Errorf("%w; see %s and junit.xml beside it", errFailed, filepath.Join(o.out, "e2e.log"))
	}
	return nil
}

// openSuite returns the suite, after building in one go all that is missing of it and of the lab to make.
func (o *runOptions) openSuite(ctx context.Context) (*e2e.Suite, error) {
	programs, images := e2e.Needs()
	if o.name == "" {
		o.lab.Images = append(o.lab.Images, images...)
		labPrograms, labImages := lab.Needs(o.lab)
		programs, images = append(programs, labPrograms...), labImages
	}
	cache := &artifacts.Cache{Log: os.Stderr}
	if err := cache.Prepare(ctx, programs, images); err != nil {
		return nil, err
	}
	return e2e.OpenSuite(ctx, cache)
}

// openLab returns the lab to run in, and what to do with it at the end.
func (o *runOptions) openLab(ctx context.Context) (l *lab.Lab, down func() error, err error) {
	if o.name != "" {
		l, err := lab.Open(o.name)
		if err != nil {
			return nil, func() error { return nil }, err
		}
		return l, l.Close, nil
	}
	o.lab.Progress = os.Stderr
	if err := lab.Down(ctx, o.lab.Name, nil); err != nil { // what a killed run left
		return nil, func() error { return nil }, err
	}
	l, err = lab.Up(ctx, o.lab)
	down = func() error {
		if l == nil {
			return nil
		}
		if o.keep {
			fmt.Fprintf(os.Stderr, "lab %s is left up: go on with e2e run --lab %[1]s, remove it with lab down --name %[1]s; the next run without --lab does so, too\n", o.lab.Name)
			return l.Close()
		}
		// Also when ctx has ended: nothing is to be left behind.
		return l.Down(context.WithoutCancel(ctx))
	}
	return l, down, err
}

func (o *runOptions) selection(ctx context.Context, suite *e2e.Suite) (e2e.Selection, error) {
	var none e2e.Selection
	lists, err := o.readLists()
	if err != nil {
		return none, err
	}
	var focus, skip *regexp.Regexp
	if o.focus != "" {
		if focus, err = regexp.Compile(o.focus); err != nil {
			return none, fmt.Errorf("--focus: %w", err)
		}
	}
	if o.skip != "" {
		if skip, err = regexp.Compile(o.skip); err != nil {
			return none, fmt.Errorf("--skip: %w", err)
		}
	}
	skips, err := e2e.Skips()
	if err != nil {
		return none, err
	}
	specs, err := suite.Specs(ctx)
	if err != nil {
		return none, err
	}
	return e2e.Select(specs, lists, focus, skip, skips)
}

func (o *runOptions) readLists() ([]e2e.List, error) {
	var lists []e2e.List
	for _, name := range o.lists {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		list, err := e2e.ParseList(name, f)
		f.Close()
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	if len(lists) > 0 || o.focus != "" {
		return lists, nil
	}
	return o.defaultLists()
}

// defaultLists returns the lists for the kind of lab that the run is in.
func (o *runOptions) defaultLists() ([]e2e.List, error) {
	options := o.lab
	if o.name != "" {
		l, err := lab.Open(o.name)
		if err != nil {
			return nil, err
		}
		options = l.Options()
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	sources := []func() (e2e.List, error){e2e.Core}
	if options.Families == lab.DualStack {
		sources = append(sources, e2e.DualStack)
	}
	if options.LB == lab.Seamark {
		sources = append(sources, e2e.LoadBalancer)
	}
	var lists []e2e.List
	for _, source := range sources {
		list, err := source()
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}
