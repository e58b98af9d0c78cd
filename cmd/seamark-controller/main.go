// Command seamark-controller gives Services of type LoadBalancer their addresses. It is a cloud-controller-manager with
// the service controller of k8s.io/cloud-provider and package provider behind it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the API client and its queues
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd, err := newCommand(ctx)
	if err == nil {
		err = cli.RunNoErrOutput(cmd)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "seamark-controller:", err)
		return 1
	}
	return 0
}
