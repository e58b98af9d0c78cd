package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

const (
	systemNamespace = "seamark-system"
	controller      = "seamark-controller" // the Deployment, the label of its pods, and the process
	controllerPort  = 10258
	agent           = "seamark-node" // the DaemonSet, and the process
)

const scaleLimit = time.Minute

// scale sets the number of the controller's replicas and waits until that is how many run. Whether one leads is known when
// it gives out an address.
func (c *cluster) scale(ctx context.Context, replicas int32) error {
	deployments := c.kube.AppsV1().Deployments(systemNamespace)
	patch := fmt.Appendf(nil, `{"spec": {"replicas": %d}}`, replicas)
	if _, err := deployments.Patch(ctx, controller, types.MergePatchType, patch, metav1.PatchOptions{}, "scale"); err != nil {
		return fmt.Errorf("scale the controller to %d: %w", replicas, err)
	}
	return until(ctx, scaleLimit, fmt.Sprintf("%d replicas of the controller", replicas), func(ctx context.Context) (bool, error) {
		d, err := deployments.Get(ctx, controller, metav1.GetOptions{})
		if err != nil || d.Status.ObservedGeneration < d.Generation || d.Status.ReadyReplicas != replicas {
			return false, err
		}
		accounts, err := bench.ReadAccounts(c.lab)
		return accounts.Of(controller).Count == int(replicas), err
	})
}

// agents has the agents run on all nodes, or on none, and waits until that is so.
func (c *cluster) agents(ctx context.Context, run bool) error {
	daemons := c.kube.AppsV1().DaemonSets(systemNamespace)
	patch, want, what := `{"spec": {"template": {"spec": {"nodeSelector": {"seamark.io/no-node": "has-this"}}}}}`, 0, "no agent"
	if run {
		patch, want, what = `{"spec": {"template": {"spec": {"nodeSelector": null}}}}`, len(c.lab.Plan().Nodes()), "an agent on each node"
	}
	if _, err := daemons.Patch(ctx, agent, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("have %s: %w", what, err)
	}
	return until(ctx, scaleLimit, what, func(ctx context.Context) (bool, error) {
		d, err := daemons.Get(ctx, agent, metav1.GetOptions{})
		if err != nil || d.Status.ObservedGeneration < d.Generation || int(d.Status.NumberReady) != want || int(d.Status.UpdatedNumberScheduled) != want {
			return false, err
		}
		accounts, err := bench.ReadAccounts(c.lab)
		return accounts.Of(agent).Count == want, err
	})
}

// controlClient presents the certificate of the lab's administrator, which the controller has the API server check. Its
// own certificate it makes at its start, so there is nothing to check that with.
func controlClient(l *lab.Lab, config *rest.Config) (*http.Client, error) {
	host, err := l.Host("cp")
	if err != nil {
		return nil, err
	}
	admin := rest.CopyConfig(config)
	admin.Insecure, admin.CAData, admin.CAFile = true, nil, ""
	admin.Dial = probe.Namespace(host.NetNS()).DialContext
	return rest.HTTPClientFor(admin)
}

// askController gets a path of the own port of the controller that leads.
func (c *cluster) askController(ctx context.Context, path string) (io.ReadCloser, error) {
	pod, err := c.leader(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the controller that leads: %w", err)
	}
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s%s", netip.AddrPortFrom(addr, controllerPort), path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.control.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the controller for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("ask the controller for %s: %s", path, resp.Status)
	}
	return resp.Body, nil
}

// leader returns the pod that the controller's Lease names, with "_" and a random part behind.
func (c *cluster) leader(ctx context.Context) (*corev1.Pod, error) {
	lease, err := c.kube.CoordinationV1().Leases(systemNamespace).Get(ctx, controller, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil {
		return nil, errors.New("nobody holds the Lease")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	return c.kube.CoreV1().Pods(systemNamespace).Get(ctx, name, metav1.GetOptions{})
}

// counters are what is counted at one moment.
type counters struct {
	accounts   bench.Accounts
	apiServer  bench.Metrics
	controller bench.Metrics
}

func (c *cluster) counters(ctx context.Context) (k counters, err error) {
	answer, err := c.askController(ctx, "/metrics")
	if err != nil {
		return k, err
	}
	defer answer.Close()
	if k.controller, err = bench.ParseMetrics(answer); err != nil {
		return k, fmt.Errorf("the controller's metrics: %w", err)
	}
	stream, err := c.kube.Discovery().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return k, fmt.Errorf("the API server's metrics: %w", err)
	}
	defer stream.Close()
	if k.apiServer, err = bench.ParseMetrics(stream); err != nil {
		return k, fmt.Errorf("the API server's metrics: %w", err)
	}
	k.accounts, err = bench.ReadAccounts(c.lab)
	return k, err
}
