package failover

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/lab"
)

// withoutAPI stops the API server for long, and then cuts the owner's link.
func (w *world) withoutAPI(ctx context.Context) error {
	if err := w.lab.Kill(ctx, "cp", "kube-apiserver"); err != nil {
		return err
	}
	w.log.printf("the API server is gone for %s", w.options.Outage)
	err := sleep(ctx, w.options.Outage)
	if err == nil {
		err = w.inflict(ctx, fault{
			name: "api", title: fmt.Sprintf("API server gone for %s, then owner's link cut", w.options.Outage),
			host: "client", every: time.Millisecond, vips: w.one[:1],
			victim: w.ownerOf(w.one[0]), do: w.cut, undo: w.heal,
			times: max(w.options.Repetitions/10, 1), atMost: worstBlackout, moves: thereAndBack,
		})
	}
	if err != nil {
		return err
	}
	if err := w.lab.StartNode(ctx, "cp"); err != nil {
		return err
	}
	back := time.Now()
	// Until then addresses may move: away from nodes that are not ready when the others are.
	return w.until(ctx, 3*time.Minute, "the API server answers again, and all nodes are Ready", func(ctx context.Context) error { return w.nodesReady(ctx, back) })
}

// nodesReady returns nil if all nodes are Ready, and have said something since then: what the API says of them may be old.
func (w *world) nodesReady(ctx context.Context, since time.Time) error {
	nodes, err := w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		ready := func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}
		if !slices.ContainsFunc(n.Status.Conditions, ready) {
			return fmt.Errorf("%s is not", n.Name)
		}
		lease, err := w.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if t := lease.Spec.RenewTime; t == nil || t.Time.Before(since) {
			return fmt.Errorf("%s has not been heard of", n.Name)
		}
	}
	return nil
}

// busy keeps all processors busy for long, several times over, and looks whether an address moves that should not.
func (w *world) busy(ctx context.Context) error {
	host, err := w.lab.Host("remote")
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var burners []*exec.Cmd
	for range 2 * runtime.NumCPU() {
		cmd := host.Command(running, "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			return err
		}
		burners = append(burners, cmd)
	}
	defer func() {
		stop()
		for _, b := range burners {
			_ = b.Wait()
		}
	}()
	end := w.observe(ctx, w.one[0])
	w.log.printf("all processors are busy for %s, with two processes each", w.options.Busy)
	err = sleep(ctx, w.options.Busy)
	seen, observeErr := end()
	if err := errors.Join(err, observeErr); err != nil {
		return err
	}
	for _, move := range seen.moves {
		w.log.printf("busy: %s", move)
	}
	for _, overlap := range seen.overlaps {
		w.log.printf("busy: TWO OWNERS: %s", overlap)
	}
	title := fmt.Sprintf("all processors busy for %s", w.options.Busy)
	w.figure(title+": takeovers", float64(len(seen.moves)), "takeovers", none)
	for _, f := range observed(title, []observation{seen}, 0) {
		if f.AtMost > 0 { // takeovers have their figure
			w.report.Figures = append(w.report.Figures, f)
		}
	}
	return nil
}

// footprint tells what the agents use while nothing happens.
func (w *world) footprint(ctx context.Context) error {
	return w.account(ctx, w.lab, "an agent, idle, with all its parts", 0, 0)
}

// account tells what the agents of a lab, in which nothing happens, use of memory and processors, each. Agents look at everything, and
// announce it again, each minute: it takes whole minutes to tell the mean.
func (w *world) account(ctx context.Context, l *lab.Lab, title string, rss, cpu float64) error {
	const settle, during = time.Minute, 2 * time.Minute
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	before, err := bench.ReadAccounts(l)
	if err != nil {
		return err
	}
	if err := sleep(ctx, during); err != nil {
		return err
	}
	now, err := bench.ReadAccounts(l)
	if err != nil {
		return err
	}
	nodes := float64(len(l.Plan().Nodes()))
	used := (now.Of(agent).CPU - before.Of(agent).CPU).Seconds() / during.Seconds() / nodes
	w.figure(title+": share of a processor", 100*used, "%", cpu)
	w.figure(title+": RSS", float64(now.Of(agent).RSS)/1e6/nodes, "MB", rss)
	return nil
}
