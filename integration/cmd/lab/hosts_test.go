package main

import (
	"errors"
	"os/exec"
	"testing"
)

// A command that is run for `lab exec` decides what a signal means, and what we end with.
func TestRunForwarding(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   exitStatus
	}{
		{"exit 7", 7},
		{"kill -TERM $$", 128 + 15},
		// By now signals are passed on, so that they do not end the test.
		{`trap "exit 5" TERM; kill -TERM $PPID; for i in $(seq 600); do sleep 0.1; done`, 5},
	} {
		var status exitStatus
		if err := runForwarding(exec.Command("sh", "-c", tt.script)); !errors.As(err, &status) || status != tt.want {
			t.Errorf("%s: %v, want %v", tt.script, err, tt.want)
		}
	}
	if err := runForwarding(exec.Command("true")); err != nil {
		t.Error(err)
	}
	if err := runForwarding(exec.Command("/nosuch")); err == nil || errors.As(err, new(exitStatus)) {
		t.Errorf("what cannot be started: %v", err)
	}
}
