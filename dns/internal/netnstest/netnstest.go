package netnstest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const env = "SEAMARK_TEST_IN_NETNS"

// Isolated reports whether the test runs in a network namespace of its own, with only lo, which is up. If not, it runs
// the test again as a process in a new one, with that process' outcome, and the caller must return. The namespace ends
// with its process. A test that is not run by root is skipped.
func Isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(env) == t.Name() {
		Exec(t, "ip", "link", "set", "lo", "up")
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	}
	return false
}

// Exec runs a command, which must succeed, and returns its output.
func Exec(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
