package main

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/seamark-io/seamark/cluster/preflight"
)

// The manifest grants what the program asks for, and nothing else but what serving /metrics to those who may read it
// needs.
func TestRightsMatchManifest(t *testing.T) {
	serving := []string{
		"create authentication.k8s.io tokenreviews", "create authorization.k8s.io subjectaccessreviews",
		"get  configmaps extension-apiserver-authentication", "list  configmaps extension-apiserver-authentication",
		"watch  configmaps extension-apiserver-authentication",
	}
	var need []string
	for _, a := range access(namespace, leaseName) {
		need = append(need, rights(a)...)
	}
	granted := slices.DeleteFunc(grants(t, "../../manifests/controller/rbac.yaml"), func(s string) bool { return slices.Contains(serving, s) })
	slices.Sort(need)
	slices.Sort(granted)
	for _, s := range need {
		if !slices.Contains(granted, s) {
			t.Errorf("not in the manifest: %s", s)
		}
	}
	for _, s := range granted {
		if !slices.Contains(need, s) {
			t.Errorf("in the manifest, but not used: %s", s)
		}
	}
}

func rights(a preflight.Access) (out []string) {
	for _, verb := range a.Verbs {
		out = append(out, strings.TrimSpace(strings.Join([]string{verb, a.Group, a.Resource, a.Name}, " ")))
	}
	return out
}

func grants(t *testing.T, file string) (out []string) {
	manifest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096); ; {
		var role rbacv1.ClusterRole // a Role has the same fields
		if err := d.Decode(&role); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		for _, r := range role.Rules {
			for _, resource := range r.Resources {
				for _, name := range append(r.ResourceNames, "")[:max(1, len(r.ResourceNames))] {
					out = append(out, rights(preflight.Access{Verbs: r.Verbs, Group: r.APIGroups[0], Resource: resource, Name: name})...)
				}
			}
		}
	}
}

func TestCommand(t *testing.T) {
	for _, tt := range []struct {
		args       []string
		says, fail string
	}{
		{args: []string{"--help"}, says: "--concurrent-service-syncs int32"},
		{args: []string{"version"}, says: "seamark-controller v"},
		{args: []string{"--cloud-provider=aws"}, fail: "this program is the cloud provider seamark"},
		{args: []string{"--kubeconfig=/does/not/exist"}, fail: "/does/not/exist"},
		{args: []string{"--no-such-flag"}, fail: "unknown flag: --no-such-flag"},
		{args: []string{"serve"}, fail: `unknown command "serve"`},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			cmd, err := newCommand(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			cmd.SetOut(&out)
			cmd.SetErr(io.Discard)
			cmd.SetArgs(tt.args)
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			err = cmd.Execute()
			if got := cmp.Or(err, errors.New("")).Error(); (err != nil) != (tt.fail != "") || !strings.Contains(got, tt.fail) {
				t.Errorf("error %v; want %q", err, tt.fail)
			}
			if !strings.Contains(out.String(), tt.says) {
				t.Errorf("output %q; want %q in it", out.String(), tt.says)
			}
		})
	}
	cmd, err := newCommand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range shown() {
		if f := cmd.Flags().Lookup(name); f == nil || f.Hidden {
			t.Errorf("--help should list --%s: %+v", name, f)
		}
	}
}
