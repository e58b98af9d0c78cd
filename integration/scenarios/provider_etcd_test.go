package scenarios

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/seamark-io/seamark/integration/lab"
)

// etcdLab is the name of a lab that is only for being set back.
const etcdLab = "scnetcd"

// etcd is set back to what it held before a hundred addresses were given out, some taken back, one shared and one changed,
// while everything else goes on running. What is there again has the addresses that it had, the others are nobody's, and
// new Services get them.
func TestEtcdRestored(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	const pool = "restored"
	l := ownLabUp(t, etcdLab, 1)
	config, err := l.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.Apply(ctx, []byte(manifest(t, "pool.yaml", "$NAME", pool, "$ADDRESSES", `198.18.20.0/23, "fd00:198:20::/119"`))))
	services := client.CoreV1().Services("default")
	ns := &namespace{t, pool} // Services that ask for this pool
	create := func(name string, from, to int, changes ...func(*corev1.Service)) {
		t.Helper()
		var group errgroup.Group
		for i := from; i < to; i++ {
			group.Go(func() error {
				s := ns.balancer(fmt.Sprintf("%s%03d", name, i), changes...)
				if i%4 == 0 {
					dualStack(s)
				}
				_, err := services.Create(ctx, s, metav1.CreateOptions{})
				return err
			})
		}
		must(group.Wait())
	}
	patch := func(service, patch string) {
		t.Helper()
		_, err := services.Patch(ctx, service, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		must(err)
	}
	settled := func(what string, n int) (shown map[string]string) {
		t.Helper()
		await(t, 2*podLimit, what, func(ctx context.Context) error {
			a, err := addressesOf(ctx, client, nil, []string{pool})
			if err != nil {
				return err
			}
			shown = map[string]string{}
			for _, s := range a.services {
				if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
					shown[s.Name] = fmt.Sprint(vips(&s))
				}
			}
			return errors.Join(a.consistent(), want("the number of Services", len(shown), n))
		})
		return shown
	}
	key := annotated("seamark.io/sharing-key", "k")
	create("before", 0, 40)
	create("sharing", 0, 1, key)
	had := settled("all have an address", 41)
	must(l.Snapshot(ctx, "before"))

	create("after", 0, 100)
	create("sharing", 1, 2, key, dualStack, ports(corev1.ProtocolTCP, 81))
	for i := range 10 {
		must(services.Delete(ctx, fmt.Sprintf("before%03d", i), metav1.DeleteOptions{}))
	}
	patch("before010", `{"spec": {"type": "NodePort"}}`)
	patch("before011", `{"metadata": {"annotations": {"seamark.io/addresses": "198.18.21.200"}}}`)
	then := settled("a hundred more have an address", 41+100+1-10-1)
	if then["before011"] == had["before011"] || then["sharing000"] != then["sharing001"] {
		t.Fatalf("before the restore: %v", then)
	}
	create("late", 0, 10) // and some are being given out

	restarts := l.controllerPIDs()
	must(l.Restore(ctx, "before"))
	start := time.Now()
	now := settled("what is there again has its addresses", 41)
	// This one has moved since: the controller may have moved it again before it knew that nobody asks for that any more.
	if now["before011"] == then["before011"] {
		had["before011"] = then["before011"]
	}
	if !maps.Equal(now, had) {
		t.Errorf("the addresses are\n%v, and were\n%v", now, had)
	}
	create("new", 0, 50)
	patch("before012", `{"metadata": {"annotations": {"seamark.io/addresses": "198.18.21.200"}}}`)
	create("sharing", 1, 2, key, dualStack, ports(corev1.ProtocolTCP, 81))
	now = settled("new Services have addresses", 41+50+1)
	if !strings.Contains(now["before012"], "198.18.21.200") || now["sharing000"] != now["sharing001"] {
		t.Errorf("the addresses are %v", now)
	}
	t.Logf("all is as it should be %s after etcd was restored; the controllers were restarted: %t",
		time.Since(start).Round(100*time.Millisecond), !slices.Equal(restarts, l.controllerPIDs()))
	for service, addresses := range had {
		if now[service] != addresses && service != "before012" {
			t.Errorf("%s has %s, and had %s", service, now[service], addresses)
		}
	}
	for service := range now {
		must(services.Delete(ctx, service, metav1.DeleteOptions{}))
	}
	settled("all are gone", 0)
}

// otherLab is a lab beside the one that the scenarios share.
type otherLab struct {
	*lab.Lab
	t *testing.T
}

// ownLabUp makes a lab for one scenario, and takes it down when the test ends.
func ownLabUp(t *testing.T, name string, nodes int) otherLab {
	t.Helper()
	down := func(ctx context.Context) {
		if err := lab.Down(ctx, name, nil); err != nil {
			t.Error(err)
		}
	}
	down(t.Context()) // what an interrupted run left
	t.Cleanup(func() { down(context.Background()) })
	t.Cleanup(func() {
		if l, err := lab.Open(name); err == nil && t.Failed() {
			out, err := l.Kubectl(context.Background(), "logs", "--namespace="+seamarkNamespace, "deployment/"+controllerProgram, "--all-pods", "--prefix", "--tail=40")
			t.Logf("--- logs of the controllers of lab %s (%v)\n%s", name, err, out.Stdout)
		}
	})
	o := cluster.Options()
	o.Name, o.Nodes, o.Progress = name, nodes, nil
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return otherLab{l, t}
}

// controllerPIDs returns the processes of the controllers.
func (l otherLab) controllerPIDs() (pids []int) {
	l.t.Helper()
	for _, plan := range l.Plan().Nodes() {
		h, err := l.Host(plan.Name)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, p := range h.Processes() {
			if p.Name == controllerProgram {
				pids = append(pids, p.PID)
			}
		}
	}
	slices.Sort(pids)
	return pids
}
