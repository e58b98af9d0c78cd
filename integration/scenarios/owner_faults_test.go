package scenarios

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seamark-io/seamark/integration/probe"
)

// poolToServe is in the nodes' subnet, and in no range that the lab keeps for pools.
const poolToServe = "10.77.0.253/32"

// serveLimit is the time after a cut is healed in which one node is left that answers: some heartbeats.
const serveLimit = 3 * time.Second

// answering returns the nodes that answer for an address, in a moment in which it is asked for a few times.
func (h host) answering(ctx context.Context, a netip.Addr) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 8*askEvery)
	defer cancel()
	answers, _, err := probe.Asker{From: h.netns(), Interface: "eth0", To: a, Every: askEvery}.Run(ctx)
	var found []string
	for _, n := range cluster.Plan().Nodes() {
		for _, answer := range answers {
			if fmt.Sprintf("%x", answer.MAC) == strings.ReplaceAll(n.Links[0].MAC, ":", "") && !slices.Contains(found, n.Name) {
				found = append(found, n.Name)
			}
		}
	}
	return found, err
}

// awaitOwner waits until one node answers for the address, and not the one that must not.
func (h host) awaitOwner(a netip.Addr, not string) (node string) {
	h.t.Helper()
	await(h.t, changeLimit, fmt.Sprintf("one node answers for %s", a), func(ctx context.Context) error {
		nodes, err := h.answering(ctx, a)
		if err == nil && (len(nodes) != 1 || nodes[0] == not) {
			err = fmt.Errorf("%v answer; want one, and not %q", nodes, not)
		}
		if err == nil {
			node = nodes[0]
		}
		return err
	})
	return node
}

// betweenNodes does something to the ways between a node and the others.
func betweenNodes(node string, do func(other string) error) (err error) {
	for _, other := range allNodes() {
		if other != node {
			err = errors.Join(err, do(other))
		}
	}
	return err
}

func healNodes(ctx context.Context, node string) error {
	return betweenNodes(node, func(other string) error { return cluster.HealBetween(ctx, node, other) })
}

// patchNode changes a Node.
func patchNode(ctx context.Context, node, patch string) error {
	_, err := cluster.client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// ownerFault is something that happens to the owner of an address and is undone.
type ownerFault struct {
	name     string
	do, undo func(ctx context.Context, node string) error
	// moves: another node is to have the address.
	moves bool
	// lasts is the time until it is undone, from when the address has moved if it does.
	lasts time.Duration
	// lossless: no datagram may be lost.
	lossless bool
}

func ownerFaults() []ownerFault {
	exclude := fmt.Sprintf(`{"metadata": {"labels": {%q: %%s}}}`, corev1.LabelNodeExcludeBalancers)
	return []ownerFault{
		{
			name:  "its agent is frozen and thawed",
			do:    func(ctx context.Context, node string) error { return cluster.Freeze(ctx, node, agentProgram) },
			undo:  func(ctx context.Context, node string) error { return cluster.Thaw(ctx, node, agentProgram) },
			moves: true, lasts: 2 * time.Second,
		},
		{
			name: "it hears no other node",
			do: func(ctx context.Context, node string) error {
				return betweenNodes(node, func(other string) error { return cluster.CutOneWay(ctx, other, node) })
			},
			undo: healNodes, moves: true, lasts: 2 * time.Second,
		},
		{
			name: "no other node hears it",
			do: func(ctx context.Context, node string) error {
				return betweenNodes(node, func(other string) error { return cluster.CutOneWay(ctx, node, other) })
			},
			undo: healNodes, moves: true, lasts: 2 * time.Second,
		},
		{
			name: "a part of what nodes send to each other is lost",
			do: func(ctx context.Context, _ string) (err error) {
				for _, node := range allNodes() {
					err = errors.Join(err, betweenNodes(node, func(other string) error { return cluster.LoseBetween(ctx, node, other, 20) }))
				}
				return err
			},
			undo: func(ctx context.Context, _ string) (err error) {
				for _, node := range allNodes() {
					err = errors.Join(err, healNodes(ctx, node))
				}
				return err
			},
			lasts: 4 * time.Second,
		},
		{
			name: "its node is excluded",
			do: func(ctx context.Context, node string) error {
				return patchNode(ctx, node, fmt.Sprintf(exclude, `"true"`))
			},
			undo: func(ctx context.Context, node string) error {
				return patchNode(ctx, node, fmt.Sprintf(exclude, "null"))
			},
			moves: true, lossless: true,
		},
		{
			name: "its node is out of service",
			// With an effect that leaves the pods alone.
			do: func(ctx context.Context, node string) error {
				_, err := cluster.Kubectl(ctx, "taint", "node", node, corev1.TaintNodeOutOfService+"=test:PreferNoSchedule")
				return err
			},
			undo: func(ctx context.Context, node string) error {
				_, err := cluster.Kubectl(ctx, "taint", "node", node, corev1.TaintNodeOutOfService+"-")
				return err
			},
			moves: true, lossless: true,
		},
	}
}

// What may happen to the owner of an address, while an observer hears who answers: never two nodes at the same time, but where
// the pool asks for it.
func TestOwnerFaults(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	on(t, "client").hears(vipPort(svc, vips(svc)[0], "http"), "hostname")
	for _, f := range ownerFaults() {
		t.Run(f.name, func(t *testing.T) { f.befall(t, svc) })
	}
	t.Run("the key of heartbeats is changed", func(t *testing.T) { keyRotated(&namespace{t, ns.name}, svc) })
	t.Run("a cut where each side is to be served", func(t *testing.T) { eachSideServed(&namespace{t, ns.name}) })
	awaitHealthy(t)
}

// befall makes it happen to the owner of a Service's first address.
func (f ownerFault) befall(t *testing.T, svc *corev1.Service) {
	client, vip := on(t, "client"), vips(svc)[0]
	was := client.awaitOwner(vip, "")
	observed := client.observe(vips(svc)...)
	flow := client.stream(vipPort(svc, vip, "udp"))
	pause(t, 500*time.Millisecond)
	putBack(t, func(ctx context.Context) { _ = f.undo(ctx, was) })
	if err := f.do(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	if f.moves {
		client.awaitOwner(vip, was)
	}
	pause(t, f.lasts)
	if err := f.undo(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	pause(t, time.Second) // for what that sets off
	client.awaitOwner(vip, "")
	observed.oneAtATime(mostly)
	record := flow.End()
	t.Logf("%d of %d datagrams were lost, no answer for %s", record.Lost(), len(record), record.Longest().Length().Round(time.Millisecond))
	if f.lossless && record.Lost() > 0 || record.Lost() == len(record) {
		t.Errorf("%d of %d datagrams were lost", record.Lost(), len(record))
	}
}

// stream sends datagrams to an echo server, a hundred in a second.
func (h host) stream(to netip.AddrPort) *probe.Flow {
	h.t.Helper()
	flow, err := probe.Stream{From: h.netns(), To: to, Every: 10 * time.Millisecond, Say: "echo "}.Start(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return flow
}

// eachSideServed: with partitionPolicy Serve the owner that is cut off from the other nodes goes on answering, and another node
// answers as well, which an observer that reaches both sides sees. When all hear each other again one is left.
func eachSideServed(ns *namespace) {
	t := ns.t
	ns.pool(poolToServe)
	ns.patchPool(`{"spec": {"announce": {"arp": {"partitionPolicy": "Serve"}}}}`)
	ns.create("web-svc-pool.yaml", "$NAME", "served", "$POOL", ns.name)
	svc := ns.awaitVIPs("served")
	client, vip := on(t, "client"), vips(svc)[0]
	client.hears(vipPort(svc, vip, "http"), "hostname")
	was := client.awaitOwner(vip, "")
	observed := client.observe(vip)
	putBack(t, func(ctx context.Context) { _ = healNodes(ctx, was) })
	if err := betweenNodes(was, func(other string) error { return cluster.CutBetween(contextOf(t), was, other) }); err != nil {
		t.Fatal(err)
	}
	both := func(ctx context.Context) error {
		nodes, err := client.answering(ctx, vip)
		if err == nil && (len(nodes) != 2 || !slices.Contains(nodes, was)) {
			err = fmt.Errorf("%v answer; want %s and another", nodes, was)
		}
		return err
	}
	await(t, changeLimit, "a node of each side answers", both)
	holds(t, time.Second, "a node of each side answers", both)
	if err := healNodes(contextOf(t), was); err != nil {
		t.Fatal(err)
	}
	pause(t, serveLimit)
	one := time.Now()
	pause(t, 2*time.Second)
	answers := observed.stop()[vip]
	if len(answers.Overlaps()) == 0 {
		t.Error("two nodes answered at the same time, and the observer has not seen it")
	}
	later := answers.Since(one)
	if n := int(2 * time.Second / askEvery / 2); len(later) < n || later.Changes() > 0 {
		t.Errorf("%s after the cut was healed there were %d answers, want %d of one node: %v", serveLimit, len(later), n, later.Overlaps())
	}
	ns.deleteService("served")
}

// keyRotated changes the key of heartbeats as docs/layer2.md says, and nobody notices, although one of the nodes hears of the new key
// later than the others seal with it.
func keyRotated(ns *namespace, svc *corev1.Service) {
	t := ns.t
	client, vip := on(t, "client"), vips(svc)[0]
	secrets := cluster.client.CoreV1().Secrets(seamarkNamespace)
	const name, settle = "seamark-heartbeat", 2 * time.Second
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	patch := func(data string) {
		t.Helper()
		_, err := secrets.Patch(contextOf(t), name, types.MergePatchType, fmt.Appendf(nil, `{"data": %s}`, data), metav1.PatchOptions{})
		must(err)
		pause(t, settle)
	}
	now, err := secrets.Get(contextOf(t), name, metav1.GetOptions{})
	must(err)
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	before, after := base64.StdEncoding.EncodeToString(now.Data["key"]), base64.StdEncoding.EncodeToString(random)
	putBack(t, func(ctx context.Context) { // one key or the other, whatever was reached
		_, _ = secrets.Patch(ctx, name, types.MergePatchType, []byte(`{"data": {"next": null}}`), metav1.PatchOptions{})
	})
	late := client.awaitOwner(vip, "")
	putBack(t, func(ctx context.Context) { _ = cluster.HealBetween(ctx, late, "cp") })

	unknown := heartbeats(t, "unknown_key")
	observed, flow := client.observe(vips(svc)...), client.stream(vipPort(svc, vip, "udp"))
	pause(t, time.Second)
	patch(fmt.Sprintf(`{"next": %q}`, after))
	must(cluster.CutBetween(contextOf(t), late, "cp"))
	patch(fmt.Sprintf(`{"key": %q, "next": %q}`, after, before))
	must(cluster.HealBetween(contextOf(t), late, "cp"))
	pause(t, 2*settle) // until what was lost is sent again
	opened := heartbeats(t, "opened")
	patch(`{"next": null}`)
	for addr, answers := range observed.oneAtATime(0.9) {
		if answers.Changes() > 0 {
			t.Errorf("%s moved %d times", addr, answers.Changes())
		}
	}
	if record := flow.End(); record.Lost() > 0 || len(record) < 100 {
		t.Errorf("%d of %d datagrams were lost", record.Lost(), len(record))
	}
	for node, n := range heartbeats(t, "unknown_key") {
		if n != unknown[node] {
			t.Errorf("%s heard %d heartbeats with a key that it does not have", node, n-unknown[node])
		}
	}
	for node, n := range heartbeats(t, "opened") {
		if n <= opened[node] {
			t.Errorf("%s hears no heartbeats with the new key alone", node)
		}
	}
}

// heartbeats returns how many each node has received with a result.
func heartbeats(t *testing.T, result string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, node := range nodes(t) {
		for line := range strings.Lines(node.run("curl", "--silent", "http://127.0.0.1:9633/metrics")) {
			var n float64
			if !strings.HasPrefix(line, "seamark_speaker_heartbeats_received_total{") || !strings.Contains(line, fmt.Sprintf("result=%q", result)) {
				continue
			}
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n); err != nil {
				t.Fatalf("%s: %q: %v", node.Name, line, err)
			}
			out[node.Name] += int(n)
		}
	}
	if len(out) != len(cluster.Plan().Nodes()) {
		t.Fatalf("the metrics of heartbeats are of %v", out)
	}
	return out
}
