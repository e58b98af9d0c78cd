package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/seamark-io/seamark/cluster/preflight"
)

const kubeconfig = `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://192.0.2.1:6443"}}], users: [{name: u, user: {token: t}}]}`

func complete(t *testing.T, args ...string) (*config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	o := defaultOptions()
	f := pflag.NewFlagSet("seamark-node", pflag.ContinueOnError)
	o.addFlags(f)
	if err := f.Parse(append([]string{"--kubeconfig=" + path, "--node-name=n1"}, args...)); err != nil {
		t.Fatal(err)
	}
	return o.complete()
}

func TestOptions(t *testing.T) {
	c, err := complete(t, "--dns-upstream=192.0.2.53,[2001:db8::53]:5353", "--cluster-cidr=10.244.0.0/16", "--dns=false", "--nodeport-addresses=10.0.0.0/8,fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("[2001:db8::53]:5353")}
	if len(c.dnsUpstreams) != 2 || c.dnsUpstreams[0] != want[0] || c.dnsUpstreams[1] != want[1] {
		t.Errorf("upstreams %v, want %v", c.dnsUpstreams, want)
	}
	if c.dns || !c.proxy || !c.speaker || c.dnsService.String() != "kube-system/kube-dns" {
		t.Errorf("got %+v", c)
	}
	if fmt.Sprint(c.nodePorts) != "[10.0.0.0/8 fd00::/8]" {
		t.Errorf("node ports at %v", c.nodePorts)
	}
	if c, err := complete(t, "--nodeport-addresses=primary"); err != nil || c.nodePorts != nil {
		t.Errorf("node ports at the primary address: %v, %v", c, err)
	}
	if c.rest.QPS >= 0 {
		t.Errorf("client QPS %v: the client must not hold requests back", c.rest.QPS)
	}
}

// TestOptionsNameAllThatIsWrong: somebody who made two mistakes should not need two attempts to learn of them.
func TestOptionsNameAllThatIsWrong(t *testing.T) {
	_, err := complete(t, "--node-name=", "--speaker=false", "--proxy=false", "--dns=false", "--dns-service=kube-dns",
		"--dns-upstream=nameserver", "--cluster-cidr=10.244.0.0", "--log-level=loud", "--log-format=xml", "--healthz-bind-address=10256",
		"--drain-on-stop=maybe", "--leave-time=1h", "--nodeport-addresses=primary,10.0.0.1")
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"--node-name", "nothing to do", "--dns-service", "--dns-upstream", "--cluster-cidr", "--log-level", "--log-format", "--healthz-bind-address",
		"--drain-on-stop", "--leave-time", "--nodeport-addresses",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}

// TestRights holds the manifest to what the agent asks the API server for: no right is missing and none is left over.
func TestRights(t *testing.T) {
	granted := map[string]bool{}
	f, err := os.Open("../../manifests/node/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := utilyaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		var role rbacv1.ClusterRole // a Role has the same fields
		if err := d.Decode(&role); err != nil {
			break
		}
		for _, r := range role.Rules {
			for _, g := range r.APIGroups {
				for _, res := range r.Resources {
					for _, v := range r.Verbs {
						granted[strings.Join([]string{role.Namespace, g, res, v}, " ")] = true
					}
				}
			}
		}
	}
	c := &config{namespace: "seamark-system", speaker: true, proxy: true, dns: true}
	for _, a := range access(c) {
		for _, v := range a.Verbs {
			key := key(a, v)
			if !granted[key] {
				t.Errorf("the manifest does not grant %q", key)
			}
			delete(granted, key)
		}
	}
	for key := range granted {
		t.Errorf("the manifest grants %q, which nobody needs", key)
	}
}

func key(a preflight.Access, verb string) string {
	return strings.Join([]string{a.Namespace, a.Group, a.Resource, verb}, " ")
}

// TestManifestArguments: the agent understands what its DaemonSet tells it, and is given the time that its end takes.
func TestManifestArguments(t *testing.T) {
	b, err := os.ReadFile("../../manifests/node/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var set appsv1.DaemonSet
	if err := yaml.UnmarshalStrict(b, &set); err != nil {
		t.Fatal(err)
	}
	c, err := complete(t, set.Spec.Template.Spec.Containers[0].Args...)
	if err != nil || !c.speaker || !c.proxy || !c.dns {
		t.Errorf("%+v, %v", c, err)
	}
	const dns = 4 * time.Second // which has replies under way
	grace := set.Spec.Template.Spec.TerminationGracePeriodSeconds
	if grace == nil || time.Duration(*grace)*time.Second < patience+dns {
		t.Errorf("terminationGracePeriodSeconds %v, want %s at least", grace, patience+dns)
	}
}
