package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const seamarkNamespace = "seamark-system"

// seamarkImages returns the archives of Seamark's images, if it plays a part.
func seamarkImages(o Options) ([]string, error) {
	if !o.needsSeamark() {
		return nil, nil
	}
	var archives []string
	for _, name := range []string{"seamark-controller.tar", "seamark-node.tar"} {
		archive := filepath.Join(o.Source, "bin", "images", name)
		if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no image %s: run make images, or ask for a lab without Seamark (proxy, dns and lb)", archive)
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// install installs CoreDNS or Seamark in the cluster, as asked for.
func (l *Lab) install(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	if l.opts.DNS == CoreDNS {
		if err := l.installCoreDNS(ctx, client); err != nil {
			return err
		}
	}
	if l.opts.needsSeamark() {
		return l.installSeamark(ctx, client)
	}
	return nil
}

func (l *Lab) installCoreDNS(ctx context.Context, client kubernetes.Interface) error {
	manifests, err := render("coredns.yaml", newFacts(l.opts, l.plan, HostPlan{}))
	if err != nil {
		return err
	}
	if err := l.Apply(ctx, manifests); err != nil {
		return fmt.Errorf("install CoreDNS: %w", err)
	}
	err = l.awaitRollout(ctx, "CoreDNS", deployment(client, "kube-system", "coredns"))
	if err == nil {
		l.progress.printf("CoreDNS serves")
	}
	return err
}

// installSeamark does what a user does: kubectl apply -k. The images have been
// loaded while the nodes started.
func (l *Lab) installSeamark(ctx context.Context, client kubernetes.Interface) error {
	dir := filepath.Join(l.dir, "seamark")
	if err := l.writeKustomization(dir); err != nil {
		return fmt.Errorf("kustomization for Seamark: %w", err)
	}
	if _, err := l.Kubectl(ctx, "apply", "--server-side", "--field-manager=lab", "-k", dir); err != nil {
		return fmt.Errorf("install Seamark: %w", err)
	}
	l.progress.printf("Seamark is applied (%s)", dir)
	if l.opts.LB == Seamark {
		if err := l.awaitRollout(ctx, "seamark-controller", deployment(client, seamarkNamespace, "seamark-controller")); err != nil {
			return err
		}
	}
	err := l.awaitRollout(ctx, "seamark-node", daemonSet(client, seamarkNamespace, "seamark-node"))
	if err == nil {
		l.progress.printf("Seamark runs on all nodes")
	}
	return err
}

// writeKustomization makes a kustomization of the checkout's manifests for this
// lab. Kustomize takes only relative paths to a base.
func (l *Lab) writeKustomization(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	facts := newFacts(l.opts, l.plan, HostPlan{})
	if facts.Manifests, err = filepath.Rel(realDir, filepath.Join(l.opts.Source, "manifests")); err != nil {
		return err
	}
	text, err := render("kustomization.yaml", facts)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "kustomization.yaml"), text)
}

// rollout reports how many pods of a workload are wanted and ready.
type rollout func(ctx context.Context) (wanted, ready int32, err error)

func deployment(client kubernetes.Interface, namespace, name string) rollout {
	return func(ctx context.Context) (int32, int32, error) {
		d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return 0, 0, err
		}
		return deploymentProgress(d)
	}
}

func deploymentProgress(d *appsv1.Deployment) (wanted, ready int32, err error) {
	if d.Status.ObservedGeneration < d.Generation {
		return *d.Spec.Replicas, 0, nil
	}
	return *d.Spec.Replicas, min(d.Status.UpdatedReplicas, d.Status.AvailableReplicas), nil
}

func daemonSet(client kubernetes.Interface, namespace, name string) rollout {
	return func(ctx context.Context) (int32, int32, error) {
		d, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case err != nil:
			return 0, 0, err
		case d.Status.ObservedGeneration < d.Generation:
			return 1, 0, nil // not counted yet
		}
		return d.Status.DesiredNumberScheduled, min(d.Status.UpdatedNumberScheduled, d.Status.NumberAvailable), nil
	}
}

// awaitRollout waits until all pods of a workload are ready.
func (l *Lab) awaitRollout(ctx context.Context, what string, of rollout) error {
	return l.await(ctx, wait{
		what:  what,
		limit: 2 * time.Minute,
		check: func(ctx context.Context) (bool, string) {
			wanted, ready, err := of(ctx)
			if err != nil {
				return false, err.Error()
			}
			return ready >= wanted, fmt.Sprintf("%d of %d pods are ready", ready, wanted)
		},
	})
}
