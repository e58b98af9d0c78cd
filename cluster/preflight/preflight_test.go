package preflight

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

func TestKindsAndAccess(t *testing.T) {
	for _, tt := range []struct {
		name   string
		served []string
		old    bool   // Kubernetes 1.32
		denied string // "verb resource/subresource name"
		says   []string
	}{
		{name: "all there", served: []string{"ippools", "ippools/status", "vips", "bgppeers"}},
		{name: "no CRD", says: []string{"does not serve bgppeers, ippools, vips in version seamark.io/v1alpha1: kubectl apply -k manifests/crds"}},
		{name: "one CRD missing", served: []string{"ippools", "bgppeers"}, says: []string{"does not serve vips in"}},
		{name: "a right missing", served: []string{"ippools", "vips", "bgppeers"}, denied: "patch services/status ", says: []string{"does not allow this program to patch services/status: kubectl apply -f rbac.yaml"}},
		{name: "an old cluster", served: []string{"ippools", "vips", "bgppeers"}, old: true, says: []string{"does not serve servicecidrs in version networking.k8s.io/v1: Kubernetes 1.33"}},
		{name: "both", denied: "update leases me", says: []string{"does not serve", "to update leases.coordination.k8s.io me in namespace ns: kubectl"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kube := fake.NewClientset()
			if tt.served != nil {
				list := &metav1.APIResourceList{GroupVersion: v1alpha1.SchemeGroupVersion.String()}
				for _, name := range tt.served {
					list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
				}
				kube.Resources = append(kube.Resources, list)
			}
			if !tt.old {
				kube.Resources = append(kube.Resources, &metav1.APIResourceList{GroupVersion: "networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "servicecidrs"}}})
			}
			kube.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
				r := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
				what := r.Spec.ResourceAttributes
				resource := what.Resource
				if what.Subresource != "" {
					resource += "/" + what.Subresource
				}
				r.Status.Allowed = what.Verb+" "+resource+" "+what.Name != tt.denied
				return true, r, nil
			})
			c := Config{Kube: kube, Manifest: "rbac.yaml", Access: []Access{
				{Verbs: []string{"get", "patch"}, Resource: "services/status"},
				{Verbs: []string{"update"}, Group: "coordination.k8s.io", Resource: "leases", Namespace: "ns", Name: "me"},
			}}
			got := c.checkAll(t.Context())
			if (got == nil) != (tt.says == nil) {
				t.Fatalf("got %v", got)
			}
			var missing *MissingError
			if tt.says != nil && !errors.As(got, &missing) {
				t.Errorf("%v is no MissingError", got)
			}
			for _, want := range tt.says {
				if !strings.Contains(got.Error(), want) {
					t.Errorf("got %q; want %q in it", got, want)
				}
			}
		})
	}
}

func TestServerThatDoesNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: "http://" + nobody})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	start := time.Now()
	err = Check(t.Context(), Config{Kube: kube, Wait: 1500 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err == nil || !strings.Contains(err.Error(), "has not answered for 1.5s") || !strings.Contains(err.Error(), nobody) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took < time.Second || took > 10*time.Second {
		t.Errorf("gave up after %s", took)
	}
	if n := strings.Count(log.String(), "does not answer yet"); n != 1 {
		t.Errorf("said %d times that it waits", n)
	}
}

// TestWaits: what may pass is waited for, without a limit if none is set: a server that is starting, one that goes away
// between two questions.
func TestWaits(t *testing.T) {
	var asked atomic.Int32
	ready := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ready:
			// It answers now, and knows neither our kinds nor this program.
			http.Error(w, "who?", map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[r.URL.Path == "/version"])
		default:
			if asked.Add(1)%2 == 1 && r.URL.Path == "/version" {
				w.WriteHeader(http.StatusOK)
				return
			}
			http.Error(w, "starting", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Kube: kube, Log: slog.New(slog.DiscardHandler), Access: []Access{{Verbs: []string{"list"}, Resource: "services"}}}
	done := make(chan error)
	go func() { done <- Check(t.Context(), c) }()
	select {
	case err := <-done:
		t.Fatalf("gave up: %v", err)
	case <-time.After(2500 * time.Millisecond):
	}
	close(ready)
	var missing *MissingError
	if err := <-done; !errors.As(err, &missing) {
		t.Errorf("got %v; want a MissingError: to be refused is an answer", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}
