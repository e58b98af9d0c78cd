package main

import (
	"cmp"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

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

// What the command runs with where no flag says otherwise: many Services at a time, no limit of requests (the API server's own
// priority and fairness decides), and no webhook. The flags are those options.
func TestDefaults(t *testing.T) {
	cmd, err := newCommand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	workers, err := cmd.Flags().GetInt32("concurrent-service-syncs")
	if err != nil || workers < 32 {
		t.Errorf("%d Services are worked on at once, error %v; want 32 or more", workers, err)
	}
	qps, err := cmd.Flags().GetFloat32("kube-api-qps")
	if err != nil || qps >= 0 {
		t.Errorf("%v requests per second, error %v; want a negative number: no limit", qps, err)
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.HasPrefix(f.Name, "webhook") {
			t.Errorf("it has a webhook: --%s", f.Name)
		}
	})
}
