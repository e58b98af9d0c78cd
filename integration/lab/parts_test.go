package lab

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

func TestParseCgroupMounts(t *testing.T) {
	for _, test := range []struct {
		name, mountinfo, unified string
		v1                       []string
	}{
		{"unified", "27 24 0:24 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup", nil},
		{
			"hybrid",
			"30 24 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
				"31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 master:4 - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/unified", []string{"/sys/fs/cgroup/cpu,cpuacct"},
		},
		{"none", "27 24 0:24 / / rw - ext4 /dev/vda rw\nnonsense\n", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			unified, v1 := parseCgroupMounts(test.mountinfo)
			if unified != test.unified || !slices.Equal(v1, test.v1) {
				t.Errorf("got %q %q, want %q %q", unified, v1, test.unified, test.v1)
			}
		})
	}
}

// TestState checks that a lab opened again is the one that was written.
func TestState(t *testing.T) {
	t.Setenv("SEAMARK_LAB_STATE", t.TempDir())
	if _, err := Open("sm"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("before up: %v", err)
	}
	for name, o := range layouts() {
		t.Run(name, func(t *testing.T) {
			dir, err := labDir(o.Name)
			if err != nil {
				t.Fatal(err)
			}
			want := state{Options: o, Server: "127.0.0.1:1", Programs: map[string]string{"kubectl": "/bin/kubectl"}}
			if err := want.write(dir); err != nil {
				t.Fatal(err)
			}
			l, err := Open(o.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(o, l.Options()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(NewPlan(o), l.Plan(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
			if l.server != want.Server || l.programs["kubectl"] != "/bin/kubectl" {
				t.Errorf("got server %q, programs %v", l.server, l.programs)
			}
		})
	}
	names, err := List()
	if want := []string{"ctl", "six", "sm"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("List: %v %v, want %v", names, err, want)
	}
}

func TestCheckVisible(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/var/lib", link); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"/home/x": true, "/var": false, "/var/lib/x": false, "/run/x": false, "/etc": false, "/variable": true, link: false} {
		if err := CheckVisible("X", dir); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestHostNames(t *testing.T) {
	for name, want := range map[string]bool{"lan": true, "node12": true, "router2": true, "node": false, "node1x": false, "other": false, "": false} {
		if hostNames.MatchString(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

// TestCredentials checks that each certificate verifies for what it is for.
func TestCredentials(t *testing.T) {
	t.Setenv("SEAMARK_LAB_STATE", t.TempDir())
	o := DefaultOptions()
	dir, err := labDir(o.Name)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLab(state{Options: o, Server: "127.0.0.1:12345"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.credentials(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(read(t, dir, "hosts/cp/etc/kubernetes/pki/ca.crt")) {
		t.Fatal("no certificate in ca.crt")
	}
	for _, test := range []struct {
		file, name string // "" for a client
		user       string
		groups     []string
	}{
		{"cp/etc/kubernetes/pki/apiserver.crt", "kubernetes.default.svc", "kube-apiserver", nil},
		{"cp/etc/kubernetes/pki/apiserver.crt", "127.0.0.1", "kube-apiserver", nil},
		{"cp/etc/kubernetes/pki/apiserver.crt", "10.96.0.1", "kube-apiserver", nil},
		{"cp/etc/kubernetes/pki/apiserver.crt", "fd00:10:96::1", "kube-apiserver", nil},
		{"cp/etc/kubernetes/pki/apiserver.crt", "fd77::10", "kube-apiserver", nil},
		{"cp/etc/kubernetes/pki/apiserver-kubelet-client.crt", "", "kube-apiserver-kubelet-client", []string{"system:masters"}},
		{"node2/etc/kubernetes/pki/kubelet.crt", "10.77.0.12", "node2", nil},
	} {
		block, _ := pem.Decode(read(t, dir, "hosts/"+test.file))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		usage := x509.ExtKeyUsageServerAuth
		if test.name == "" {
			usage = x509.ExtKeyUsageClientAuth
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: test.name, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s for %q: %v", test.file, test.name, err)
		}
		if cert.Subject.CommonName != test.user || !slices.Equal(cert.Subject.Organization, test.groups) {
			t.Errorf("%s is for %s", test.file, cert.Subject)
		}
	}
	for file, server := range map[string]string{
		"kubeconfig":                              "https://127.0.0.1:12345",
		"hosts/client/etc/kubernetes/admin.conf":  "https://10.77.0.10:6443",
		"hosts/node1/etc/kubernetes/kubelet.conf": "https://10.77.0.10:6443",
	} {
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, file))
		if err != nil || config.Host != server {
			t.Errorf("%s: server %v, %v; want %s", file, config, err, server)
		}
	}
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPortPairs(t *testing.T) {
	o := DefaultOptions()
	o.Router2, o.Segment2 = true, 1
	l, err := newLab(state{Options: o}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ a, b, want, err string }{
		{"node1", "client", `{ "node1" . "client", "client" . "node1" }`, ""},
		{"node3", "router", `{ "node3" . "router-lan2", "router-lan2" . "node3" }`, ""},
		{"router", "router2", `{ "router" . "router2", "router2" . "router", "router-behind" . "router2-behind", "router2-behind" . "router-behind", "router-lan2" . "router2-lan2", "router2-lan2" . "router-lan2" }`, ""},
		{"node1", "node3", "", "no segment in common"},
		{"node1", "node1", "", "no segment in common"},
		{"node1", "lan", "", "the switch itself"},
		{"node1", "node9", "", `no host "node9"; it has: lan cp node1`},
	} {
		pairs, err := l.portPairs(test.a, test.b)
		got := ""
		if err == nil {
			got = elements(both(pairs))
		}
		if got != test.want || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s %s: got %s, %v; want %s %s", test.a, test.b, got, err, test.want, test.err)
		}
	}
}

func TestNodesReady(t *testing.T) {
	node := func(name string, conditions ...corev1.NodeCondition) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: conditions}}
	}
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	noCNI := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "no CNI"}
	for _, test := range []struct {
		name    string
		nodes   []corev1.Node
		want    bool
		missing string
	}{
		{"all", []corev1.Node{node("a", ready), node("b", ready)}, true, ""},
		{"one is not", []corev1.Node{node("a", ready), node("b", noCNI)}, false, "b is not: no CNI"},
		{"one is silent", []corev1.Node{node("a"), node("b", ready)}, false, "a is not: its kubelet has not reported"},
	} {
		if got, missing := nodesReady(test.nodes); got != test.want || missing != test.missing {
			t.Errorf("%s: got %t %q", test.name, got, missing)
		}
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	text := strings.Repeat("x", 100<<10) + "\na\nb\nc\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tail(file, 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}

func TestSummary(t *testing.T) {
	processes := []Process{{Name: "kubelet", State: 'T'}, {Name: "coredns"}, {Name: "coredns"}, {Name: "containerd"}, {Name: "pause"}}
	if got, want := summary(processes), "containerd coredns×2 kubelet (frozen)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAwait checks the three ends of a wait.
func TestAwait(t *testing.T) {
	l := &Lab{progress: newProgress(nil)}
	never := func(context.Context) (bool, string) { return false, "1 of 2" }
	if err := l.await(t.Context(), wait{what: "x", limit: time.Second, check: func(context.Context) (bool, string) { return true, "" }}); err != nil {
		t.Error(err)
	}
	err := l.await(t.Context(), wait{what: "x", limit: time.Millisecond, check: never})
	if want := "waiting for x: gave up after 1ms: 1 of 2"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := l.await(ctx, wait{what: "x", limit: time.Second, check: never}); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

// TestLock checks that one has the lock at a time, that who waits for it gets it,
// and that it leaves no file behind.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "labs", "x")
	unlock, err := lockLab(t.Context(), dir, newProgress(nil))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	if _, err := lockLab(ctx, dir, newProgress(&said)); !errors.Is(err, cause) {
		t.Errorf("a second one has the lock: %v", err)
	}
	if !strings.Contains(said.String(), "another process is making or removing lab x") {
		t.Errorf("who waits says %q", said.String())
	}
	time.AfterFunc(50*time.Millisecond, unlock)
	again, err := lockLab(t.Context(), dir, newProgress(nil))
	if err != nil {
		t.Fatal(err)
	}
	again()
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestDuring checks that what takes too long ends, and why, in words.
func TestDuring(t *testing.T) {
	p := newProgress(nil)
	broken := errors.New("broken")
	if err := p.during(t.Context(), time.Minute, "doing x", func(context.Context) error { return broken }); !errors.Is(err, broken) || err.Error() != "doing x: broken" {
		t.Errorf("got %v", err)
	}
	err := p.during(t.Context(), time.Millisecond, "doing x", func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("signal: killed")
	})
	if want := "doing x: gave up after 1ms: signal: killed"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
