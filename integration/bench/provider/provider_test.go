package provider

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/seamark-io/seamark/integration/lab"
)

// The benchmark's addresses are nobody else's in any lab.
func TestPoolIsFree(t *testing.T) {
	options := lab.DefaultOptions()
	options.Router2, options.Segment2 = true, 1
	plan := lab.NewPlan(options)
	taken := slices.Concat(plan.ServiceCIDRs, plan.PodCIDRs, []netip.Prefix{netip.MustParsePrefix(lab.VIPPrefix4)})
	for _, h := range plan.Hosts {
		for _, link := range h.Links {
			taken = append(taken, link.Addrs...)
		}
	}
	for _, prefix := range taken {
		if pool().Overlaps(prefix.Masked()) {
			t.Errorf("the pool %s overlaps %s of the lab", pool(), prefix)
		}
	}
	if len(taken) < 10 {
		t.Errorf("the lab has no more prefixes than %v?", taken)
	}
}

func TestValidate(t *testing.T) {
	good := Options{Services: []int{1000, 10_000}, Samples: 200, Limit: time.Hour}
	for _, tt := range []struct {
		name   string
		change func(*Options)
		bad    bool
	}{
		{"as it is", func(*Options) {}, false},
		{"no bursts", func(o *Options) { o.Services = nil }, false},
		{"a burst of none", func(o *Options) { o.Services = []int{1000, 0} }, true},
		{"more than there are addresses", func(o *Options) { o.Services = []int{70_000} }, true},
		{"no samples", func(o *Options) { o.Samples = 0 }, true},
		{"no time", func(o *Options) { o.Limit = 0 }, true},
	} {
		o := good
		tt.change(&o)
		if err := o.Validate(); (err != nil) != tt.bad {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestEachOf(t *testing.T) {
	want := names("x", 500)
	var mu sync.Mutex
	var got []string
	var running, most atomic.Int64
	err := eachOf(t.Context(), want, func(_ context.Context, name string) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, name)
		return nil
	})
	slices.Sort(got)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("called for %d names, want %d; error %v", len(got), len(want), err)
	}
	if most.Load() > writers {
		t.Errorf("%d calls at a time, want at most %d", most.Load(), writers)
	}
}

func TestEachOfFails(t *testing.T) {
	var calls atomic.Int64
	err := eachOf(t.Context(), names("x", 500), func(context.Context, string) error {
		calls.Add(1)
		return errors.New("refused")
	})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got error %v", err)
	}
	if n := calls.Load(); n > writers {
		t.Errorf("%d calls although the first failed", n)
	}
}

// What says nothing of the request is tried again; a refusal is not.
func TestTransient(t *testing.T) {
	services := corev1.Resource("services")
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{errors.New("connection refused"), true},
		{apierrors.NewTooManyRequests("busy", 1), true},
		{apierrors.NewServerTimeout(services, "create", 1), true},
		{apierrors.NewInternalError(errors.New("etcdserver: request timed out")), true},
		{apierrors.NewAlreadyExists(services, "a"), false},
		{apierrors.NewForbidden(services, "a", errors.New("quota")), false},
	} {
		if got := transient(tt.err); got != tt.want {
			t.Errorf("%v: %t", tt.err, got)
		}
	}
}
