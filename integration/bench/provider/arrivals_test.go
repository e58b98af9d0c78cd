package provider

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func served(name string, ips ...string) *corev1.Service {
	s := service(name)
	for _, ip := range ips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func TestArrivals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		events []*corev1.Service // modified, one after the other; two of them are wanted
		want   map[string]string
		err    string
	}{
		{"two", []*corev1.Service{served("a"), served("a", "198.18.0.1"), served("b", "198.18.0.2")},
			map[string]string{"a": "198.18.0.1", "b": "198.18.0.2"}, ""},
		{"seen again", []*corev1.Service{served("a", "198.18.0.1"), served("a", "198.18.0.1"), served("b", "198.18.0.2")},
			map[string]string{"a": "198.18.0.1", "b": "198.18.0.2"}, ""},
		{"one is missing", []*corev1.Service{served("a", "198.18.0.1"), served("b")}, map[string]string{"a": "198.18.0.1"}, "too late"},
		{"another address", []*corev1.Service{served("a", "198.18.0.1"), served("a", "198.18.0.3"), served("b", "198.18.0.2")},
			map[string]string{"a": "198.18.0.1", "b": "198.18.0.2"}, "Service a had the address 198.18.0.1 and now has 198.18.0.3"},
		{"two addresses", []*corev1.Service{served("a", "198.18.0.1", "198.18.0.3")}, nil, "Service a has 2 addresses"},
		{"not of the pool", []*corev1.Service{served("a", "198.20.0.1")}, nil, "198.20.0.1, which is not of the pool 198.18.0.0/16"},
		{"a name", []*corev1.Service{served("a", "example.org")}, nil, "Service a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
			for _, s := range tt.events {
				w.Modify(s)
			}
			a := follow(w, 2)
			ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, context.DeadlineExceeded)
			defer cancel()
			awaitErr := a.await(ctx)
			seen, err := a.stop()
			if (awaitErr != nil) != (len(tt.want) < 2) {
				t.Errorf("waiting for two of %v ends with %v", tt.want, awaitErr)
			}
			if tt.err == "too late" {
				tt.err, err = context.DeadlineExceeded.Error(), awaitErr
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got error %v, want %q", err, tt.err)
			}
			if len(seen) != len(tt.want) {
				t.Errorf("saw %v, want %v", seen, tt.want)
			}
			for name, addr := range tt.want {
				if seen[name].addr != netip.MustParseAddr(addr) {
					t.Errorf("saw %s with %s, want %s", name, seen[name].addr, addr)
				}
			}
		})
	}
}

func TestArrivalsWatchFails(t *testing.T) {
	w := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
	w.Error(&metav1.Status{Status: metav1.StatusFailure, Message: "too old resource version", Reason: metav1.StatusReasonExpired})
	a := follow(w, 1)
	if err := a.await(t.Context()); err == nil {
		t.Error("a watch that failed has shown all")
	}
	if _, err := a.stop(); err == nil || !strings.Contains(err.Error(), "too old resource version") {
		t.Errorf("got error %v", err)
	}
}

func TestDistinct(t *testing.T) {
	one, two := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2")
	if err := distinct(map[string]arrival{"a": {addr: one}, "b": {addr: two}}); err != nil {
		t.Errorf("two addresses: %v", err)
	}
	if err := distinct(map[string]arrival{"a": {addr: one}, "b": {addr: two}, "c": {addr: one}}); err == nil {
		t.Error("nobody noticed that a and c have the same address")
	}
}
