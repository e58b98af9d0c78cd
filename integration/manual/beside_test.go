package manual

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
)

const (
	// adopted is the address that the other load balancer has given.
	adopted = "10.77.0.234"
	// limit is how long any step may take.
	limit = 2 * time.Minute
)

// web has an address in its status before there is anything of Seamark.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: registry.k8s.io/e2e-test-images/agnhost:2.63.0
        args: [netexec, --http-port=8080]
        readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

const pool = `
apiVersion: seamark.io/v1alpha1
kind: IPPool
metadata: {name: web}
spec: {addresses: [10.77.0.232/29]}
`

// TestBesideKubeProxy installs Seamark beside kube-proxy and CoreDNS, where a Service keeps the address that another load
// balancer gave it, and removes it again until nothing is left.
func TestBesideKubeProxy(t *testing.T) {
	prefix := os.Getenv("SEAMARK_LAB_TESTS")
	if prefix == "" {
		t.Skip("run make lab-tests to make real labs")
	}
	m := up(t, prefix+"man")
	m.kubectl("apply", "--server-side", "-f", m.file("web.yaml", web))
	m.kubectl("rollout", "status", "deployment/web", "--timeout=2m")
	m.kubectl("patch", "service", "web", "--subresource=status", "-p", fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, adopted))

	t.Log("the pools, then the controller, which takes the address over")
	beside := m.manifests("beside-kube-proxy")
	m.kubectl("apply", "-k", m.manifests("crds"))
	m.await("the pool can be made", func() error { return m.try("apply", "-f", m.file("pool.yaml", pool)) })
	m.kubectl("apply", "-k", beside, "-l", "app.kubernetes.io/name!=seamark-node")
	m.kubectl("-n", "seamark-system", "rollout", "status", "deployment/seamark-controller", "--timeout=2m")
	m.await("a VIP has the address", func() error {
		return m.prints("default/web", "get", "vip", adopted, "-o", "jsonpath={.spec.usedBy}")
	})
	if err := m.prints(adopted, "get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}"); err != nil {
		t.Error(err)
	}

	t.Log("the agents, which announce it; kube-proxy leads to the pods")
	m.kubectl("apply", "-k", beside)
	m.kubectl("-n", "seamark-system", "rollout", "status", "daemonset/seamark-node", "--timeout=2m")
	m.await("the address is served", func() error {
		_, err := m.host("client").Exec(m.ctx, "curl", "-sS", "-m", "2", "http://"+adopted+"/hostname")
		return err
	})
	m.tables("inet seamark-ping")

	t.Log("all of it goes")
	m.kubectl("delete", "service", "web", "--timeout=1m")
	m.kubectl("delete", "ippools.seamark.io", "--all", "--timeout=1m")
	m.kubectl("-n", "seamark-system", "delete", "daemonset", "seamark-node", "--cascade=foreground", "--timeout=1m")
	m.kubectl("apply", "-k", m.manifests("cleanup"))
	m.kubectl("-n", "seamark-system", "rollout", "status", "daemonset/seamark-cleanup", "--timeout=2m")
	m.tables()
	m.kubectl("delete", "-k", m.manifests("cleanup"), "--timeout=1m")
	m.kubectl("delete", "-k", beside, "--ignore-not-found", "--timeout=2m")
	for _, of := range []string{"crds", "namespaces", "clusterroles", "clusterrolebindings"} {
		if out, err := m.lab.Kubectl(m.ctx, "get", of, "-o", "name"); err != nil || strings.Contains(out.Stdout, "seamark") {
			t.Errorf("left of %s: %v\n%s", of, err, out.Stdout)
		}
	}
}

// manual is a lab in which a manual is followed.
type manual struct {
	*testing.T
	ctx context.Context
	lab *lab.Lab
	dir string
}

// up makes a cluster as kubeadm makes it, whose nodes have Seamark's images.
func up(t *testing.T, name string) *manual {
	t.Helper()
	ctx := t.Context()
	if err := lab.Down(ctx, name, nil); err != nil { // what a killed run left
		t.Fatal(err)
	}
	o := lab.DefaultOptions()
	o.Name, o.Nodes, o.Proxy, o.DNS, o.LB = name, 2, lab.KubeProxy, lab.CoreDNS, lab.None
	o.Images, o.Progress = []string{"agnhost"}, t.Output()
	l, err := lab.Up(ctx, o)
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(ctx), name, nil); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	m := &manual{T: t, ctx: ctx, lab: l, dir: t.TempDir()}
	for _, image := range []string{"seamark-controller", "seamark-node"} {
		if err := l.Load(ctx, filepath.Join(l.Options().Source, "bin/images", image+".tar")); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *manual) manifests(folder string) string {
	return filepath.Join(m.lab.Options().Source, "manifests", folder)
}

func (m *manual) file(name, content string) string {
	m.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.Fatal(err)
	}
	return path
}

// try runs kubectl.
func (m *manual) try(args ...string) error {
	_, err := m.lab.Kubectl(m.ctx, args...)
	return err
}

func (m *manual) kubectl(args ...string) {
	m.Helper()
	m.Logf("kubectl %s", strings.Join(args, " "))
	if err := m.try(args...); err != nil {
		events, _ := m.lab.Kubectl(m.ctx, "get", "events", "-A")
		m.Fatalf("%v\n%s", err, events.Stdout)
	}
}

// prints reports what kubectl prints that is not as wanted.
func (m *manual) prints(want string, args ...string) error {
	out, err := m.lab.Kubectl(m.ctx, args...)
	if err == nil && out.Stdout != want {
		err = fmt.Errorf("kubectl %s: %q, want %q", strings.Join(args, " "), out.Stdout, want)
	}
	return err
}

func (m *manual) host(name string) *lab.Host {
	m.Helper()
	h, err := m.lab.Host(name)
	if err != nil {
		m.Fatal(err)
	}
	return h
}

// tables says which tables of Seamark there are to be on each node.
func (m *manual) tables(want ...string) {
	m.Helper()
	for _, node := range m.lab.Plan().Nodes() {
		m.await(fmt.Sprintf("%s has the tables %q of Seamark", node.Name, want), func() error {
			out, err := m.host(node.Name).Exec(m.ctx, "nft", "list", "tables")
			if err != nil {
				return err
			}
			var got []string
			for line := range strings.Lines(out.Stdout) {
				if table := strings.TrimPrefix(strings.TrimSpace(line), "table "); strings.Contains(table, "seamark") {
					got = append(got, table)
				}
			}
			if strings.Join(got, ", ") != strings.Join(want, ", ") {
				return fmt.Errorf("it has %q", got)
			}
			return nil
		})
	}
}

// await waits until a condition holds.
func (m *manual) await(what string, holds func() error) {
	m.Helper()
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = holds(); err == nil {
			return
		}
	}
	m.Fatal(errors.Join(fmt.Errorf("waited in vain until %s", what), err))
}
