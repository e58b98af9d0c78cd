package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/seamark-io/seamark/cluster/preflight"
)

// serving is what it takes to serve /metrics to those who may read it: the API server is asked who somebody is and what he
// may do. The ConfigMap is in kube-system, but manifests/kustomization.yaml puts every Role into one namespace.
func serving() []preflight.Access {
	return []preflight.Access{
		{Verbs: []string{"create"}, Group: "authentication.k8s.io", Resource: "tokenreviews"},
		{Verbs: []string{"create"}, Group: "authorization.k8s.io", Resource: "subjectaccessreviews"},
		{Verbs: []string{"get", "list", "watch"}, Resource: "configmaps", Name: "extension-apiserver-authentication"},
	}
}

// right is one verb on one resource, everywhere or in a namespace, on any object or on one.
type right struct{ verb, group, resource, name, namespace string }

func (r right) String() string {
	in := "everywhere"
	if r.namespace != "" {
		in = "in namespace " + r.namespace
	}
	return fmt.Sprintf("%s %s/%s %q %s", r.verb, r.group, r.resource, r.name, in)
}

// The manifest grants the account that the program runs under what the program asks for, where it asks for it, and nothing
// else.
func TestRightsMatchManifest(t *testing.T) {
	need := map[right]bool{}
	for _, a := range append(access(namespace, leaseName), serving()...) {
		for _, verb := range a.Verbs {
			need[right{verb, a.Group, a.Resource, a.Name, a.Namespace}] = true
		}
	}
	granted := grants(t, "../../manifests/controller")
	for _, r := range sorted(need) {
		if !granted[r] {
			t.Errorf("not in the manifest: %s", r)
		}
	}
	for _, r := range sorted(granted) {
		if !need[r] {
			t.Errorf("in the manifest, but not used: %s", r)
		}
	}
}

func sorted(m map[right]bool) []right {
	return slices.SortedFunc(maps.Keys(m), func(a, b right) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
}

// manifest is what matters here of the files that install the controller.
type manifest struct {
	roles    map[rbacv1.RoleRef]map[string][]rbacv1.PolicyRule // by reference and namespace
	bindings []binding
	account  rbacv1.Subject
}

type binding struct {
	namespace string // empty: everywhere
	role      rbacv1.RoleRef
	subjects  []rbacv1.Subject
}

// grants returns what the account of the Deployment may do by all that is bound to it.
func grants(t *testing.T, dir string) map[right]bool {
	t.Helper()
	m := manifest{roles: map[rbacv1.RoleRef]map[string][]rbacv1.PolicyRule{}}
	m.read(t, dir+"/rbac.yaml")
	m.read(t, dir+"/deployment.yaml")
	out := map[right]bool{}
	bound := 0
	for _, b := range m.bindings {
		if !slices.Contains(b.subjects, m.account) {
			t.Errorf("a binding of %+v is not for the account of the Deployment, %+v", b.role, m.account)
			continue
		}
		in := b.namespace
		if b.role.Kind == "ClusterRole" {
			in = ""
		}
		rules, ok := m.roles[b.role][in]
		if !ok {
			t.Errorf("%+v, which is bound in namespace %q, is not in the manifest", b.role, b.namespace)
		}
		bound++
		for _, rule := range rules {
			if len(rule.NonResourceURLs) > 0 {
				t.Errorf("URLs that nobody asks for: %v", rule.NonResourceURLs)
			}
			addRights(out, rule, b.namespace)
		}
	}
	if bound != len(m.roles) {
		t.Errorf("%d roles, and %d bindings to them", len(m.roles), bound)
	}
	return out
}

func addRights(out map[right]bool, rule rbacv1.PolicyRule, namespace string) {
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, name := range append(rule.ResourceNames, "")[:max(1, len(rule.ResourceNames))] {
				for _, verb := range rule.Verbs {
					out[right{verb, group, resource, name, namespace}] = true
				}
			}
		}
	}
}

func (m *manifest) read(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var raw runtime.RawExtension
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m.add(t, file, raw.Raw)
	}
}

func (m *manifest) add(t *testing.T, file string, object []byte) {
	t.Helper()
	as := func(to any) {
		if err := yaml.UnmarshalStrict(object, to); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(object, &kind); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	switch kind.Kind {
	case "ClusterRole", "Role":
		var r rbacv1.Role // the fields of both that are used here are the same
		as(&r)
		if (kind.Kind == "Role") != (r.Namespace != "") {
			t.Errorf("%s %s has the namespace %q", kind.Kind, r.Name, r.Namespace)
		}
		ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind.Kind, Name: r.Name}
		if m.roles[ref] == nil {
			m.roles[ref] = map[string][]rbacv1.PolicyRule{}
		}
		m.roles[ref][r.Namespace] = r.Rules
	case "ClusterRoleBinding", "RoleBinding":
		var b rbacv1.RoleBinding
		as(&b)
		if (kind.Kind == "RoleBinding") != (b.Namespace != "") {
			t.Errorf("%s %s has the namespace %q", kind.Kind, b.Name, b.Namespace)
		}
		m.bindings = append(m.bindings, binding{b.Namespace, b.RoleRef, b.Subjects})
	case "Deployment":
		var d appsv1.Deployment
		as(&d)
		m.account = rbacv1.Subject{Kind: "ServiceAccount", Name: d.Spec.Template.Spec.ServiceAccountName, Namespace: d.Namespace}
	}
}

// To lead, and to stop leading, takes what electionAccess says, in that namespace, and nothing else.
func TestRightsOnLeases(t *testing.T) {
	kube := fake.NewClientset()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: leaseName}, Client: kube.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_test"},
		},
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 10 * time.Millisecond,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				for !updated(kube) && ctx.Err() == nil {
					time.Sleep(10 * time.Millisecond)
				}
				cancel()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err := releaseLease(t.Context(), kube, namespace, leaseName); err != nil {
		t.Error(err)
	}
	called := map[right]bool{}
	for _, a := range kube.Actions() {
		r := right{a.GetVerb(), a.GetResource().Group, a.GetResource().Resource, "", a.GetNamespace()}
		switch a := a.(type) {
		case clienttesting.GetAction:
			r.name = a.GetName()
		case clienttesting.UpdateAction:
			if r.verb == "update" { // an object that is created has no name yet, for RBAC
				r.name = a.GetObject().(*coordinationv1.Lease).Name
			}
		}
		called[r] = true
	}
	declared := map[right]bool{}
	for _, a := range electionAccess(namespace, leaseName) {
		for _, verb := range a.Verbs {
			declared[right{verb, a.Group, a.Resource, a.Name, a.Namespace}] = true
		}
	}
	if !maps.Equal(called, declared) {
		t.Errorf("called %v, declared %v", sorted(called), sorted(declared))
	}
}

func updated(kube *fake.Clientset) bool {
	return slices.ContainsFunc(kube.Actions(), func(a clienttesting.Action) bool { return a.GetVerb() == "update" })
}
