package preflight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// Access is something that a program must be allowed to do, as in an RBAC rule.
type Access struct {
	Verbs []string
	// Group is empty for the core group.
	Group string
	// Resource with its subresource, if one is meant: "services/status".
	Resource string
	// Namespace is empty for all of them, and for resources that have none.
	Namespace string
	// Name of the one object that is meant; empty: any.
	Name string
}

// Config of Check.
type Config struct {
	Kube kubernetes.Interface
	// Access that is needed.
	Access []Access
	// Wait is how long to wait for an API server that does not answer.
	Wait time.Duration
	// Manifest is what to apply to get missing rights: "manifests/controller/rbac.yaml".
	Manifest string
	Log      *slog.Logger
}

// retry is how long after a failed attempt to reach the API server the next one is made.
const retry = time.Second

// Check returns nil when everything is there, and else an error that names all that is missing and how to get it.
func Check(ctx context.Context, c Config) error {
	if err := c.waitForServer(ctx); err != nil {
		return err
	}
	return c.check(ctx)
}

func (c *Config) check(ctx context.Context) error {
	return errors.Join(c.checkKinds(), c.checkAccess(ctx))
}

// waitForServer waits until the API server answers, be it with a refusal.
func (c *Config) waitForServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	for logged := false; ; logged = true {
		err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error()
		if err == nil || answered(err) {
			return nil
		}
		if !logged {
			c.Log.Warn("the API server does not answer yet", "err", err, "wait", c.Wait)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the API server has not answered for %s: is its address right (KUBERNETES_SERVICE_HOST and _PORT, or --kubeconfig), and can this machine reach it? %w", c.Wait, err)
		case <-time.After(retry):
		}
	}
}

// answered reports whether an error is the API server's own word, other than that it is not ready.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < 500
}

// checkKinds asks discovery for Seamark's own kinds.
func (c *Config) checkKinds() error {
	missing := []string{"bgppeers", "ippools", "vips"}
	served, err := c.Kube.Discovery().ServerResourcesForGroupVersion(v1alpha1.SchemeGroupVersion.String())
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("ask the API server for %s: %w", v1alpha1.SchemeGroupVersion, err)
	default:
		missing = slices.DeleteFunc(missing, func(name string) bool {
			return slices.ContainsFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
		})
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the API server does not serve %s in version %s: kubectl apply -f manifests/crds/",
		strings.Join(missing, ", "), v1alpha1.SchemeGroupVersion)
}

// checkAccess asks the API server about each right.
func (c *Config) checkAccess(ctx context.Context) error {
	var missing []string
	for _, a := range c.Access {
		resource, subresource, _ := strings.Cut(a.Resource, "/")
		var refused []string
		for _, verb := range a.Verbs {
			review, err := c.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: verb, Group: a.Group, Resource: resource, Subresource: subresource, Namespace: a.Namespace, Name: a.Name,
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask the API server whether this program may %s %s: %w", verb, a.Resource, err)
			}
			if !review.Status.Allowed {
				refused = append(refused, verb)
			}
		}
		if len(refused) > 0 {
			missing = append(missing, a.describe(refused))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the API server does not allow this program to %s: kubectl apply -f %s, and run it under the ServiceAccount that stands there",
		strings.Join(missing, "; "), c.Manifest)
}

func (a *Access) describe(verbs []string) string {
	s := strings.Join(verbs, ", ") + " " + a.Resource
	if a.Group != "" {
		s += "." + a.Group
	}
	if a.Name != "" {
		s += " " + a.Name
	}
	if a.Namespace != "" {
		s += " in namespace " + a.Namespace
	}
	return s
}
