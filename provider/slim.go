package provider

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// slimmer makes the objects of an informer small: the controller has every Service and every VIP in memory.
type slimmer struct {
	mu sync.Mutex
	// common has strings of which there are few and that most objects have.
	common map[string]string
}

// maxCommon bounds what is kept to be shared. Somebody's Services may all be different.
const maxCommon = 1024

// slim takes off an object what is more than half of it and nothing here reads: who wrote which field, and what kubectl apply was
// given. What Services have in common they share: decoded, each has a "ClusterIP" of its own.
func (s *slimmer) slim(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
		delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := obj.(type) {
	case *corev1.Service:
		s.slimService(o)
	case *v1alpha1.VIP:
		s.slimVIP(o)
	}
	return obj, nil
}

func (s *slimmer) slimService(o *corev1.Service) {
	share(s, &o.Kind, &o.APIVersion, &o.Namespace)
	shareAll(s, o.Finalizers)
	o.Labels = s.shareMap(o.Labels)
	o.Spec.Selector = s.shareMap(o.Spec.Selector)
	share(s, &o.Spec.Type)
	share(s, &o.Spec.SessionAffinity)
	share(s, &o.Spec.ExternalTrafficPolicy)
	share(s, o.Spec.InternalTrafficPolicy)
	share(s, o.Spec.IPFamilyPolicy)
	shareAll(s, o.Spec.IPFamilies)
	for i := range o.Spec.Ports {
		share(s, &o.Spec.Ports[i].Name)
		share(s, &o.Spec.Ports[i].Protocol)
	}
	for i := range o.Status.LoadBalancer.Ingress {
		share(s, o.Status.LoadBalancer.Ingress[i].IPMode)
	}
	for i := range o.Status.Conditions {
		c := &o.Status.Conditions[i]
		share(s, &c.Type, &c.Reason)
		share(s, &c.Status)
	}
}

func (s *slimmer) slimVIP(o *v1alpha1.VIP) {
	share(s, &o.Kind, &o.APIVersion, &o.Spec.Pool)
	shareAll(s, o.Finalizers)
	o.Labels = s.shareMap(o.Labels)
	for i := range o.Spec.Services {
		share(s, &o.Spec.Services[i].Namespace)
	}
}

// share has strings share their bytes with equal ones; it skips nil.
func share[T ~string](s *slimmer, all ...*T) {
	for _, t := range all {
		if t != nil {
			*t = T(s.one(string(*t)))
		}
	}
}

func shareAll[T ~string](s *slimmer, all []T) {
	for i := range all {
		share(s, &all[i])
	}
}

// shareMap returns a map that has the same, of shared strings.
func (s *slimmer) shareMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[s.one(k)] = s.one(v)
	}
	return out
}

// one returns the one string that stands for all equal ones, unless there are too many.
func (s *slimmer) one(t string) string {
	if t == "" {
		return ""
	}
	if known, ok := s.common[t]; ok {
		return known
	}
	if len(s.common) < maxCommon {
		if s.common == nil {
			s.common = map[string]string{}
		}
		s.common[t] = t
	}
	return t
}
