package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A program that finds no CRDs, or may not do what it must, says what is missing and how to get it, and ends.
func TestStartWithout(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	bare := bareAPIServer(t)
	for _, tt := range []struct {
		name       string
		program    string
		kubeconfig func(*clientcmdapi.Config)
		words      []string
	}{
		{
			name: "CRDs", program: controllerProgram, kubeconfig: server(bare),
			words: []string{"ippools", "vips", "bgppeers", "seamark.io/v1alpha1", "kubectl apply"},
		},
		{
			name: "CRDs", program: agentProgram, kubeconfig: server(bare),
			words: []string{"ippools", "vips", "bgppeers", "seamark.io/v1alpha1", "kubectl apply"},
		},
		{
			name: "a right", program: controllerProgram, kubeconfig: ns.lacking(controllerProgram, "create", "vips"),
			words: []string{"create vips.seamark.io", "kubectl apply"},
		},
		{
			name: "a right", program: agentProgram, kubeconfig: ns.lacking(agentProgram, "watch", "endpointslices"),
			words: []string{"watch endpointslices.discovery.k8s.io", "kubectl apply"},
		},
	} {
		t.Run(tt.program+" without "+tt.name, func(t *testing.T) {
			out, err := startProgram(t, tt.program, writeKubeconfig(t, tt.kubeconfig))
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
				t.Errorf("it ends with %v, want an exit status above 0", err)
			}
			if err := containsAll(out, tt.words...); err != nil {
				t.Error(err)
			}
		})
	}
}

// startProgram runs a program of bin/ on the control plane's host until it ends by itself.
func startProgram(t *testing.T, program, kubeconfig string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(contextOf(t), changeLimit)
	defer cancel()
	path := filepath.Join(cluster.source, "bin", program)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build", err)
	}
	out, err := on(t, "cp").Command(ctx, path, "--kubeconfig="+kubeconfig).CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("it still runs after %s:\n%s", changeLimit, out)
	}
	return string(out), err
}

// writeKubeconfig writes the administrator's kubeconfig of the control plane's host with a change, and returns its path.
func writeKubeconfig(t *testing.T, change func(*clientcmdapi.Config)) string {
	t.Helper()
	config, err := clientcmd.Load([]byte(on(t, "cp").run("sh", "-c", "cat $KUBECONFIG")))
	if err != nil {
		t.Fatal(err)
	}
	change(config)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func server(at netip.AddrPort) func(*clientcmdapi.Config) {
	return func(c *clientcmdapi.Config) {
		for _, cluster := range c.Clusters {
			cluster.Server = "https://" + at.String()
		}
	}
}

// bareAPIServer runs a second API server, like the lab's but with another part of etcd and so without any objects, until
// the test ends.
func bareAPIServer(t *testing.T) netip.AddrPort {
	t.Helper()
	cp := on(t, "cp")
	at := netip.AddrPortFrom(cp.Addrs()[0], 6444)
	var args []string
	for _, p := range cp.Processes() {
		if p.Name == "kube-apiserver" {
			args = append(slices.Clone(p.Args), // of flags given twice the last counts
				"--etcd-prefix=/scenarios/bare", fmt.Sprintf("--secure-port=%d", at.Port()))
		}
	}
	if args == nil {
		t.Fatal("the lab has no kube-apiserver")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var log strings.Builder
	cmd := cp.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("--- end of the log of the bare API server\n%s", text[max(0, len(text)-2000):])
		}
	})
	kubeconfig := writeKubeconfig(t, server(at))
	await(t, podLimit, "a second API server is ready", func(ctx context.Context) error {
		_, err := cp.Exec(ctx, "kubectl", "--kubeconfig="+kubeconfig, "get", "--raw=/readyz")
		return err
	})
	return at
}

// lacking makes a ServiceAccount with all the rights of a program but one, and returns how to be it.
func (ns *namespace) lacking(program, verb, resource string) func(*clientcmdapi.Config) {
	ns.t.Helper()
	ctx, rbac := contextOf(ns.t), cluster.client.RbacV1()
	must := func(err error) {
		ns.t.Helper()
		if err != nil {
			ns.t.Fatal(err)
		}
	}
	name := ns.name + "-" + program
	account, err := cluster.client.CoreV1().ServiceAccounts(ns.name).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(err)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: ns.name, Name: account.Name}}

	role, err := rbac.ClusterRoles().Get(ctx, program, metav1.GetOptions{})
	must(err)
	role.ObjectMeta = metav1.ObjectMeta{Name: name}
	taken := false
	for i, rule := range role.Rules {
		if slices.Contains(rule.Resources, resource) {
			// The other resources of the rule keep the verb.
			taken = true
			role.Rules[i].Verbs = slices.DeleteFunc(slices.Clone(rule.Verbs), func(v string) bool { return v == verb })
			others := rule
			others.Resources = slices.DeleteFunc(slices.Clone(rule.Resources), func(r string) bool { return r == resource })
			if len(others.Resources) > 0 {
				role.Rules = append(role.Rules, others)
			}
		}
	}
	if !taken {
		ns.t.Fatalf("the ClusterRole %s says nothing of %s", program, resource)
	}
	_, err = rbac.ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	must(err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: subjects,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}, metav1.CreateOptions{})
	must(err)
	putBack(ns.t, func(ctx context.Context) {
		_ = rbac.ClusterRoleBindings().Delete(ctx, name, metav1.DeleteOptions{})
		_ = rbac.ClusterRoles().Delete(ctx, name, metav1.DeleteOptions{})
	})
	// The roles that the program has in single namespaces.
	bindings, err := rbac.RoleBindings("").List(ctx, metav1.ListOptions{})
	must(err)
	for _, b := range bindings.Items {
		if len(b.Subjects) != 1 || b.Subjects[0].Name != program {
			continue
		}
		inNamespace := rbac.RoleBindings(b.Namespace)
		_, err := inNamespace.Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: b.Name + "-" + ns.name}, Subjects: subjects, RoleRef: b.RoleRef,
		}, metav1.CreateOptions{})
		must(err)
		putBack(ns.t, func(ctx context.Context) {
			_ = inNamespace.Delete(ctx, b.Name+"-"+ns.name, metav1.DeleteOptions{})
		})
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(time.Hour / time.Second))}}
	token, err := cluster.client.CoreV1().ServiceAccounts(ns.name).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	must(err)
	return func(c *clientcmdapi.Config) {
		for name := range c.AuthInfos {
			c.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		}
	}
}
