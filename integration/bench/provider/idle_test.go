package provider

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func vipOf(namespace, service string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "seamark.io/v1alpha1", "kind": "VIP", "metadata": map[string]any{"name": "198.18.0.1"},
		"spec": map[string]any{"services": []any{map[string]any{"namespace": namespace, "name": service}}},
	}}
}

// A sample ends when the call, the VIP's watch and the Service's have all said so, and minds nobody else's objects.
func TestOne(t *testing.T) {
	services := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
	addresses := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
	kube := fake.NewClientset()
	kube.PrependReactor("create", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
		services.Modify(served("other", "198.18.0.7"))
		services.Add(served("me"))
		addresses.Add(vipOf(namespace, "other"))
		addresses.Add(vipOf("elsewhere", "me"))
		addresses.Add(vipOf(namespace, "me"))
		services.Modify(served("me", "198.18.0.1"))
		return false, nil, nil
	})
	c := &cluster{kube: kube}
	s, err := c.one(t.Context(), "me", services, addresses)
	if err != nil {
		t.Fatal(err)
	}
	if s.created <= 0 || s.vip <= 0 || s.status <= 0 {
		t.Errorf("not everything was measured: %+v", s)
	}
	if len(services.ResultChan())+len(addresses.ResultChan()) > 0 {
		t.Error("it ended before it had seen what it waits for")
	}
}

func TestOneFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(kube *fake.Clientset, services, addresses *watch.FakeWatcher)
	}{
		{"the call is refused", func(kube *fake.Clientset, _, _ *watch.FakeWatcher) {
			kube.PrependReactor("create", "services", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, errors.New("refused")
			})
		}},
		{"a watch ends", func(_ *fake.Clientset, services, _ *watch.FakeWatcher) { services.Stop() }},
		{"a watch fails", func(_ *fake.Clientset, _, addresses *watch.FakeWatcher) {
			addresses.Error(&metav1.Status{Status: metav1.StatusFailure, Message: "expired"})
		}},
	} {
		services := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
		addresses := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
		kube := fake.NewClientset()
		tt.prepare(kube, services, addresses)
		if s, err := (&cluster{kube: kube}).one(t.Context(), "me", services, addresses); err == nil {
			t.Errorf("%s: got %+v", tt.name, s)
		}
	}
}
