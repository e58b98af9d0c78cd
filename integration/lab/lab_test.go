package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// These tests make real labs. They take minutes and need root, so they run only
// when asked for: SEAMARK_LAB_TESTS=1 go test ./lab
func needLab(t *testing.T) {
	if os.Getenv("SEAMARK_LAB_TESTS") == "" {
		t.Skip("set SEAMARK_LAB_TESTS=1 to make real labs")
	}
}

// upOnly, in the environment, makes the test binary bring up the lab of that
// name and do nothing else, so that a test can kill it.
const upOnly = "SEAMARK_LAB_TEST_UP"

func TestMain(m *testing.M) {
	if name := os.Getenv(upOnly); name != "" {
		if _, err := Up(context.Background(), bare(name, os.Stderr)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// bare returns the options of a lab that needs no images of ours.
func bare(name string, progress io.Writer) Options {
	return Options{Name: name, Nodes: 2, Families: DualStack, Proxy: None, DNS: None, LB: None, Progress: progress}
}

// TestUpDown makes two labs at once, uses them, and removes them, twice.
func TestUpDown(t *testing.T) {
	needLab(t)
	for range 2 {
		var group errgroup.Group
		for _, name := range []string{"ta", "tb"} {
			group.Go(func() error { return upUseDown(t, name) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func upUseDown(t *testing.T, name string) error {
	ctx := t.Context()
	l, err := Up(ctx, bare(name, t.Output()))
	if err != nil {
		return errors.Join(err, Down(ctx, name, nil))
	}
	if _, err := Up(ctx, bare(name, nil)); err == nil || !strings.Contains(err.Error(), "take it down first") {
		t.Errorf("second up of %s: %v", name, err)
	}
	t.Run(name, func(t *testing.T) {
		testHosts(t, l)
		testCuts(t, l)
		testProcesses(t, l)
		testPower(t, l)
		testEtcd(t, l)
	})
	traces := traceOf(l)
	if err := l.Down(ctx); err != nil {
		return err
	}
	traces.mustBeGone(t)
	return Down(ctx, name, nil) // of what is not there
}

func testHosts(t *testing.T, l *Lab) {
	ctx := t.Context()
	client := l.hosts["client"]
	for _, h := range l.plan.Hosts[1:] {
		for _, a := range h.Addrs() {
			if _, err := client.Exec(ctx, "ping", "-c1", "-W2", a.String()); err != nil {
				t.Error(err)
			}
		}
		if out, err := l.hosts[h.Name].Exec(ctx, "hostname"); err != nil || out.Stdout != h.Name+"\n" {
			t.Errorf("hostname of %s: %q %v", h.Name, out.Stdout, err)
		}
	}
	if out, err := client.Exec(ctx, "dig", "+short", "node1.lab.test", "AAAA"); err != nil || out.Stdout != "fd77::11\n" {
		t.Errorf("node1.lab.test: %q %v", out.Stdout, err)
	}
	if out, err := client.Exec(ctx, "dig", "no.such.name"); err != nil || !strings.Contains(out.Stdout, "NXDOMAIN") {
		t.Errorf("no.such.name: %q %v", out.Stdout, err)
	}
	if out, err := client.Exec(ctx, "kubectl", "get", "nodes", "--output=name"); err != nil || out.Stdout != "node/node1\nnode/node2\n" {
		t.Errorf("kubectl on client: %q %v", out.Stdout, err)
	}
	if out, err := l.Kubectl(ctx, "get", "node", "node2", "--output=jsonpath={.spec.podCIDRs}"); err != nil || out.Stdout != `["10.244.2.0/24","fd00:10:244:2::/64"]` {
		t.Errorf("pods' subnets of node2: %q %v", out.Stdout, err)
	}
	var exit *exec.ExitError
	if _, err := client.Exec(ctx, "sh", "-c", "echo it is broken >&2; exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "it is broken") {
		t.Errorf("a failing command: %v", err)
	}
}

func testCuts(t *testing.T, l *Lab) {
	ctx := t.Context()
	check := func(when string, want map[[2]string]bool) {
		t.Helper()
		for pair, want := range want {
			for _, addr := range l.plan.Host(pair[1]).Addrs() {
				// The first may be lost to a neighbour that was not there before.
				out, err := l.hosts[pair[0]].Exec(ctx, "ping", "-c3", "-i0.3", "-W1", addr.String())
				if got := err == nil; got != want {
					t.Errorf("%s: %s reaches %s (%s): %t\n%s", when, pair[0], pair[1], addr, got, out.Stdout)
				}
			}
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n1client, n2client, n1router, n2remote := [2]string{"node1", "client"}, [2]string{"node2", "client"}, [2]string{"node1", "router"}, [2]string{"node2", "remote"}
	must(l.Cut(ctx, "node1"))
	check("node1 cut", map[[2]string]bool{n1client: false, n1router: false, n2client: true})
	must(l.Heal(ctx, "node1"))
	must(l.CutBetween(ctx, "node1", "client"))
	check("node1 and client cut", map[[2]string]bool{n1client: false, n1router: true, n2client: true})
	must(l.HealBetween(ctx, "client", "node1"))
	must(l.HealBetween(ctx, "client", "node1"))
	must(l.Cut(ctx, "router"))
	check("router cut", map[[2]string]bool{n2client: true, n2remote: false})
	must(l.Heal(ctx, "router"))
	check("healed", map[[2]string]bool{n1client: true, n1router: true, n2remote: true})
}

func testProcesses(t *testing.T, l *Lab) {
	ctx := t.Context()
	state := func() byte {
		found, err := l.hosts["router"].find("bird")
		if err != nil {
			t.Fatal(err)
		}
		return found[0].State
	}
	if err := l.Freeze(ctx, "router", "bird"); err != nil || state() != 'T' {
		t.Errorf("freeze: %v, state %c", err, state())
	}
	if err := l.Thaw(ctx, "router", "bird"); err != nil || state() == 'T' {
		t.Errorf("thaw: %v, state %c", err, state())
	}
	if err := l.Kill(ctx, "router", "bird"); err != nil {
		t.Error(err)
	}
	if l.hosts["router"].running("bird") {
		t.Error("bird runs after kill")
	}
	if err := l.StartNode(ctx, "router"); err != nil {
		t.Error(err)
	}
	if _, err := l.hosts["router"].Exec(ctx, "birdc", "show", "status"); err != nil {
		t.Error(err)
	}
	if err := l.Kill(ctx, "router", "bert"); err == nil || !strings.Contains(err.Error(), "there are: bird sleep") {
		t.Errorf("kill of nothing: %v", err)
	}
}

func testPower(t *testing.T, l *Lab) {
	ctx := t.Context()
	if err := l.StopNode(ctx, "node2"); err != nil {
		t.Fatal(err)
	}
	if left := l.hosts["node2"].Processes(); len(left) > 0 {
		t.Errorf("on a node that is off: %v", left)
	}
	if _, err := l.hosts["node2"].Exec(ctx, "true"); err == nil {
		t.Error("a command ran on a node that is off")
	}
	if err := l.StartNode(ctx, "node2"); err != nil {
		t.Fatal(err)
	}
	if err := l.awaitNodes(ctx); err != nil {
		t.Error(err)
	}
	if err := l.StopNode(ctx, "cp"); err == nil {
		t.Error("the control plane was switched off")
	}
}

func testEtcd(t *testing.T, l *Lab) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := l.Kubectl(ctx, args...)
		must(err)
		return out.Stdout
	}
	kubectl("create", "configmap", "before")
	must(l.Snapshot(ctx, "s"))
	kubectl("create", "configmap", "after")
	kubectl("delete", "configmap", "before")
	last, err := l.revision(ctx)
	must(err)
	must(l.Restore(ctx, "s"))
	if got := kubectl("get", "configmaps", "--namespace=default", "--field-selector=metadata.name!=kube-root-ca.crt", "--output=name"); got != "configmap/before\n" {
		t.Errorf("after the restore there is: %s", got)
	}
	if now, err := l.revision(ctx); err != nil || now <= last {
		t.Errorf("the revision is %d, and was %d (%v)", now, last, err)
	}
	if err := l.Restore(ctx, "nosuch"); err == nil {
		t.Error("a snapshot that does not exist was restored")
	}
	kubectl("get", "--raw=/readyz")
}

// TestInterruptedUp kills up at several points and expects down to remove what
// there is, and a second up to work.
func TestInterruptedUp(t *testing.T) {
	needLab(t)
	const name = "tc"
	for _, at := range []string{"lab tc:", "hosts are on the network", "the control plane is up"} {
		t.Run(at, func(t *testing.T) {
			killUpAt(t, name, at)
			l, err := Open(name)
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			var traces trace
			if l != nil {
				traces = traceOf(l)
			}
			if err := Down(t.Context(), name, t.Output()); err != nil {
				t.Fatal(err)
			}
			traces.mustBeGone(t)
		})
	}
	l, err := Up(t.Context(), bare(name, t.Output()))
	if err != nil {
		t.Error(err)
	}
	if l == nil {
		return
	}
	traces := traceOf(l)
	if err := l.Down(t.Context()); err != nil {
		t.Error(err)
	}
	traces.mustBeGone(t)
}

// killUpAt starts up in another process and kills it, without a chance to clean
// up, when its progress says so.
func killUpAt(t *testing.T, name, at string) {
	t.Helper()
	up := exec.CommandContext(t.Context(), os.Args[0])
	up.Env = append(os.Environ(), upOnly+"="+name)
	stderr, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	reached := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		t.Log(lines.Text())
		if strings.Contains(lines.Text(), at) {
			reached = true
			break
		}
	}
	_ = up.Process.Kill()
	_ = up.Wait()
	if !reached {
		t.Errorf("up never said %q", at)
	}
}

// trace is what a lab has in the kernel, found without the cgroups that down
// goes by.
type trace struct {
	lab        string
	dir        string
	namespaces []string // as /proc/PID/ns/net shows them
}

// traceOf records a lab's namespaces: of its hosts and of its pods.
func traceOf(l *Lab) trace {
	found := trace{lab: l.opts.Name, dir: l.dir}
	own, _ := os.Readlink("/proc/self/ns/net")
	for _, h := range l.hosts {
		for _, p := range h.Processes() {
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID))
			if err == nil && ns != own && !slices.Contains(found.namespaces, ns) {
				found.namespaces = append(found.namespaces, ns)
			}
		}
	}
	return found
}

func (tr trace) mustBeGone(t *testing.T) {
	t.Helper()
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range processes {
		if ns, err := os.Readlink(link); err == nil && slices.Contains(tr.namespaces, ns) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "../cmdline"))
			t.Errorf("%s is still in a namespace of %s: %q", link, tr.lab, cmdline)
		}
	}
	if left, _ := filepath.Glob("/run/netns/" + tr.lab + "-*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		if left, _ := filepath.Glob(pattern + cgroupParent + "/" + tr.lab); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/netns/"+tr.lab+"-") || tr.dir != "" && strings.Contains(line, tr.dir) {
			t.Errorf("still mounted: %s", line)
		}
	}
	if _, err := os.Stat(tr.dir); tr.dir != "" && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", tr.dir, err)
	}
}
