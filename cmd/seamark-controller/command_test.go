package main

import (
	"cmp"
	"errors"
	"io"
	"strings"
	"testing"
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
