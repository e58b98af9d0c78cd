package provider

import (
	"context"
	"errors"
	"fmt"
	"math"
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
)

const (
	namespace = "bench"
	poolName  = "bench"
)

// pool is where the Services' addresses come from.
func pool() netip.Prefix { return netip.MustParsePrefix("198.18.0.0/16") }

func vips() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "seamark.io", Version: "v1alpha1", Resource: "vips"}
}

// cluster is the cluster of a lab.
type cluster struct {
	lab     *lab.Lab
	kube    kubernetes.Interface
	dynamic dynamic.Interface
	// control reaches the controller's own port, from inside the lab.
	control *http.Client
	log     *progress
	// replicas is how many of the controller there were at first.
	replicas int32
	// idles is what the lab was found to use when it has nothing to do, in cores, where that is more than it should.
	idles float64
}

// connect makes the clients for the cluster of a lab.
func connect(l *lab.Lab, log *progress) (*cluster, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	c := &cluster{lab: l, log: log}
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
	scale, err := c.kube.AppsV1().Deployments(systemNamespace).GetScale(ctx, controller, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the controller: %w", err)
	}
	c.replicas = scale.Spec.Replicas
	_, err = c.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the namespace %s: %w", namespace, err)
	}
	manifest := fmt.Sprintf(`{"apiVersion": "seamark.io/v1alpha1", "kind": "IPPool", "metadata": {"name": %q}, "spec": {"addresses": [%q]}}`, poolName, pool())
	if err := c.lab.Apply(ctx, []byte(manifest)); err != nil {
		return fmt.Errorf("make the pool: %w", err)
	}
	return nil
}

// clear removes what the benchmark has made in a lab that stays, and runs controller and agents as before.
func (c *cluster) clear(ctx context.Context) error {
	c.log.printf("removing Services, pool and namespace")
	err := errors.Join(c.agents(ctx, true), c.scale(ctx, c.replicas))
	if err == nil {
		err = c.remove(ctx)
	}
	_, poolErr := c.lab.Kubectl(ctx, "delete", "ippool/"+poolName, "namespace/"+namespace, "--ignore-not-found", "--timeout=1m")
	return errors.Join(err, poolErr)
}

const checkEvery = 250 * time.Millisecond

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
	quietLimit = time.Minute
	// What the controller, and all of the lab, use at most when they have nothing to do, in cores.
	quietController, quietLab = 0.02, 0.4
)

// quiet waits until neither the controller nor the rest of the lab does more than when they are idle. If that does not
// come about within a while it says so, and what is measured has it in it; a lab that uses more when it is idle, because
// the machine is slow, is then waited for no longer than until it is back to that.
func (c *cluster) quiet(ctx context.Context) error {
	before, err := bench.ReadAccounts(c.lab)
	if err != nil {
		return err
	}
	least := math.Inf(1)
	told := time.Now()
	for start := time.Now(); ; {
		if err := sleep(ctx, quietFor); err != nil {
			return err
		}
		now, err := bench.ReadAccounts(c.lab)
		if err != nil {
			return err
		}
		own, all := cores(now.Of(controller).CPU-before.Of(controller).CPU, quietFor), cores(now.Busy(before), quietFor)
		least = min(least, all)
		if own < quietController && all < max(quietLab, c.idles) {
			return nil
		}
		if time.Since(start) > quietLimit {
			c.log.printf("after %s the lab is still at work, with %.2f cores, %.2f of them the controller's: going on", quietLimit, all, own)
			c.idles = max(c.idles, 1.2*least)
			return nil
		}
		if time.Since(told) > reportQuietEvery {
			told = time.Now()
			c.log.printf("waiting until the lab is idle: it uses %.2f cores, %.2f of them the controller", all, own)
		}
		before = now
	}
}

// reportQuietEvery is how often to tell that nothing is measured because the lab is at work.
const reportQuietEvery = 10 * time.Second

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
