// Kube is the lab's Kubernetes in one file: kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet and
// kubectl, chosen by the name it is called by (a symbolic link) or by its first argument. The programs are upstream's own,
// from the module k8s.io/kubernetes; only main is ours, because one link instead of six takes a third of the time and the
// machine keeps one copy of the text in memory for all nodes of a lab.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // time zones of CronJobs

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's exec and OIDC credentials
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // the metrics of client-go, as upstream's mains register them
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs returns the mains by name. The build in package artifacts makes a link for each of the names.
func programs() map[string]func() int {
	return map[string]func() int{
		"kube-apiserver":          server(apiserver.NewAPIServerCommand),
		"kube-controller-manager": server(controllermanager.NewControllerManagerCommand),
		"kube-scheduler":          server(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kube-proxy":              server(proxy.NewProxyCommand),
		"kubelet":                 server(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
		"kubectl":                 kubectl,
	}
}

func main() { os.Exit(run()) }

func run() int {
	programs := programs()
	if program, ok := programs[filepath.Base(os.Args[0])]; ok {
		return program()
	}
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			os.Args = os.Args[1:] // the programs read os.Args themselves
			return program()
		}
	}
	names := slices.Sorted(maps.Keys(programs))
	fmt.Fprintf(os.Stderr, "usage: kube PROGRAM [FLAG]..., or a link to kube named as one of the programs:\n\t%s\n", strings.Join(names, "\n\t"))
	return 2
}

func server(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func kubectl() int {
	// The verbosity must stand before the command is made: making it already loads plugins and kuberc.
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args)); err != nil {
		fmt.Fprintln(os.Stderr, "kubectl: -v:", err)
		return 2
	}
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // prints and exits with kubectl's own codes
	}
	return 0
}
