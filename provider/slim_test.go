package provider

import (
	"fmt"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

// What is decoded of two Services is two strings, even where it is the same.
func decoded(s string) string { return string([]byte(s)) }

func service(name string) *corev1.Service {
	policy, local, mode := corev1.IPFamilyPolicy(decoded("SingleStack")), corev1.ServiceInternalTrafficPolicy(decoded("Cluster")), corev1.LoadBalancerIPMode(decoded("VIP"))
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: decoded("shop"), Name: name, Labels: map[string]string{decoded("app"): decoded("web")}, Finalizers: []string{decoded("f")},
			Annotations: map[string]string{"a": "b"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceType(decoded("LoadBalancer")), ClusterIP: "10.96.0.1", IPFamilyPolicy: &policy, InternalTrafficPolicy: &local,
			Selector: map[string]string{decoded("app"): decoded("web")}, IPFamilies: []corev1.IPFamily{corev1.IPFamily(decoded("IPv4"))},
			Ports: []corev1.ServicePort{{Name: decoded("http"), Protocol: corev1.Protocol(decoded("TCP")), Port: 80}},
		},
		Status: corev1.ServiceStatus{
			LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &mode}}},
			Conditions:   []metav1.Condition{{Type: decoded("T"), Status: metav1.ConditionStatus(decoded("True")), Reason: decoded("R"), Message: "m"}},
		},
	}
}

func newSlimmer(known ...any) *slimmer {
	s := cache.NewStore(cache.MetaNamespaceKeyFunc)
	for _, o := range known {
		_ = s.Add(o) // the key function refuses nothing that has a name
	}
	return &slimmer{known: s}
}

func TestSlimKeepsWhatIsRead(t *testing.T) {
	want := service("a")
	got := want.DeepCopy()
	got.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	got.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
	s := newSlimmer()
	for range 2 { // an informer may show it its own result
		if _, err := s.slim(got); err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	vip := &v1alpha1.VIP{Spec: v1alpha1.VIPSpec{Address: "192.0.2.1", Pool: "p", Services: []v1alpha1.VIPService{{ServiceReference: v1alpha1.ServiceReference{Namespace: "shop", Name: "a"}}}}}
	slimVIP := vip.DeepCopy()
	if _, err := s.slim(slimVIP); err != nil || !equality.Semantic.DeepEqual(slimVIP, vip) {
		t.Errorf("got %+v, %v, want %+v", slimVIP, err, vip)
	}
}

func TestSlimShares(t *testing.T) {
	s := newSlimmer()
	a, b := service("a"), service("b")
	for _, o := range []*corev1.Service{a, b} {
		if _, err := s.slim(o); err != nil {
			t.Fatal(err)
		}
	}
	if unsafe.StringData(a.Namespace) != unsafe.StringData(b.Namespace) || unsafe.StringData(string(a.Spec.Type)) != unsafe.StringData(string(b.Spec.Type)) ||
		unsafe.StringData(a.Labels["app"]) != unsafe.StringData(b.Spec.Selector["app"]) {
		t.Error("equal strings are not shared")
	}
	// Labels that are all different are not kept.
	for i := range 2 * maxCommon {
		o := service("c")
		o.Labels = map[string]string{"n": fmt.Sprint(i)}
		if _, err := s.slim(o); err != nil || o.Labels["n"] != fmt.Sprint(i) {
			t.Fatal(o.Labels, err)
		}
	}
	if len(s.common) > maxCommon {
		t.Errorf("%d strings are kept, want %d at most", len(s.common), maxCommon)
	}
}

// The stock service controller keeps the version that it served: what has not changed since is in memory once.
func TestSlimSharesVersions(t *testing.T) {
	version := func(clusterIP string) *corev1.Service {
		o := service(decoded("a"))
		o.UID, o.Spec.ClusterIP, o.Spec.ClusterIPs = types.UID(decoded("u")), decoded(clusterIP), []string{decoded(clusterIP), decoded("fd00::1")}
		return o
	}
	was := version("10.96.0.1")
	for _, tt := range []struct {
		clusterIP string
		shared    bool
	}{{"10.96.0.1", true}, {"10.96.0.2", false}} {
		want, got := version(tt.clusterIP), version(tt.clusterIP)
		if _, err := newSlimmer(was).slim(got); err != nil || !equality.Semantic.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
		if unsafe.StringData(got.Name) != unsafe.StringData(was.Name) || unsafe.StringData(string(got.UID)) != unsafe.StringData(string(was.UID)) ||
			unsafe.StringData(got.Spec.ClusterIPs[0]) != unsafe.StringData(got.Spec.ClusterIP) ||
			(unsafe.StringData(got.Spec.ClusterIP) == unsafe.StringData(was.Spec.ClusterIP)) != tt.shared {
			t.Errorf("ClusterIP %s: the versions do not share what they have in common", tt.clusterIP)
		}
	}
}
