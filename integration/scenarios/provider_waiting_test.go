package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	poolToWaitFor = "198.18.19.0/31"
	// promised is within what time a Service that waits is served. That one of several is shows that it is kept; servedLimit,
	// for all of them, is for busy machines, and far from what a lost wake-up or a back-off takes.
	promised    = time.Second
	servedLimit = 5 * time.Second
	// waitingTime is long enough for several retries of a controller that does retry.
	waitingTime = time.Minute
)

// Services that wait are told once, and not at every attempt; they are served in order of age, within a second of an
// address freeing or a pool growing, however long they have waited.
func TestWaiting(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool("198.18.19.0/32")
	ns.createService(ns.balancer("first"))
	ns.awaitVIPs("first")
	names := []string{"zoe", "anna", "mia", "bob"}
	for _, name := range names {
		ns.createService(ns.balancer(name))
		await(t, changeLimit, name+" waits", func(context.Context) error { return ns.notAllocated(name, "PoolExhausted") })
		pause(t, 1100*time.Millisecond) // creation times have seconds
	}
	pause(t, waitingTime)
	ns.consistent(names...)
	for _, name := range names {
		ns.warnedOnce(name)
	}

	best := servedLimit
	served := func(service, when string, do func(ctx context.Context) error) {
		t.Helper()
		after, err := ns.awaitAddress(service, do)
		if err != nil {
			t.Fatalf("%s, %s: %v", service, when, err)
		}
		t.Logf("%s is served %s after %s", service, after.Round(time.Millisecond), when)
		if after > servedLimit {
			t.Errorf("%s is served %s after %s, want at most %s", service, after, when, servedLimit)
		}
		best = min(best, after)
	}
	services := cluster.client.CoreV1().Services(ns.name)
	served("zoe", "a Service was deleted", func(ctx context.Context) error {
		return services.Delete(ctx, "first", metav1.DeleteOptions{})
	})
	served("anna", "the pool grew", func(ctx context.Context) error { return ns.setPool(ctx, poolToWaitFor) })
	served("mia", "a Service became a ClusterIP Service", func(ctx context.Context) error {
		_, err := services.Patch(ctx, "zoe", types.MergePatchType, []byte(`{"spec": {"type": "ClusterIP"}}`), metav1.PatchOptions{})
		return err
	})
	if best > promised {
		t.Errorf("none is served within %s", promised)
	}
	ns.consistent("bob")
	ns.deleteServices()
}

// setPool changes the addresses of the namespace's pool.
func (ns *namespace) setPool(ctx context.Context, addresses string) error {
	patch := fmt.Sprintf(`{"spec": {"addresses": [%q]}}`, addresses)
	_, err := resource("ippools").Patch(ctx, ns.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// awaitAddress does something and returns after what time a Service has an address, which it has not before.
func (ns *namespace) awaitAddress(service string, do func(ctx context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(contextOf(ns.t), changeLimit)
	defer cancel()
	services := cluster.client.CoreV1().Services(ns.name)
	selector := metav1.ListOptions{FieldSelector: "metadata.name=" + service}
	list, err := services.List(ctx, selector)
	if err != nil {
		return 0, err
	}
	if len(list.Items) != 1 || len(vips(&list.Items[0])) > 0 {
		return 0, fmt.Errorf("it does not wait: %+v", list.Items)
	}
	// From the list's version, and not from the Service's, which the API server may no longer remember.
	selector.ResourceVersion = list.ResourceVersion
	events, err := services.Watch(ctx, selector)
	if err != nil {
		return 0, err
	}
	defer events.Stop()
	start := time.Now()
	if err := do(ctx); err != nil {
		return 0, err
	}
	for event := range events.ResultChan() {
		if event.Type == watch.Error {
			return 0, fmt.Errorf("the watch broke after %s: %w", time.Since(start), apierrors.FromObject(event.Object))
		}
		if s, ok := event.Object.(*corev1.Service); ok && event.Type != watch.Deleted && len(vips(s)) > 0 {
			return time.Since(start), nil
		}
	}
	if ctx.Err() == nil {
		return 0, fmt.Errorf("the watch ended after %s", time.Since(start))
	}
	return 0, fmt.Errorf("no address after %s", time.Since(start))
}

// warnedOnce checks that there is one Warning event of the controller about a Service, and that it happened once.
func (ns *namespace) warnedOnce(service string) {
	ns.t.Helper()
	await(ns.t, changeLimit, "one Warning about "+service, func(ctx context.Context) error {
		list, err := cluster.client.CoreV1().Events(ns.name).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.name=" + service})
		if err != nil {
			return err
		}
		var told []string
		var errs []error
		ours := 0
		for _, e := range list.Items {
			told = append(told, fmt.Sprintf("%s, %d times: %s: %s", e.Source.Component, max(e.Count, 1), e.Reason, e.Message))
			if e.Source.Component == controllerProgram {
				ours++
				errs = append(errs, want("how often it is told", max(e.Count, 1), 1))
			}
		}
		return errors.Join(append(errs, want("the number of the controller's warnings about "+service+", of these,\n"+strings.Join(told, "\n"), ours, 1))...)
	})
}
