package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/integration/artifacts"
)

// These tests make real labs. They take minutes and need root, so they run only
// when asked for, as make lab-tests does: SEAMARK_LAB_TESTS=PREFIX, with what the
// names of the labs begin with. What a killed run left of the lab is removed.
func testLab(t *testing.T, name string) string {
	t.Helper()
	prefix := os.Getenv("SEAMARK_LAB_TESTS")
	if prefix == "" {
		t.Skip("run make lab-tests to make real labs")
	}
	name = prefix + name
	if err := Down(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
	return name
}

// bare returns the options of a lab that needs no images of ours.
func bare(name string, progress io.Writer) Options {
	return Options{Name: name, Nodes: 2, Families: DualStack, Proxy: None, DNS: None, LB: None, Progress: progress}
}

// TestUpDown makes two labs at once, uses them, and removes them, twice.
func TestUpDown(t *testing.T) {
	names := []string{testLab(t, "a"), testLab(t, "b")}
	for _, use := range []func(*testing.T, *Lab){useLab, nil} {
		var group errgroup.Group
		for _, name := range names {
			group.Go(func() error { return upUseDown(t, name, use) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ip", "netns", "list").CombinedOutput()
		for _, name := range names {
			if err != nil || strings.Contains("\n"+string(out), "\n"+name+"-") {
				t.Errorf("ip netns list: %v\n%s", err, out)
			}
		}
	}
}

func upUseDown(t *testing.T, name string, use func(*testing.T, *Lab)) error {
	ctx := t.Context()
	l, err := Up(ctx, bare(name, t.Output()))
	if err != nil {
		return errors.Join(err, Down(ctx, name, nil))
	}
	if other, err := Up(ctx, bare(name, nil)); other != nil || err == nil || !strings.Contains(err.Error(), "take it down first") {
		t.Errorf("second up of %s: %v, %v", name, other, err)
	}
	if use != nil {
		t.Run(name, func(t *testing.T) { use(t, l) })
	}
	startStray(t, l.hosts["client"])
	if err := freezeInCgroup(l.hosts["node1"]); err != nil {
		t.Error(err)
	}
	traces := traceOf(t, name)
	if len(traces.processes) < len(l.plan.Hosts) {
		t.Errorf("only %d processes found of a lab that is up", len(traces.processes))
	}
	if err := l.Down(ctx); err != nil {
		return err
	}
	traces.mustBeGone(t)
	return Down(ctx, name, nil) // of what is not there
}

func useLab(t *testing.T, l *Lab) {
	testHosts(t, l)
	testCuts(t, l)
	testProcesses(t, l)
	testContainers(t, l)
	testRelay(t, l)
	testPower(t, l)
	testEtcd(t, l)
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
	testLoss(t, l)
	must(l.Cut(ctx, "router"))
	check("router cut", map[[2]string]bool{n2client: true, n2remote: false})
	must(l.Heal(ctx, "router"))
	check("healed", map[[2]string]bool{n1client: true, n1router: true, n2remote: true})
}

// testLoss pings node1 from client: where one way is cut, what the other way carries still arrives; of what is lost in part, a part
// arrives.
func testLoss(t *testing.T, l *Lab) {
	ctx := t.Context()
	addr := l.plan.Host("node1").Addrs()[0].String()
	const pings = 40
	// ping returns how many echo requests the node got, and how many replies the client.
	ping := func() (requests, replies int) {
		t.Helper()
		count := func(host, column string) (n int) {
			out, err := l.hosts[host].Exec(ctx, "awk", "/^Icmp: [0-9]/ {print $"+column+"}", "/proc/net/snmp")
			if _, scanErr := fmt.Sscan(out.Stdout, &n); err != nil || scanErr != nil {
				t.Fatal(err, scanErr)
			}
			return n
		}
		const inEchos, inEchoReps = "10", "11"
		requests, replies = -count("node1", inEchos), -count("client", inEchoReps)
		_, _ = l.hosts["client"].Exec(ctx, "ping", "-q", "-n", fmt.Sprintf("-c%d", pings), "-i0.01", "-W1", addr)
		return requests + count("node1", inEchos), replies + count("client", inEchoReps)
	}
	for _, tt := range []struct {
		what              string
		fault             func() error
		requests, replies [2]int // at least, at most
	}{
		{"nothing is lost", func() error { return nil }, [2]int{pings, pings}, [2]int{pings, pings}},
		{"node1 to client is cut", func() error { return l.CutOneWay(ctx, "node1", "client") }, [2]int{pings, pings}, [2]int{}},
		{"client to node1 is cut", func() error { return l.CutOneWay(ctx, "client", "node1") }, [2]int{}, [2]int{}},
		{"30 % are lost", func() error {
			return errors.Join(l.LoseBetween(ctx, "node1", "client", 80), l.LoseBetween(ctx, "client", "node1", 30))
		}, [2]int{pings * 3 / 8, pings - 1}, [2]int{pings / 8, pings * 7 / 8}},
	} {
		_, err := l.hosts["client"].Exec(ctx, "ping", "-n", "-c3", "-i0.3", "-W1", addr) // so that each has the other's neighbour entry
		if err := errors.Join(err, tt.fault()); err != nil {
			t.Fatalf("%s: %v", tt.what, err)
		}
		requests, replies := ping()
		if requests < tt.requests[0] || requests > tt.requests[1] || replies < tt.replies[0] || replies > tt.replies[1] {
			t.Errorf("%s: of %d pings %d arrived, and %d replies to them", tt.what, pings, requests, replies)
		}
		if err := l.HealBetween(ctx, "client", "node1"); err != nil {
			t.Fatalf("%s: heal: %v", tt.what, err)
		}
	}
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
	// What holds the namespaces is a sleep, too.
	for _, name := range []string{"bert", "sleep"} {
		if err := l.Kill(ctx, "router", name); !errors.Is(err, errNoProcess) || !strings.HasSuffix(err.Error(), "there are: bird") {
			t.Errorf("kill of nothing: %v", err)
		}
	}
}

// testContainers kills a container runtime, whose containers stay: they are not taken for it, and it comes back.
func testContainers(t *testing.T, l *Lab) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	node := l.hosts["node1"]
	pod := `{apiVersion: v1, kind: Pod, metadata: {name: stays, namespace: default}, spec: {nodeName: node1, ` +
		`hostNetwork: true, tolerations: [{operator: Exists}], containers: [{name: pause, image: "` + artifacts.PauseRef + `"}]}}`
	if err := l.Apply(ctx, []byte(pod)); err != nil {
		t.Fatal(err)
	}
	phase := ""
	err := poll(ctx, 100*time.Millisecond, func() (bool, error) {
		out, err := l.Kubectl(ctx, "get", "pod", "stays", "--output=jsonpath={.status.phase}")
		phase = out.Stdout
		return phase == "Running", err
	})
	if err != nil {
		t.Fatalf("the pod is %s: %v", phase, err)
	}
	if err := l.Kill(ctx, "node1", "containerd"); err != nil {
		t.Fatal(err)
	}
	if _, err := node.find("pause"); err != nil {
		t.Errorf("no container runs after containerd was killed: %v", err)
	}
	if node.running("containerd") {
		t.Error("containerd runs after kill")
	}
	if err := l.StartNode(ctx, "node1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(ctx, "delete", "pod", "stays"); err != nil { // which its kubelet does through containerd
		t.Error(err)
	}
}

// testRelay checks that kubectl's way into the lab comes back, at the same place.
func testRelay(t *testing.T, l *Lab) {
	ctx := t.Context()
	if err := l.Kill(ctx, "cp", relayProgram); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(ctx, "get", "--raw=/readyz"); err == nil {
		t.Error("kubectl reaches the API server without the relay")
	}
	if err := l.StartNode(ctx, "cp"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Kubectl(ctx, "get", "--raw=/readyz"); err != nil {
		t.Error(err)
	}
}

// testPower switches hosts off and on that are not as the lab left them.
func testPower(t *testing.T, l *Lab) {
	ctx := t.Context()
	node, client := l.hosts["node2"], l.hosts["client"]
	if err := freezeInCgroup(node); err != nil {
		t.Fatal(err)
	}
	ended := startStray(t, node)
	if err := l.StopNode(ctx, "node2"); err != nil {
		t.Fatal(err)
	}
	<-ended
	if left := node.cgroup().pids(); len(left) > 0 {
		t.Errorf("on a node that is off: %v", left)
	}
	if _, err := node.Exec(ctx, "true"); err == nil {
		t.Error("a command ran on a node that is off")
	}
	if err := l.StartNode(ctx, "node2"); err != nil {
		t.Fatal(err)
	}

	// A host whose namespaces nobody holds any more is made anew.
	if err := unix.Kill(client.holder(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := poll(ctx, time.Millisecond, func() (bool, error) { return client.holder() == 0, nil }); err != nil {
		t.Fatal(err)
	}
	if err := l.StartNode(ctx, "client"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Exec(ctx, "ping", "-c3", "-i0.3", "-W1", l.plan.Host("router").Addrs()[0].String()); err != nil {
		t.Error(err)
	}

	if err := l.awaitNodes(ctx); err != nil {
		t.Error(err)
	}
	if err := l.StopNode(ctx, "cp"); err == nil {
		t.Error("the control plane was switched off")
	}
}

// startStray starts a process on the host of which the lab does not know. The
// channel is closed when it has ended.
func startStray(t *testing.T, h *Host) (ended <-chan struct{}) {
	t.Helper()
	sleep := exec.Command("ip", "netns", "exec", h.NetNS(), "sleep", "infinity")
	if err := sleep.Start(); err != nil {
		t.Error(err)
	}
	done := make(chan struct{})
	go func() {
		_ = sleep.Wait()
		close(done)
	}()
	return done
}

// freezeInCgroup starts a process on the host and has version 1's freezer hold it,
// where there is one, as container runtimes pause containers.
func freezeInCgroup(h *Host) error {
	unified, v1, err := cgroupMounts()
	if err != nil {
		return err
	}
	path, err := filepath.Rel(unified, string(h.cgroup()))
	if err != nil {
		return err
	}
	sleep := h.Command(context.Background(), "sleep", "infinity")
	if err := sleep.Start(); err != nil {
		return err
	}
	go func() { _ = sleep.Wait() }()
	for _, hierarchy := range v1 {
		if filepath.Base(hierarchy) != "freezer" {
			continue
		}
		dir := filepath.Join(hierarchy, path, "pods", "frozen")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for file, text := range map[string]string{"cgroup.procs": strconv.Itoa(sleep.Process.Pid), "freezer.state": "FROZEN"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
				return err
			}
		}
	}
	return nil
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
	check := func() {
		t.Helper()
		if got := kubectl("get", "configmaps", "--namespace=default", "--field-selector=metadata.name!=kube-root-ca.crt", "--output=name"); got != "configmap/before\n" {
			t.Errorf("after the restore there is: %s", got)
		}
		if now, err := l.revision(ctx); err != nil || now <= last {
			t.Errorf("the revision is %d, and was %d (%v)", now, last, err)
		}
	}
	must(l.Restore(ctx, "s"))
	check()
	if err := l.Restore(ctx, "nosuch"); err == nil {
		t.Error("a snapshot that does not exist was restored")
	}
	kubectl("get", "--raw=/readyz")

	// An attempt that failed half-way: nothing runs, and etcd, if it did, would
	// know only of revisions long past.
	kubectl("create", "configmap", "after")
	last, err = l.revision(ctx)
	must(err)
	must(l.Kill(ctx, "cp", "kube-apiserver"))
	_, err = l.lastRevision(ctx)
	must(err)
	must(l.Kill(ctx, "cp", "etcd"))
	for _, args := range [][]string{{"rm", "-rf", etcdData}, {"mkdir", "-p", etcdData + ".restored/member"}} {
		_, err := l.hosts["cp"].Exec(ctx, args...)
		must(err)
	}
	must(l.Restore(ctx, "s"))
	check()
}
