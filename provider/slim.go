package provider

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// slimmer makes the objects of an informer small: the controller has every Service and every VIP in memory.
type slimmer struct {
	// known are the objects that the informer has.
	known store
	mu    sync.Mutex
	// common has strings of which there are few and that most objects have.
	common map[string]string
}

type store interface {
	GetByKey(key string) (obj any, exists bool, err error)
}

// maxCommon bounds what is kept to be shared. Somebody's Services may all be different.
const maxCommon = 1024

// slim takes off an object what is more than half of it and nothing here reads: who wrote which field, and what kubectl apply was
// given. What Services have in common they share: decoded, each has a "ClusterIP" of its own. So do the versions of one
// object: the stock service controller keeps that of each Service that it served last.
func (s *slimmer) slim(obj any) (any, error) {
	o, err := meta.Accessor(obj)
	if err != nil {
		return obj, nil
	}
	o.SetManagedFields(nil)
	delete(o.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
	before := s.versionBefore(obj)
	if was, err := meta.Accessor(before); err == nil {
		o.SetName(reuse(o.GetName(), was.GetName()))
		o.SetUID(reuse(o.GetUID(), was.GetUID()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := obj.(type) {
	case *corev1.Service:
		s.slimService(o)
		if was, ok := before.(*corev1.Service); ok {
			o.Spec.ClusterIP = reuse(o.Spec.ClusterIP, was.Spec.ClusterIP)
		}
		for i := range o.Spec.ClusterIPs {
			o.Spec.ClusterIPs[i] = reuse(o.Spec.ClusterIPs[i], o.Spec.ClusterIP)
		}
	case *v1alpha1.VIP:
		s.slimVIP(o)
		o.Spec.Address = reuse(o.Spec.Address, o.Name)
	}
	return obj, nil
}

// versionBefore returns what the informer has of an object; nil: nothing.
func (s *slimmer) versionBefore(obj any) any {
	key, err := cache.MetaNamespaceKeyFunc(obj)
	if err != nil {
		return nil
	}
	before, _, _ := s.known.GetByKey(key)
	return before
}

// reuse returns the string that is there already where both are equal: then their bytes are in memory once.
func reuse[T ~string](s, there T) T {
	if s == there {
		return there
	}
	return s
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
