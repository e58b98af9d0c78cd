package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	poolToWaitFor = "198.18.19.0/31"
	// servedLimit is five times what is promised, for busy machines.
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

	after := ns.awaitAddress("zoe", func() {
		if err := cluster.client.CoreV1().Services(ns.name).Delete(contextOf(t), "first", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("the oldest is served %s after a Service was deleted", after.Round(time.Millisecond))
	after = ns.awaitAddress("anna", func() { ns.setPool(poolToWaitFor) })
	t.Logf("the next is served %s after the pool grew", after.Round(time.Millisecond))
	after = ns.awaitAddress("mia", func() {
		if _, err := cluster.client.CoreV1().Services(ns.name).Patch(contextOf(t), "zoe", types.MergePatchType, []byte(`{"spec": {"type": "ClusterIP"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("the next is served %s after a Service became a ClusterIP Service", after.Round(time.Millisecond))
	ns.consistent("bob")
	ns.deleteServices()
}

// setPool changes the addresses of the namespace's pool.
func (ns *namespace) setPool(addresses string) {
	ns.t.Helper()
	patch := fmt.Sprintf(`{"spec": {"addresses": [%q]}}`, addresses)
	if _, err := resource("ippools").Patch(contextOf(ns.t), ns.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		ns.t.Fatal(err)
	}
}

// awaitAddress does something and returns after what time a Service has an address, which is to be soon.
func (ns *namespace) awaitAddress(service string, do func()) time.Duration {
	ns.t.Helper()
	ctx, cancel := context.WithTimeout(contextOf(ns.t), changeLimit)
	defer cancel()
	events, err := cluster.client.CoreV1().Services(ns.name).Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + service, ResourceVersion: ns.service(service).ResourceVersion,
	})
	if err != nil {
		ns.t.Fatal(err)
	}
	defer events.Stop()
	start := time.Now()
	do()
	for event := range events.ResultChan() {
		s, ok := event.Object.(*corev1.Service)
		if ok && event.Type != watch.Deleted && len(vips(s)) > 0 {
			after := time.Since(start)
			if after > servedLimit {
				ns.t.Errorf("%s has its address after %s, want at most %s", service, after, servedLimit)
			}
			return after
		}
	}
	ns.t.Fatalf("%s has no address after %s", service, changeLimit)
	return 0
}

// warnedOnce checks that there is one Warning event about a Service, and that it happened once.
func (ns *namespace) warnedOnce(service string) {
	ns.t.Helper()
	await(ns.t, changeLimit, "one Warning about "+service, func(ctx context.Context) error {
		list, err := cluster.client.CoreV1().Events(ns.name).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.name=" + service})
		if err != nil {
			return err
		}
		var told []string
		var errs []error
		for _, e := range list.Items {
			if e.Reason == "NotAnnounced" {
				continue // the agents' word
			}
			told = append(told, e.Reason+": "+e.Message)
			errs = append(errs, want("how often it is told", max(e.Count, 1), 1))
		}
		return errors.Join(append(errs, want("the number of warnings about "+service+"\n"+strings.Join(told, "\n"), len(told), 1))...)
	})
}
