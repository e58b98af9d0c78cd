package agents

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/seamark-io/seamark/api/v1alpha1"
)

const ns = "seamark-system"

func lease(name, version string) coordinationv1.Lease {
	return coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, ResourceVersion: version, Labels: map[string]string{v1alpha1.AgentLabel: "true"}}}
}

func TestStale(t *testing.T) {
	var w watch
	start := time.Unix(1000, 0)
	names := func(ls []*coordinationv1.Lease) (out []string) {
		for _, l := range ls {
			out = append(out, l.Name)
		}
		return out
	}
	// a is renewed each three minutes, b never.
	for minute := range 40 {
		got := names(w.stale(start.Add(time.Duration(minute)*time.Minute), []coordinationv1.Lease{lease("a", fmt.Sprint(minute/3)), lease("b", "1")}))
		if want := minute >= 10; slices.Contains(got, "b") != want || slices.Contains(got, "a") {
			t.Fatalf("minute %d: %v", minute, got)
		}
	}
	// Nobody looked for three minutes.
	now := start.Add(43 * time.Minute)
	for minute := range 12 {
		got := names(w.stale(now.Add(time.Duration(minute)*time.Minute), []coordinationv1.Lease{lease("b", "1")}))
		if want := minute >= 10; (len(got) > 0) != want {
			t.Fatalf("minute %d after a blind time: %v", minute, got)
		}
	}
}

func TestKeeper(t *testing.T) {
	old := lease("seamark-node.gone", "1")
	foreign := coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "other"}}
	kube := fake.NewClientset(&old, &foreign)
	k := &Keeper{Kube: kube, Namespace: ns, Log: slog.New(slog.DiscardHandler)}
	w := &watch{}
	if err := k.sync(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	key := func() []byte {
		s, err := kube.CoreV1().Secrets(ns).Get(t.Context(), v1alpha1.HeartbeatSecret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s.Data[v1alpha1.HeartbeatKey]
	}
	first := key()
	if len(first) != keySize {
		t.Errorf("a key of %d bytes", len(first))
	}
	seen := w.seen[old.Name]
	seen.since = seen.since.Add(-v1alpha1.AgentLeaseDuration)
	w.seen[old.Name] = seen
	if err := k.sync(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if slices.Compare(key(), first) != 0 {
		t.Error("the key was changed")
	}
	list, err := kube.CoordinationV1().Leases(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "other" {
		t.Errorf("Leases %+v, %v", list.Items, err)
	}
	checkAccess(t, kube.Actions())
}

// checkAccess holds what was called against Access, both ways.
func checkAccess(t *testing.T, actions []clienttesting.Action) {
	called := map[string]bool{}
	for _, a := range actions {
		called[a.GetVerb()+" "+a.GetResource().Resource] = true
	}
	for _, a := range Access(ns) {
		for _, v := range a.Verbs {
			if !called[v+" "+a.Resource] {
				t.Errorf("declared, but never called: %s %s", v, a.Resource)
			}
			delete(called, v+" "+a.Resource)
		}
	}
	if len(called) > 0 {
		t.Errorf("called, but not declared: %v", called)
	}
}

// A Secret that somebody has made is left alone.
func TestKeyOfAnother(t *testing.T) {
	kube := fake.NewClientset(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: v1alpha1.HeartbeatSecret}})
	if err := (&Keeper{Kube: kube, Namespace: ns, Log: slog.New(slog.DiscardHandler)}).sync(t.Context(), &watch{}); err != nil {
		t.Fatal(err)
	}
	for _, a := range kube.Actions() {
		if a.GetVerb() != "get" && a.GetVerb() != "list" {
			t.Errorf("%s %s", a.GetVerb(), a.GetResource().Resource)
		}
	}
}
