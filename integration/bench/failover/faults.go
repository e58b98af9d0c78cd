package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/integration/bench"
)

// worstBlackout is the target, in milliseconds.
const worstBlackout = 250

// fault is something that is done to the owner of an address and undone, while a client sends.
type fault struct {
	// name is that of its samples.
	name  string
	title string
	// host is where the client is; every is the time between its datagrams to each of the addresses.
	host  string
	every time.Duration
	vips  []netip.Addr
	// victim returns who is hit, do hits it, and undo puts it right.
	victim   func(ctx context.Context) (string, error)
	do, undo func(ctx context.Context, victim string) error
	times    int
	// Targets: 0: none. lossless: not a single datagram may be lost.
	atMost   float64
	lossless bool
	// moves is how often the first address may move in each fault, of which who answers for it, by ARP or NDP, is observed. 0: it is
	// not observed.
	moves int
}

// thereAndBack are the moves of an address whose owner is lost and comes back.
const thereAndBack = 2

// inflict does it as often as wanted, and reports.
func (w *world) inflict(ctx context.Context, f fault) error {
	var gaps []float64
	var seen []observation
	lostAll := 0
	for i := range f.times {
		gap, lost, o, err := w.inflictOnce(ctx, f, i)
		if err != nil {
			return err
		}
		ms := float64(gap.Microseconds()) / 1000
		gaps, lostAll, seen = append(gaps, ms), lostAll+lost, append(seen, o)
		w.sample(f.name, i, ms, lost)
		for _, overlap := range o.overlaps {
			w.log.printf("%s %d of %d: TWO OWNERS: %s", f.name, i+1, f.times, overlap)
		}
	}
	title := fmt.Sprintf("%s, %d times", f.title, f.times)
	if f.moves > 0 {
		w.report.Figures = append(w.report.Figures, observed(title, seen, f.moves)...)
	}
	w.figure(title+": blackout, median", bench.Percentile(gaps, 50), "ms", 0)
	w.figure(title+": blackout, worst", bench.Percentile(gaps, 100), "ms", f.atMost)
	lost := bench.Figure{Name: title + ": datagrams lost, all together", Value: float64(lostAll), Unit: "datagrams"}
	if f.lossless {
		lost.AtMost = none
	}
	w.report.Figures = append(w.report.Figures, lost)
	return nil
}

// inflictOnce does it and undoes it, with streams and an observer of its own: what they remember grows.
func (w *world) inflictOnce(ctx context.Context, f fault, i int) (gap time.Duration, lost int, seen observation, err error) {
	began := time.Now()
	flows, err := w.start(ctx, f.host, f.every, f.vips...)
	if err != nil {
		return 0, 0, seen, err
	}
	defer flows.end()
	stop := func() (observation, error) { return observation{}, nil }
	if f.moves > 0 {
		stop = w.observe(ctx, f.vips[0])
	}
	defer func() { _, _ = stop() }()
	if err := flows.steady(ctx, w, began); err != nil {
		return 0, 0, seen, err
	}
	victim, err := f.victim(ctx)
	if err != nil {
		return 0, 0, seen, err
	}
	hit := time.Now()
	if err := f.do(ctx, victim); err != nil {
		return 0, 0, seen, err
	}
	if err := flows.steady(ctx, w, time.Now()); err != nil {
		return 0, 0, seen, fmt.Errorf("after the fault: %w", err)
	}
	first, _ := flows.worst(hit.Add(-100 * time.Millisecond))
	end := time.Now()
	if err := f.undo(ctx, victim); err != nil {
		return 0, 0, seen, err
	}
	if err := flows.steady(ctx, w, time.Now()); err != nil {
		return 0, 0, seen, fmt.Errorf("after the end of the fault: %w", err)
	}
	gap, lost = flows.worst(hit.Add(-100 * time.Millisecond))
	second, _ := flows.worst(end)
	w.log.printf("%s %d of %d: %s: no answer for %d ms, and %d ms after the end of the fault, %d lost", f.name, i+1, f.times, victim, first.Milliseconds(), second.Milliseconds(), lost)
	seen, err = stop()
	return gap, lost, seen, err
}

func (w *world) figure(name string, value float64, unit string, atMost float64) {
	w.report.Figures = append(w.report.Figures, bench.Figure{Name: name, Value: value, Unit: unit, AtMost: atMost})
}

func (w *world) sample(name string, i int, ms float64, lost int) {
	samples := &w.report.Samples
	samples.Names = append(samples.Names, name)
	samples.Rows = append(samples.Rows, []float64{float64(i), ms, float64(lost)})
}

// ownerOf has the owner of an address for victim.
func (w *world) ownerOf(vip netip.Addr) func(ctx context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return w.owner(ctx, vip) }
}

func (w *world) cut(ctx context.Context, node string) error { return w.lab.Cut(ctx, node) }

// heal puts the link back and waits until the node takes part again: its agent sends heartbeats at once, and others take it for
// alive.
func (w *world) heal(ctx context.Context, node string) error {
	if err := w.lab.Heal(ctx, node); err != nil {
		return err
	}
	return sleep(ctx, 2*time.Second)
}

// healUntil returns a heal that waits for something more.
func (w *world) healUntil(wait func(ctx context.Context, node string) error) func(ctx context.Context, node string) error {
	return func(ctx context.Context, node string) error {
		if err := w.heal(ctx, node); err != nil {
			return err
		}
		return wait(ctx, node)
	}
}

// inTurn has one node after the other for victim.
func inTurn(nodes ...string) func(ctx context.Context) (string, error) {
	next := -1
	return func(context.Context) (string, error) {
		next++
		return nodes[next%len(nodes)], nil
	}
}

// cutOwner cuts the link of the owner of an IPv4 (0) or IPv6 (1) address.
func (w *world) cutOwner(ctx context.Context, vips []netip.Addr, family int) error {
	return w.inflict(ctx, fault{
		name: []string{"link4", "link6"}[family], title: fmt.Sprintf("owner's link cut, one address, IPv%d", 4+2*family),
		host: "client", every: time.Millisecond, vips: vips[family : family+1],
		victim: w.ownerOf(vips[family]), do: w.cut, undo: w.heal,
		times: w.options.Repetitions, atMost: worstBlackout, moves: thereAndBack,
	})
}

// killAgent kills the owner's agent. Its pod is replaced then, because the kubelet waits longer each time before it starts a
// container again.
func (w *world) killAgent(ctx context.Context) error {
	return w.inflict(ctx, fault{
		name: "killed", title: "owner's agent killed (-9)", host: "client", every: time.Millisecond, vips: w.one[:1],
		victim: w.ownerOf(w.one[0]),
		do:     func(ctx context.Context, node string) error { return w.lab.Kill(ctx, node, agent) },
		undo:   w.replaceAgent,
		times:  w.options.Repetitions, lossless: true, moves: thereAndBack,
	})
}

// freezeAgent stops the owner's agent for ten seconds, and lets it go on.
func (w *world) freezeAgent(ctx context.Context) error {
	return w.inflict(ctx, fault{
		name: "frozen", title: "owner's agent frozen for 10 s and thawed", host: "client", every: time.Millisecond, vips: w.one[:1],
		victim: w.ownerOf(w.one[0]),
		do: func(ctx context.Context, node string) error {
			if err := w.lab.Freeze(ctx, node, agent); err != nil {
				return err
			}
			return sleep(ctx, 10*time.Second)
		},
		undo:  func(ctx context.Context, node string) error { return w.lab.Thaw(ctx, node, agent) },
		times: w.options.Repetitions, atMost: worstBlackout, moves: thereAndBack,
	})
}

// restartAgents replaces the agents one after the other, as an update does.
func (w *world) restartAgents(ctx context.Context) error {
	return w.inflict(ctx, fault{
		name: "restart", title: "all agents restarted, one after the other", host: "client", every: time.Millisecond, vips: w.one[:1],
		victim: func(context.Context) (string, error) { return "all", nil },
		do: func(ctx context.Context, _ string) error {
			for _, n := range w.lab.Plan().Nodes() {
				if err := w.replaceAgent(ctx, n.Name); err != nil {
					return err
				}
			}
			return nil
		},
		undo: func(context.Context, string) error { return nil },
		// Those of the two nodes that may have the address are restarted.
		times: max(w.options.Repetitions/10, 1), lossless: true, moves: 2 * thereAndBack,
	})
}

// drainOwner takes the owner out of those that may have addresses, as before its maintenance, and waits until another has it.
func (w *world) drainOwner(ctx context.Context) error {
	vip := w.one[0]
	return w.inflict(ctx, fault{
		name: "drain", title: "owner excluded from load balancing", host: "client", every: time.Millisecond, vips: []netip.Addr{vip},
		victim: w.ownerOf(vip),
		do: func(ctx context.Context, node string) error {
			if err := w.exclude(ctx, node, `"true"`); err != nil {
				return err
			}
			return w.until(ctx, time.Minute, "another node has the address", func(ctx context.Context) error {
				owner, err := w.owner(ctx, vip)
				if err == nil && owner == node {
					err = errors.New(node + " has it")
				}
				return err
			})
		},
		undo:  func(ctx context.Context, node string) error { return w.exclude(ctx, node, "null") },
		times: w.options.Repetitions, lossless: true, moves: thereAndBack,
	})
}

// exclude sets the label by which nodes are kept out of load balancing; null removes it.
func (w *world) exclude(ctx context.Context, node, value string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%s}}}`, corev1.LabelNodeExcludeBalancers, value)
	_, err := w.kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// replaceAgent deletes the pod of a node's agent and waits until another is ready.
func (w *world) replaceAgent(ctx context.Context, node string) error {
	pods := w.kube.CoreV1().Pods("seamark-system")
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + agent, FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return err
	}
	old := map[string]bool{}
	for _, p := range list.Items {
		old[string(p.UID)] = true
		if err := pods.Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	return w.until(ctx, time.Minute, "the agent of "+node+" is back", func(ctx context.Context) error {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + agent, FieldSelector: "spec.nodeName=" + node})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			for _, c := range p.Status.Conditions {
				if !old[string(p.UID)] && c.Type == "Ready" && c.Status == "True" {
					return nil
				}
			}
		}
		return errors.New("it is not ready")
	})
}

// cutRoute cuts the link of a node that the router sends to. The router takes the path of a flow by its ports, too, as routers
// do (the lab's has Linux's default, by addresses): with so many flows, each node has some.
func (w *world) cutRoute(ctx context.Context) (err error) {
	const byAddresses, byFlow = 0, 1
	if err := w.hashPaths(ctx, byFlow); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.hashPaths(context.WithoutCancel(ctx), byAddresses)) }()
	vips := make([]netip.Addr, 8) // each stream has a port, and so a path, of its own
	for i := range vips {
		vips[i] = w.one[0]
	}
	return w.inflict(ctx, fault{
		name: "bfd", title: "node's link cut, from behind the router, BFD 3 × 50 ms", host: "remote", every: 8 * time.Millisecond, vips: vips,
		victim: inTurn("node2", "node3"),
		do:     w.cut,
		undo: w.healUntil(func(ctx context.Context, node string) error {
			return w.until(ctx, time.Minute, "the router sends to "+node+" again", func(ctx context.Context) error { return w.routed(ctx, node) })
		}),
		times: w.options.Repetitions, atMost: worstBlackout,
	})
}

// hashPaths sets by what the router takes one of several paths (ip-sysctl.rst, fib_multipath_hash_policy).
func (w *world) hashPaths(ctx context.Context, policy int) error {
	router, err := w.lab.Host("router")
	if err != nil {
		return err
	}
	_, err = router.Exec(ctx, "sysctl", "--quiet", "--write", fmt.Sprintf("net.ipv4.fib_multipath_hash_policy=%d", policy))
	return err
}

// routed returns nil if the router has a route by way of the node.
func (w *world) routed(ctx context.Context, node string) error {
	router, err := w.lab.Host("router")
	if err != nil {
		return err
	}
	host, err := w.lab.Host(node)
	if err != nil {
		return err
	}
	out, err := router.Exec(ctx, "ip", "route", "show", w.one[0].String())
	if err != nil {
		return err
	}
	for _, a := range host.Addrs() {
		if a.Is4() && containsWord(out.Stdout, a.String()) {
			return nil
		}
	}
	return fmt.Errorf("the router has %q", out.Stdout)
}

// containsWord reports whether a text has a word.
func containsWord(text, word string) bool { return slices.Contains(strings.Fields(text), word) }
