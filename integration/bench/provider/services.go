package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// writers is how many Services are made, or deleted, at a time.
const writers = 32

// service returns a Service that gets an address and nothing else: no node ports, and no pods.
func service(name string) *corev1.Service {
	no := false
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			AllocateLoadBalancerNodePorts: &no,
			IPFamilies:                    []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:                         []corev1.ServicePort{{Port: 80}},
		},
	}
}

// create makes the Services of these names, as many at a time as there are writers, and notes when each call returned.
func (c *cluster) create(ctx context.Context, names []string, created *moments) error {
	return eachOf(ctx, names, func(ctx context.Context, name string) error {
		err := c.patiently(ctx, "create a Service", func(again bool) error {
			_, err := c.kube.CoreV1().Services(namespace).Create(ctx, service(name), metav1.CreateOptions{})
			if again && apierrors.IsAlreadyExists(err) {
				return nil // the answer to the first call was lost
			}
			return err
		})
		created.mark(name)
		return err
	})
}

const (
	retryEvery = time.Second
	retries    = 30
)

// patiently calls f again when the API server does not answer, or cannot do it just now: what that costs is in what is
// measured, and told.
func (c *cluster) patiently(ctx context.Context, what string, f func(again bool) error) error {
	for try := 0; ; try++ {
		err := f(try > 0)
		if err == nil || !transient(err) || try == retries || ctx.Err() != nil {
			return err
		}
		c.log.printf("%s: %v: once more", what, err)
		if err := sleep(ctx, retryEvery); err != nil {
			return err
		}
	}
}

// transient reports whether an error says nothing of the request: a server that does not answer, or is too busy.
func transient(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
}

// moments are when something happened to each of many Services. The zero value is ready.
type moments struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (m *moments) mark(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = make(map[string]time.Time)
	}
	m.at[name] = time.Now()
}

func (m *moments) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.at)
}

// remove deletes all Services of the benchmark and waits until they are gone, and their VIPs with them.
func (c *cluster) remove(ctx context.Context) error {
	services := c.kube.CoreV1().Services(namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the Services to delete: %w", err)
	}
	var names []string
	for _, s := range list.Items {
		names = append(names, s.Name)
	}
	var deleted moments
	limit := time.Minute + time.Duration(len(names))*60*time.Millisecond
	err = c.log.during(func() string { return fmt.Sprintf("%d of %d Services deleted", deleted.count(), len(names)) }, func() error {
		return eachOf(ctx, names, func(ctx context.Context, name string) error {
			err := c.patiently(ctx, "delete a Service", func(bool) error {
				err := services.Delete(ctx, name, metav1.DeleteOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return err
			})
			deleted.mark(name)
			return err
		})
	})
	if err != nil {
		return err
	}
	told := time.Now()
	return until(ctx, limit, "the Services and VIPs to be gone", func(ctx context.Context) (bool, error) {
		left, err := services.List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(left.Items) == 0 {
			var addresses *unstructured.UnstructuredList
			addresses, err = c.dynamic.Resource(vips()).List(ctx, metav1.ListOptions{})
			if err == nil && !slices.ContainsFunc(addresses.Items, ours) {
				return true, nil
			}
		}
		if time.Since(told) > reportQuietEvery {
			told = time.Now()
			c.log.printf("waiting until the Services and their VIPs are gone")
		}
		if err != nil && transient(err) {
			return false, nil
		}
		return false, err
	})
}

// ours reports whether a VIP is of the benchmark's pool.
func ours(vip unstructured.Unstructured) bool {
	from, _, _ := unstructured.NestedString(vip.Object, "spec", "pool")
	return from == poolName
}

// eachOf calls f for each of the names, from as many goroutines as there are writers.
func eachOf(ctx context.Context, names []string, f func(ctx context.Context, name string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan string)
	group.Go(func() error {
		defer close(next)
		for _, name := range names {
			select {
			case next <- name:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range writers {
		group.Go(func() error {
			for name := range next {
				if err := f(ctx, name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}
