package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

const (
	namespace = "bench"
	poolName  = "bench"

	systemNamespace = "seamark-system"
	controller      = "seamark-controller" // the Deployment, its container and the process
	controllerPort  = 10258
)

// pool is where the Services' addresses come from.
func pool() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/16") }

func vips() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "seamark.io", Version: "v1alpha1", Resource: "vips"}
}

// cluster is the cluster of a lab.
type cluster struct {
	lab     *lab.Lab
	config  *rest.Config
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	// control reaches the controller's own port, from inside the lab.
	control *http.Client
	log     *progress
}

// connect makes the clients for the cluster of a lab.
func connect(l *lab.Lab, log *progress) (*cluster, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	c := &cluster{lab: l, config: config, log: log}
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	if c.kube, err = kubernetes.NewForConfig(typed); err != nil {
		return nil, err
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.control, err = controlClient(l, config); err != nil {
		return nil, err
	}
	return c, nil
}

// furnish makes what the Services of the benchmark need.
func (c *cluster) furnish(ctx context.Context) error {
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the namespace %s: %w", namespace, err)
	}
	manifest := fmt.Sprintf(`{"apiVersion": "seamark.io/v1alpha1", "kind": "IPPool", "metadata": {"name": %q}, "spec": {"addresses": [%q]}}`, poolName, pool())
	if err := c.lab.Apply(ctx, []byte(manifest)); err != nil {
		return fmt.Errorf("make the pool: %w", err)
	}
	return nil
}

// clear removes what the benchmark has made, in a lab that stays, and lets the controller run.
func (c *cluster) clear(ctx context.Context) error {
	c.log.printf("removing Services, pool and namespace")
	err := errors.Join(c.scale(ctx, 1), c.remove(ctx))
	_, poolErr := c.lab.Kubectl(ctx, "delete", "ippool", poolName, "--ignore-not-found", "--timeout=1m")
	return errors.Join(err, poolErr, c.kube.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}))
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

// askController gets a path of the controller's own port.
func (c *cluster) askController(ctx context.Context, path string) (io.ReadCloser, error) {
	pods, err := c.kube.CoreV1().Pods(systemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + controller})
	if err != nil {
		return nil, fmt.Errorf("find the controller's pod: %w", err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
			continue
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
	return nil, errors.New("the controller has no pod")
}

const (
	scaleLimit = time.Minute
	checkEvery = 250 * time.Millisecond
)

// scale sets the number of the controller's replicas, 0 or 1, and waits until that is how many run. Whether one leads is
// known when it gives out an address.
func (c *cluster) scale(ctx context.Context, replicas int32) error {
	deployments := c.kube.AppsV1().Deployments(systemNamespace)
	scale, err := deployments.GetScale(ctx, controller, metav1.GetOptions{})
	if err == nil {
		scale.Spec.Replicas = replicas
		_, err = deployments.UpdateScale(ctx, controller, scale, metav1.UpdateOptions{})
	}
	if err != nil {
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

// until calls done until it reports true or an error, for no longer than limit.
func until(ctx context.Context, limit time.Duration, what string, done func(ctx context.Context) (bool, error)) error {
	err := wait.PollUntilContextTimeout(ctx, checkEvery, limit, true, done)
	if wait.Interrupted(err) && ctx.Err() == nil {
		return fmt.Errorf("waited %s for %s: %w", limit, what, err)
	}
	return err
}

const (
	quietFor   = 2 * time.Second
	quietLimit = 3 * time.Minute
	// What the controller and all of the lab use at most when they have nothing to do, in cores.
	quietController, quietLab = 0.02, 0.4
)

// quiet waits until neither the controller nor the rest of the lab does more than it does when idle.
func (c *cluster) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, quietLimit, fmt.Errorf("the lab is still at work after %s", quietLimit))
	defer cancel()
	before, err := bench.ReadAccounts(c.lab)
	if err != nil {
		return err
	}
	for {
		if err := sleep(ctx, quietFor); err != nil {
			return err
		}
		now, err := bench.ReadAccounts(c.lab)
		if err != nil {
			return err
		}
		own := now.Of(controller).CPU - before.Of(controller).CPU
		if cores(own, quietFor) < quietController && cores(now.Busy(before), quietFor) < quietLab {
			return nil
		}
		before = now
	}
}

func cores(busy, of time.Duration) float64 { return busy.Seconds() / of.Seconds() }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
