package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/term"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/provider"
)

const description = `seamark-controller gives Services of type LoadBalancer their addresses, from IPPools.
It is a cloud-controller-manager with --cloud-provider=seamark. Of several replicas one,
the leader, works. It is never in the path of packets: while it is down, what has an
address keeps working and nothing new gets one.`

// shown are the flags that --help lists, with a text of our own where that of k8s.io/cloud-provider does not fit. Its
// other flags work, but are about what Seamark does not have (node and route controllers, cloud credentials) or about
// what nobody should need to change.
func shown() map[string]string {
	return map[string]string{
		"kubeconfig": "Path to a kubeconfig file; not needed in a pod.",
		"master":     "Address of the API server, in place of the one in the kubeconfig.",
		"kube-api-qps": "Requests per second to the API server; negative: no limit, so that the API server's own " +
			"priority and fairness decides.",
		"kube-api-burst":           "Requests above --kube-api-qps for a moment.",
		"concurrent-service-syncs": "How many Services are worked on at once.",
		"load-balancer-class": "The spec.loadBalancerClass of Services to serve beside those that name no class; those of other " +
			"classes are left alone.",
		"serve-classless-services": "Serve Services without spec.loadBalancerClass, too. With false they are left to another " +
			"implementation that runs in the cluster; an address that one of them had from Seamark is given back.",

		"leader-elect":                    "Let one of several replicas work.",
		"leader-elect-lease-duration":     "How long the others wait for a leader that says nothing.",
		"leader-elect-renew-deadline":     "How long a leader goes on trying to renew before it gives up.",
		"leader-elect-retry-period":       "How long between tries to become, or to stay, leader.",
		"leader-elect-resource-name":      "Name of the Lease.",
		"leader-elect-resource-namespace": "Namespace of the Lease.",

		"bind-address":                     "Address to serve /healthz and /metrics on.",
		"secure-port":                      "Port to serve /healthz and /metrics on, by HTTPS; 0: none.",
		"tls-cert-file":                    "Certificate for --secure-port; none: one is made in memory.",
		"tls-private-key-file":             "Key of --tls-cert-file.",
		"authorization-always-allow-paths": "Paths that everybody may read. Others need the right to get the nonResourceURL.",

		"profiling": "Serve /debug/pprof.", "help": "Print this text.",
		"logging-format": "", "v": "", "vmodule": "",
	}
}

// farewell is how long the end of the process may take.
const farewell = 2 * time.Second

func newCommand(ctx context.Context) (*cobra.Command, error) {
	o, err := newOptions()
	if err != nil {
		return nil, fmt.Errorf("default options: %w", err)
	}
	served := services{class: v1alpha1.LoadBalancerClass, classless: true}
	var flags cliflag.NamedFlagSets
	flags.FlagSet("seamark").StringVar(&served.class, "load-balancer-class", served.class, "")
	flags.FlagSet("seamark").BoolVar(&served.classless, "serve-classless-services", served.classless, "")
	cmd := app.NewCloudControllerManagerCommand(o, newCloud(ctx, &served), controllers(), names.CCMControllerAliases(), flags, ctx.Done())
	cmd.Use = "seamark-controller"
	cmd.Short = "Give Services of type LoadBalancer their addresses"
	cmd.Long = description
	cmd.Args = cobra.NoArgs
	cmd.CompletionOptions.DisableDefaultCmd = true
	texts := shown()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		text, ok := texts[f.Name]
		f.Usage, f.Hidden = cmp.Or(text, f.Usage), !ok
	})
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		_, _ = io.WriteString(cmd.OutOrStdout(), cmd.Long+"\n\n"+usage(cmd))
	})
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		_, err := io.WriteString(cmd.OutOrStderr(), usage(cmd))
		return err
	})
	serve := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if name := o.KubeCloudShared.CloudProvider.Name; name != provider.Name {
			return fmt.Errorf("--cloud-provider=%s: this program is the cloud provider %s and no other: leave the flag out", name, provider.Name)
		}
		if problems := validation.IsQualifiedName(served.class); len(problems) > 0 {
			return fmt.Errorf("--load-balancer-class=%s: %s", served.class, strings.Join(problems, "; "))
		}
		kube, err := preflightChecks(ctx, o)
		if err != nil {
			return err
		}
		if os.Getenv("GOGC") == "" { // who sets it knows what is wanted
			go collectGarbage(ctx)
		}
		err = serve(cmd, args)
		if election := o.Generic.LeaderElection; ctx.Err() != nil && election.LeaderElect {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
			defer cancel()
			if err := releaseLease(last, kube, election.ResourceNamespace, election.ResourceName); err != nil {
				klog.ErrorS(err, "another replica has to wait until the Lease has run out")
			}
		}
		return err
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  "Print the version.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "seamark-controller %s (%s, %s/%s)\n", version.Get().GitVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	})
	return cmd, nil
}

// newOptions returns the defaults, where they are not those of every cloud-controller-manager.
func newOptions() (*options.CloudControllerManagerOptions, error) {
	o, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	o.KubeCloudShared.CloudProvider.Name = provider.Name
	// An allocation is one or two small writes: what bounds them is the API server's priority and fairness.
	o.ServiceController.ConcurrentServiceSyncs = 32
	o.Generic.ClientConnection.QPS = -1
	o.Generic.LeaderElection.ResourceName = leaseName
	o.Generic.LeaderElection.ResourceNamespace = namespace
	o.SecureServing.ServerCert.PairName = leaseName // the certificate itself is made in memory
	o.Webhook, o.WebhookServing = nil, nil
	return o, nil
}

func usage(cmd *cobra.Command) string {
	cols, _, err := term.TerminalSize(cmd.OutOrStdout())
	if err != nil || cols == 0 {
		cols = 100
	}
	text := "Usage:\n  " + cmd.UseLine() + "\n"
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			text += "  " + sub.CommandPath() + "\n"
		}
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		text += "\nFlags:\n" + flags.FlagUsagesWrapped(cols)
	}
	return text
}
