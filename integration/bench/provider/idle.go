package provider

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// idlePause is left between two Services, so that what follows on one is not measured with the next.
	idlePause = 100 * time.Millisecond
	idleLimit = 30 * time.Second
)

// sample is what became of one Service, in milliseconds since the call that creates it.
type sample struct {
	created float64 // the call returned
	vip     float64 // a watch showed its VIP
	status  float64 // a watch showed the address in its status
}

// idle is what was measured of Services made one at a time.
type idle struct {
	samples       []sample
	before, after counters
}

// idle makes n Services one at a time, after some that do not count, and deletes them.
func (c *cluster) idle(ctx context.Context, n int) (*idle, error) {
	if err := c.warmUp(ctx); err != nil {
		return nil, err
	}
	services, err := c.watchServices(ctx)
	if err != nil {
		return nil, err
	}
	defer services.Stop()
	addresses, err := c.watchVIPs(ctx)
	if err != nil {
		return nil, err
	}
	defer addresses.Stop()

	var i idle
	if i.before, err = c.counters(ctx); err != nil {
		return nil, err
	}
	progress := func() string { return fmt.Sprintf("%d of %d Services, one at a time", len(i.samples), n) }
	for _, name := range names("idle", n) {
		if err := sleep(ctx, idlePause); err != nil {
			return nil, err
		}
		s, err := c.one(ctx, name, services, addresses)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", progress(), err)
		}
		i.samples = append(i.samples, s)
		if len(i.samples)%50 == 0 {
			c.log.printf("%s", progress())
		}
	}
	if err := c.quiet(ctx); err != nil {
		return nil, err
	}
	if i.after, err = c.counters(ctx); err != nil {
		return nil, err
	}
	return &i, c.remove(ctx)
}

// one makes a Service and follows both watches until they have shown its VIP and its status.
func (c *cluster) one(ctx context.Context, name string, services, addresses watch.Interface) (s sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, idleLimit, fmt.Errorf("no address within %s", idleLimit))
	defer cancel()
	start := time.Now()
	type outcome struct {
		at  float64
		err error
	}
	created := make(chan outcome, 1)
	go func() {
		_, err := c.kube.CoreV1().Services(namespace).Create(ctx, service(name), metav1.CreateOptions{})
		created <- outcome{milliseconds(time.Since(start)), err}
	}()
	for s.created == 0 || s.vip == 0 || s.status == 0 {
		select {
		case o := <-created:
			if o.err != nil {
				return s, o.err
			}
			s.created = o.at
		case event, ok := <-services.ResultChan():
			if !ok || event.Type == watch.Error {
				return s, watchEnded("Services", event)
			}
			svc, ok := event.Object.(*corev1.Service)
			if ok && svc.Name == name && s.status == 0 && len(svc.Status.LoadBalancer.Ingress) > 0 {
				s.status = milliseconds(time.Since(start))
			}
		case event, ok := <-addresses.ResultChan():
			if !ok || event.Type == watch.Error {
				return s, watchEnded("VIPs", event)
			}
			vip, ok := event.Object.(*unstructured.Unstructured)
			if ok && s.vip == 0 && serves(vip, name) {
				s.vip = milliseconds(time.Since(start))
			}
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
	return s, nil
}

// serves reports whether a VIP is that of a Service.
func serves(vip *unstructured.Unstructured, service string) bool {
	references, _, _ := unstructured.NestedSlice(vip.Object, "spec", "services")
	for _, r := range references {
		if r, ok := r.(map[string]any); ok && r["name"] == service && r["namespace"] == namespace {
			return true
		}
	}
	return false
}

// watchEnded is the error for a watch that ended by itself, after this event if there was one.
func watchEnded(of string, event watch.Event) error {
	if event.Object == nil {
		return fmt.Errorf("the watch of %s ended", of)
	}
	return fmt.Errorf("the watch of %s ended: %w", of, apierrors.FromObject(event.Object))
}
