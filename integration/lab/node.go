package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func containerd() daemon {
	return daemon{"containerd", []string{"containerd", "--log-level=info"}}
}

func kubelet(h HostPlan) daemon {
	return daemon{"kubelet", []string{
		"kubelet",
		"--config=" + kubeDir + "/kubelet.yaml",
		"--kubeconfig=" + kubeDir + "/kubelet.conf",
		"--hostname-override=" + h.Name,
		"--node-ip=" + join(h.Addrs()),
		"--v=2",
	}}
}

func kubeProxy() daemon {
	return daemon{"kube-proxy", []string{"kube-proxy", "--config=" + kubeDir + "/kube-proxy.yaml"}}
}

// startRuntime starts the node's container runtime and gives it the image that
// every pod needs.
func (l *Lab) startRuntime(ctx context.Context, h *Host) error {
	if err := h.start(containerd()); err != nil {
		return err
	}
	err := l.await(ctx, wait{
		what:  "containerd on " + h.Name,
		limit: 30 * time.Second,
		watch: []watched{{h, "containerd"}},
		check: func(ctx context.Context) (bool, string) {
			_, err := h.Exec(ctx, "ctr", "version")
			return err == nil, fmt.Sprint(err)
		},
	})
	if err != nil {
		return err
	}
	return l.progress.during(ctx, loadLimit, "loading "+filepath.Base(l.pause)+" on "+h.Name, func(ctx context.Context) error {
		return h.importImage(ctx, l.pause)
	})
}

// startKubelet starts what needs the API server: the kubelet and kube-proxy.
func (l *Lab) startKubelet(h *Host) error {
	if err := createCgroups(podCgroup(l.opts.Name, h.Name)); err != nil {
		return err
	}
	if err := h.start(kubelet(h.HostPlan)); err != nil {
		return err
	}
	if l.opts.Proxy == KubeProxy {
		return h.start(kubeProxy())
	}
	return nil
}

// awaitNodes waits until all nodes are Ready.
func (l *Lab) awaitNodes(ctx context.Context) error {
	client, err := l.client()
	if err != nil {
		return err
	}
	var kubelets []watched
	for _, node := range l.plan.Nodes() {
		kubelets = append(kubelets, watched{l.hosts[node.Name], "kubelet"}, watched{l.hosts[node.Name], "containerd"})
	}
	return l.await(ctx, wait{
		what:  fmt.Sprintf("%d nodes to be Ready", l.opts.Nodes),
		limit: 2 * time.Minute,
		watch: kubelets,
		check: func(ctx context.Context) (bool, string) {
			nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err.Error()
			}
			return nodesReady(nodes.Items)
		},
	})
}

// nodesReady reports whether all nodes are Ready, and otherwise which is not.
func nodesReady(nodes []corev1.Node) (bool, string) {
	for _, node := range nodes {
		ready := corev1.NodeCondition{Status: corev1.ConditionUnknown, Message: "its kubelet has not reported"}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = c
			}
		}
		if ready.Status != corev1.ConditionTrue {
			return false, fmt.Sprintf("%s is not: %s", node.Name, ready.Message)
		}
	}
	return true, ""
}
