package agents

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster/preflight"
)

const (
	// interval is how often Leases are looked at.
	interval = time.Minute
	// retry is how soon after an error.
	retry = 2 * time.Second
	// keySize is that of the key, in bytes.
	keySize = 32
)

// Access returns what Keeper does to the API server.
func Access(namespace string) []preflight.Access {
	const group = "coordination.k8s.io"
	return []preflight.Access{
		{Verbs: []string{"create"}, Resource: "secrets", Namespace: namespace},
		{Verbs: []string{"get"}, Resource: "secrets", Namespace: namespace, Name: v1alpha1.HeartbeatSecret},
		{Verbs: []string{"list", "delete"}, Group: group, Resource: "leases", Namespace: namespace},
	}
}

// Keeper keeps the Secret of heartbeats and the Leases of agents.
type Keeper struct {
	// Kube is the client, Namespace is Seamark's.
	Kube      kubernetes.Interface
	Namespace string
	Log       *slog.Logger
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var w watch
	failing := ""
	for {
		next, text := interval, ""
		if err := k.sync(ctx, &w); err != nil {
			next, text = retry, err.Error()
		}
		if ctx.Err() != nil {
			return
		}
		if text != "" && failing == "" {
			k.Log.Warn("cannot look after the node agents: trying again", "err", text)
		}
		failing = text
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

func (k *Keeper) sync(ctx context.Context, w *watch) error {
	if err := k.ensureKey(ctx); err != nil {
		return err
	}
	leases := k.Kube.CoordinationV1().Leases(k.Namespace)
	list, err := leases.List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.AgentLabel + "=true"})
	if err != nil {
		return fmt.Errorf("list the Leases of agents: %w", err)
	}
	for _, lease := range w.stale(time.Now(), list.Items) {
		// Only as it was seen: it may have been renewed meanwhile.
		err := leases.Delete(ctx, lease.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion}})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		case err != nil:
			return fmt.Errorf("delete Lease %s of an agent that has not renewed it: %w", lease.Name, err)
		default:
			k.Log.Info("the agent of a node is gone: the node is a member of its segments no longer", "lease", lease.Name)
		}
	}
	return nil
}

// ensureKey makes the Secret if it is not there. One that is there is left as it is.
func (k *Keeper) ensureKey(ctx context.Context) error {
	secrets := k.Kube.CoreV1().Secrets(k.Namespace)
	_, err := secrets.Get(ctx, v1alpha1.HeartbeatSecret, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		if err != nil {
			return fmt.Errorf("read Secret %s: %w", v1alpha1.HeartbeatSecret, err)
		}
		return nil
	}
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("draw a key for heartbeats: %w", err)
	}
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.HeartbeatSecret, Labels: map[string]string{"app.kubernetes.io/part-of": "seamark"}},
		Data:       map[string][]byte{v1alpha1.HeartbeatKey: key},
	}, metav1.CreateOptions{FieldManager: "seamark-controller"})
	switch {
	case apierrors.IsAlreadyExists(err):
		return nil
	case err != nil:
		return fmt.Errorf("make Secret %s: %w", v1alpha1.HeartbeatSecret, err)
	}
	k.Log.Info("made a key for the heartbeats of agents", "secret", v1alpha1.HeartbeatSecret)
	return nil
}
