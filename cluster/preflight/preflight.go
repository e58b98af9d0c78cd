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
	networkingv1 "k8s.io/api/networking/v1"
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
	// Wait is how long to wait for an API server that does not answer; 0: for as long as it takes.
	Wait time.Duration
	// Manifest is what to apply to get missing rights: "manifests/controller/rbac.yaml".
	Manifest string
	Log      *slog.Logger
}

const (
	// retry is how long after a failed attempt to ask the API server the next one is made.
	retry = time.Second
	// remind is how often it is said that this goes on.
	remind = time.Minute
)

// MissingError says what the API server lacks or does not allow. Somebody has to act: to wait and to ask again is of no use.
type MissingError struct{ text string }

// Error names what is missing and how to get it.
func (e *MissingError) Error() string { return e.text }

// Check returns nil when everything is there, and a *MissingError, or several that are joined, that name all that is missing
// and how to get it. As long as the API server does not answer, or answers that it cannot tell, Check waits.
func Check(ctx context.Context, c Config) error {
	if c.Wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Wait)
		defer cancel()
	}
	var told time.Time
	for {
		err := c.check(ctx)
		var missing *MissingError
		if err == nil || errors.As(err, &missing) {
			return err
		}
		if now := time.Now(); now.Sub(told) >= remind {
			c.Log.Warn("the API server does not answer yet", "err", err)
			told = now
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return fmt.Errorf("the API server has not answered for %s: is its address right (KUBERNETES_SERVICE_HOST and _PORT, or --kubeconfig), and can this machine reach it? %w", c.Wait, err)
		case <-time.After(retry):
		}
	}
}

// check asks once. The error is about the asking unless it is, or is joined from, a *MissingError.
func (c *Config) check(ctx context.Context) error {
	if err := c.Kube.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error(); err != nil && !answered(err) {
		return err
	}
	return c.checkAll(ctx)
}

func (c *Config) checkAll(ctx context.Context) error {
	kinds, access := c.checkKinds(), c.checkAccess(ctx)
	for _, err := range []error{kinds, access} {
		var missing *MissingError
		if err != nil && !errors.As(err, &missing) {
			return err
		}
	}
	return errors.Join(kinds, access)
}

// answered reports whether an error is the API server's own word, other than that it is not ready.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < 500
}

// asking returns the error of a question: a *MissingError if the API server answers that it does not know this program, or
// not allow it to ask.
func asking(what string, err error) error {
	err = fmt.Errorf("ask the API server %s: %w", what, err)
	if apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) {
		return &MissingError{err.Error()}
	}
	return err
}

// kindsOf are those that the programs read of one version of an API, and how to get them where they are not served.
type kindsOf struct {
	version string
	names   []string
	remedy  string
}

// checkKinds asks discovery for Seamark's own kinds, and for the newest of Kubernetes' that both programs read: without it they would
// wait for ever.
func (c *Config) checkKinds() error {
	return errors.Join(
		c.checkServed(kindsOf{v1alpha1.SchemeGroupVersion.String(), []string{"bgppeers", "ippools", "vips"}, "kubectl apply -k manifests/crds"}),
		c.checkServed(kindsOf{networkingv1.SchemeGroupVersion.String(), []string{"servicecidrs"}, "Kubernetes 1.33 is the first version that does"}),
	)
}

func (c *Config) checkServed(k kindsOf) error {
	missing := k.names
	served, err := c.Kube.Discovery().ServerResourcesForGroupVersion(k.version)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return asking("for "+k.version, err)
	default:
		missing = slices.DeleteFunc(missing, func(name string) bool {
			return slices.ContainsFunc(served.APIResources, func(r metav1.APIResource) bool { return r.Name == name })
		})
	}
	if len(missing) == 0 {
		return nil
	}
	return &MissingError{fmt.Sprintf("the API server does not serve %s in version %s: %s", strings.Join(missing, ", "), k.version, k.remedy)}
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
				return asking(fmt.Sprintf("whether this program may %s %s", verb, a.Resource), err)
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
	return &MissingError{fmt.Sprintf("the API server does not allow this program to %s: kubectl apply -f %s, and run it under the ServiceAccount that stands there",
		strings.Join(missing, "; "), c.Manifest)}
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
