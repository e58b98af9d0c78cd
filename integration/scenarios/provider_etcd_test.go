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
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/seamark-io/seamark/integration/lab"
)

// etcdLab is the name of a lab that is only for being set back.
const etcdLab = "scnetcd"

// etcd is set back to what it held before a hundred addresses were given out, some taken back, one shared and one changed,
// while everything else goes on running. What is there again has the addresses that it had, the others are nobody's, and
// new Services get them. It is alone: a second lab, and a hundred Services at once, would make others late.
func TestEtcdRestored(t *testing.T) {
	needsSeamarkLB(t)
	w := newRestorable(t)
	ctx := contextOf(t)
	key := annotated("seamark.io/sharing-key", "k")
	w.create("before", 0, 40)
	w.create("sharing", 0, 1, key)
	had := w.settled("all have an address", 41)
	w.must(w.lab.Snapshot(ctx, "before"))

	w.create("after", 0, 100)
	w.create("sharing", 1, 2, key, dualStack, ports(corev1.ProtocolTCP, 81))
	for i := range 10 {
		w.delete(fmt.Sprintf("before%03d", i))
	}
	w.patch("before010", `{"spec": {"type": "NodePort"}}`)
	w.patch("before011", `{"metadata": {"annotations": {"seamark.io/addresses": "198.18.21.200"}}}`)
	then := w.settled("a hundred more have an address", 41+100+1-10-1)
	if then["before011"] == had["before011"] || then["sharing000"] != then["sharing001"] {
		t.Fatalf("before the restore: %v", then)
	}
	w.create("late", 0, 10) // and some are being given out

	restarts := w.lab.controllerPIDs()
	w.must(w.lab.Restore(ctx, "before"))
	start := time.Now()
	now := w.settled("what is there again has its addresses", 41)
	// This one had moved since: the controller may move it again before it knows that nobody asks for that any more.
	asked := func() {
		if now["before011"] == then["before011"] {
			had["before011"] = then["before011"]
		}
	}
	if asked(); !maps.Equal(now, had) {
		t.Errorf("the addresses are\n%v, and were\n%v", now, had)
	}
	w.create("new", 0, 50)
	w.patch("before012", `{"metadata": {"annotations": {"seamark.io/addresses": "198.18.21.201"}}}`)
	w.create("sharing", 1, 2, key, dualStack, ports(corev1.ProtocolTCP, 81))
	now = w.settled("new Services have addresses", 41+50+1)
	if asked(); !strings.Contains(now["before012"], "198.18.21.201") || now["sharing000"] != now["sharing001"] {
		t.Errorf("the addresses are %v", now)
	}
	t.Logf("all is as it should be %s after etcd was restored; the controllers were restarted: %t",
		time.Since(start).Round(100*time.Millisecond), !slices.Equal(restarts, w.lab.controllerPIDs()))
	for service, addresses := range had {
		if now[service] != addresses && service != "before012" {
			t.Errorf("%s has %s, and had %s", service, now[service], addresses)
		}
	}
	for service := range now {
		w.delete(service)
	}
	w.settled("all are gone", 0)
}

// restorable is a cluster that is to be set back, and the Services in it that ask for one pool.
type restorable struct {
	t        *testing.T
	lab      otherLab
	client   kubernetes.Interface
	services typedcorev1.ServiceInterface
	pool     *namespace // by the name of the pool
}

func newRestorable(t *testing.T) restorable {
	t.Helper()
	w := restorable{t: t, lab: ownLabUp(t, etcdLab, 1), pool: &namespace{t, "restored"}}
	config, err := w.lab.RESTConfig()
	w.must(err)
	w.client, err = kubernetes.NewForConfig(config)
	w.must(err)
	w.services = w.client.CoreV1().Services("default")
	pool := manifest(t, "pool.yaml", "$NAME", w.pool.name, "$ADDRESSES", `198.18.20.0/23, "fd00:198:20::/119"`)
	w.must(w.lab.Apply(contextOf(t), []byte(pool)))
	return w
}

func (w restorable) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// create makes several Services at once, one in four for both families.
func (w restorable) create(name string, from, to int, changes ...func(*corev1.Service)) {
	w.t.Helper()
	var group errgroup.Group
	for i := from; i < to; i++ {
		group.Go(func() error {
			s := w.pool.balancer(fmt.Sprintf("%s%03d", name, i), changes...)
			if i%4 == 0 {
				dualStack(s)
			}
			_, err := w.services.Create(contextOf(w.t), s, metav1.CreateOptions{})
			return err
		})
	}
	w.must(group.Wait())
}

func (w restorable) delete(service string) {
	w.t.Helper()
	w.must(w.services.Delete(contextOf(w.t), service, metav1.DeleteOptions{}))
}

func (w restorable) patch(service, patch string) {
	w.t.Helper()
	_, err := w.services.Patch(contextOf(w.t), service, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	w.must(err)
}

// settled waits until there are n load balancers, and Services, VIPs and the pool tell the same; and returns what each shows.
func (w restorable) settled(what string, n int) (shown map[string]string) {
	w.t.Helper()
	await(w.t, 2*podLimit, what, func(ctx context.Context) error {
		a, err := addressesOf(ctx, w.client, nil, []string{w.pool.name})
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
	down(contextOf(t)) // what an interrupted run left
	t.Cleanup(func() { down(context.Background()) })
	putBack(t, func(ctx context.Context) {
		if l, err := lab.Open(name); err == nil && t.Failed() {
			out, err := l.Kubectl(ctx, "logs", "--namespace="+seamarkNamespace, "deployment/"+controllerProgram, "--all-pods", "--prefix", "--tail=40")
			t.Logf("--- logs of the controllers of lab %s (%v)\n%s", name, err, out.Stdout)
		}
	})
	o := cluster.Options()
	o.Name, o.Nodes, o.Progress = name, nodes, nil
	l, err := lab.Up(contextOf(t), o)
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
