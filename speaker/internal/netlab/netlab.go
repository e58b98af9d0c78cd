package netlab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const marker = "SEAMARK_TEST_NETNS"

// Main runs the tests of a package in a fresh network namespace, by running the test binary again: a namespace belongs to
// a thread, and drivers have many. Without root the tests run where they are and those that call Require are skipped.
func Main(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(marker) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
			os.Exit(1)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	os.Exit(0)
}

// Require skips the test when there is no network namespace for it.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(marker) == "" {
		t.Skip("needs root, for a network namespace")
	}
}

// Host is a network namespace, held by a process that sleeps.
type Host struct {
	t   testing.TB
	pid int
}

// Here is the host of the test process itself.
func Here(t testing.TB) *Host {
	t.Helper()
	Require(t)
	h := &Host{t: t, pid: os.Getpid()}
	h.Run("ip link set lo up")
	return h
}

// New makes a host that lives as long as the test.
func New(t testing.TB) *Host {
	t.Helper()
	Require(t)
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	h := &Host{t: t, pid: cmd.Process.Pid}
	h.Run("ip link set lo up")
	return h
}

// Command returns a command that runs on the host.
func (h *Host) Command(line string) *exec.Cmd {
	args := append([]string{"--net=/proc/" + strconv.Itoa(h.pid) + "/ns/net"}, strings.Fields(line)...)
	cmd := exec.Command("nsenter", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Try runs a command line (words separated by blanks) and returns what it printed.
func (h *Host) Try(line string) (string, error) {
	out, err := h.Command(line).CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// Run is Try for a command that must succeed.
func (h *Host) Run(line string) string {
	h.t.Helper()
	out, err := h.Try(line)
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// Sysctl sets a kernel parameter below net, such as ipv6.conf.all.forwarding.
func (h *Host) Sysctl(name string, value int) {
	h.t.Helper()
	path := "/proc/sys/net/" + strings.ReplaceAll(name, ".", "/")
	cmd := h.Command("tee " + path)
	cmd.Stdin = strings.NewReader(strconv.Itoa(value))
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("set %s: %v %s", name, err, out)
	}
}

// Link joins two hosts by a veth pair with the given interface names, sets both up and removes them when the test ends.
func Link(a *Host, aName string, b *Host, bName string) {
	a.t.Helper()
	a.Run(fmt.Sprintf("ip link add %s type veth peer name %s netns /proc/%d/ns/net", aName, bName, b.pid))
	a.t.Cleanup(func() { _, _ = a.Try("ip link del " + aName) })
	a.Run("ip link set " + aName + " up")
	b.Run("ip link set " + bName + " up")
}

// Addr gives an interface an address, without duplicate address detection, which would delay the test by seconds.
func (h *Host) Addr(iface, prefix string) {
	h.t.Helper()
	nodad := ""
	if strings.Contains(prefix, ":") {
		nodad = " nodad"
	}
	h.Run("ip addr add " + prefix + " dev " + iface + nodad)
}

// MAC returns the Ethernet address of an interface.
func (h *Host) MAC(iface string) string {
	h.t.Helper()
	fields := strings.Fields(h.Run("ip -o link show dev " + iface))
	for i, f := range fields {
		if f == "link/ether" {
			return fields[i+1]
		}
	}
	h.t.Fatalf("%s has no Ethernet address", iface)
	return ""
}

// Eventually waits until ok returns true, for at most ten seconds.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited 10 seconds in vain until %s", what)
}
