package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/cloud-provider/options"

	"github.com/seamark-io/seamark/cluster/preflight"
	"github.com/seamark-io/seamark/provider"
	"github.com/seamark-io/seamark/provider/agents"
)

const (
	namespace = "seamark-system"
	leaseName = "seamark-controller"

	// apiServerWait is how long to wait for an API server that does not answer: it may just be starting.
	apiServerWait = 30 * time.Second
)

// access is what the program does to the API server, apart from what every identity may do. A test holds it against
// manifests/controller/rbac.yaml.
func access(leaseNamespace, leaseName string) []preflight.Access {
	return slices.Concat(provider.Access(), agents.Access(namespace), electionAccess(leaseNamespace, leaseName))
}

// electionAccess is what it takes to lead, and to stop leading.
func electionAccess(leaseNamespace, leaseName string) []preflight.Access {
	return []preflight.Access{
		{Verbs: []string{"create"}, Group: "coordination.k8s.io", Resource: "leases", Namespace: leaseNamespace},
		{Verbs: []string{"get", "update"}, Group: "coordination.k8s.io", Resource: "leases", Namespace: leaseNamespace, Name: leaseName},
	}
}

// preflightChecks says what is missing before anything starts that would only fail again and again. It returns the client
// that it asked with.
func preflightChecks(ctx context.Context, o *options.CloudControllerManagerOptions) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.Master, o.Generic.ClientConnection.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("find the API server: run in a pod, or give --kubeconfig: %w", err)
	}
	config.Timeout = 10 * time.Second
	config.QPS = -1
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	election := o.Generic.LeaderElection
	return kube, preflight.Check(ctx, preflight.Config{
		Kube:     kube,
		Access:   access(election.ResourceNamespace, election.ResourceName),
		Wait:     apiServerWait,
		Manifest: "manifests/controller/rbac.yaml",
		Log:      slog.Default(),
	})
}
