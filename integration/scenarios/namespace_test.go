package scenarios

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

//go:embed testdata
var manifests embed.FS

// scenarioLabel marks the namespaces of scenarios.
const scenarioLabel = "seamark.io/scenario"

// namespace is a scenario's own.
type namespace struct {
	t    *testing.T
	name string
}

// scenario makes a namespace for a test. It is deleted when the test ends, after what it holds has been dumped if the
// test failed.
func scenario(t *testing.T) *namespace {
	t.Helper()
	ns := newNamespace(t)
	t.Cleanup(func() {
		if t.Failed() && cluster.running.Err() == nil {
			ns.dump()
		}
	})
	return ns
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	name := notInNames.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-")
	ns := &namespace{t, fmt.Sprintf("%.40s-%04x", name, rand.IntN(1<<16))}
	namespaces := cluster.client.CoreV1().Namespaces()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.name, Labels: map[string]string{scenarioLabel: "true"}}}
	if _, err := namespaces.Create(contextOf(t), object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) {
		if err := namespaces.Delete(ctx, ns.name, metav1.DeleteOptions{}); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	await(t, changeLimit, "the namespace has its ServiceAccount", func(ctx context.Context) error {
		_, err := cluster.client.CoreV1().ServiceAccounts(ns.name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return ns
}

// awaitNoNamespaces waits until namespaces of scenarios that have ended are gone.
func awaitNoNamespaces(ctx context.Context, except ...string) error {
	return poll(ctx, 2*podLimit, func(ctx context.Context) error {
		list, err := cluster.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: scenarioLabel})
		if err != nil {
			return err
		}
		if len(list.Items) > len(except) {
			return fmt.Errorf("%d namespaces of scenarios are still there", len(list.Items)-len(except))
		}
		return nil
	})
}

// alone waits until nothing of earlier scenarios is left.
func (ns *namespace) alone() {
	ns.t.Helper()
	if err := awaitNoNamespaces(contextOf(ns.t), ns.name); err != nil {
		ns.t.Fatal(err)
	}
}

// manifest reads a file of testdata, with placeholders such as $NAME replaced: old, new, old, new…
func manifest(t *testing.T, file string, replace ...string) string {
	t.Helper()
	text, err := manifests.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(replace...).Replace(string(text))
}

// create applies a manifest of testdata in the namespace.
func (ns *namespace) create(file string, replace ...string) {
	ns.t.Helper()
	if out, err := ns.apply(manifest(ns.t, file, replace...)); err != nil {
		ns.t.Fatalf("apply %s: %v: %s", file, err, out)
	}
}

// apply does what `kubectl apply -f` does, and returns what it printed.
func (ns *namespace) apply(yaml string) (string, error) {
	ctx, cancel := commandContext(ns.t)
	defer cancel()
	cmd := cluster.KubectlCommand(ctx, "apply", "--namespace="+ns.name, "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// kubectl runs kubectl in the namespace and returns what it printed.
func (ns *namespace) kubectl(args ...string) string {
	ns.t.Helper()
	ctx, cancel := commandContext(ns.t)
	defer cancel()
	out, err := cluster.Kubectl(ctx, append([]string{"--namespace=" + ns.name}, args...)...)
	if err != nil {
		ns.t.Fatal(err)
	}
	return strings.TrimSpace(out.Stdout)
}

// in runs a command in a pod, as `kubectl exec` does, and returns what it printed to standard output.
func (ns *namespace) in(ctx context.Context, pod string, command ...string) (string, error) {
	request := cluster.client.CoreV1().RESTClient().Post().
		Resource("pods").Namespace(ns.name).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(cluster.config, "GET", request.URL().String())
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		err = fmt.Errorf("kubectl exec %s -- %s: %w: %s%s", pod, strings.Join(command, " "), err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), err
}

// mustIn is [namespace.in] for what cannot fail.
func (ns *namespace) mustIn(pod string, command ...string) string {
	ns.t.Helper()
	ctx, cancel := commandContext(ns.t)
	defer cancel()
	out, err := ns.in(ctx, pod, command...)
	if err != nil {
		ns.t.Fatal(err)
	}
	return out
}

// curl gets URLs from a pod, one after the other, each on a connection of its own. Names are resolved in the pod.
func (ns *namespace) curl(ctx context.Context, pod string, urls ...string) (string, error) {
	command := []string{
		"curl", "--silent", "--show-error", "--fail", "--globoff", "--header", "Connection: close",
		"--max-time", fmt.Sprint(requestLimit.Seconds()),
	}
	return ns.in(ctx, pod, append(command, urls...)...)
}

// pods returns the pods with a label app=NAME that are not on their way out, ordered by name.
func (ns *namespace) pods(ctx context.Context, app string) ([]corev1.Pod, error) {
	list, err := cluster.client.CoreV1().Pods(ns.name).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// running waits until n pods with the label app=NAME run, Ready or not, and returns them.
func (ns *namespace) running(app string, n int) []corev1.Pod {
	ns.t.Helper()
	return ns.awaitPods(app, n, "running", func(pod corev1.Pod) bool {
		return len(pod.Status.ContainerStatuses) > 0 && pod.Status.ContainerStatuses[0].State.Running != nil
	})
}

// ready waits until there are n pods with the label app=NAME, and all of them Ready, and returns them.
func (ns *namespace) ready(app string, n int) []corev1.Pod {
	ns.t.Helper()
	return ns.awaitPods(app, n, "Ready", isReady)
}

func (ns *namespace) awaitPods(app string, n int, state string, is func(corev1.Pod) bool) (pods []corev1.Pod) {
	ns.t.Helper()
	await(ns.t, podLimit, fmt.Sprintf("%d pods %s are %s", n, app, state), func(ctx context.Context) (err error) {
		if pods, err = ns.pods(ctx, app); err != nil {
			return err
		}
		for _, pod := range pods {
			if !is(pod) {
				return fmt.Errorf("%s is not: %s", pod.Name, podState(pod))
			}
		}
		return want("the number of pods", len(pods), n)
	})
	return pods
}

func isReady(pod corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// podState says in words how far a pod has come.
func podState(pod corev1.Pod) string {
	state := fmt.Sprintf("%s on %q", pod.Status.Phase, pod.Spec.NodeName)
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			state += fmt.Sprintf(", %s: %s", w.Reason, w.Message)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue && c.Message != "" {
			state += ", " + c.Message
		}
	}
	return state
}

// shell starts a pod to run commands in, and returns its name.
func (ns *namespace) shell() string {
	ns.t.Helper()
	ns.create("shell.yaml", "$NAME", "shell")
	return ns.ready("shell", 1)[0].Name
}

func names(pods []corev1.Pod) []string {
	var names []string
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

func gone(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return fmt.Errorf("it is still there")
	}
	return err
}
