package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

const (
	controllerProgram = "seamark-controller"
	agentProgram      = "seamark-node"
)

// Killing an agent and its return lose no rule and no request: by way of the cluster IP and the node port, connections that
// stand go on, and new ones are made, while the agent is dead and when it is back. The VIPs that it owned move; new
// connections to them are made all the time. Tables that are not Seamark's are left alone.
func TestAgentKilled(t *testing.T) {
	if cluster.Options().Proxy != lab.Seamark {
		t.Skip("this lab has another service proxy (it was made with --proxy kube-proxy)")
	}
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	client := on(t, "client")
	vip := vips(svc)[0]
	client.hears(vipPort(svc, vip, "http"), "hostname")
	observed := client.observe(vips(svc)...)
	for _, node := range nodes(t) {
		t.Run(node.Name, func(t *testing.T) {
			node := on(t, node.Name)
			node.hears(clusterPort(svc, "http"), "hostname")
			node.addForeignTable()
			foreign, before := node.table("inet", foreignTable), node.settledTables()
			traffic := map[string]*traffic{
				"the cluster IP, from the node": startTraffic(t, node, clusterPort(svc, "http")),
				"the node port, from outside":   startTraffic(t, client, nodePorts(svc, "http", node)[0]),
			}
			requests := ns.watch(client, fmt.Sprintf("http://%s/hostname", vipPort(svc, vip, "http")))

			was := agentContainer(t, node)
			// Without its kubelet the agent stays dead, and for so short a time the node stays Ready.
			freeze(t, node, "kubelet")
			kill(t, node, agentProgram)
			holds(t, 3*time.Second, "the tables stay while the agent is dead", func(context.Context) error {
				if p := node.pids(agentProgram); len(p) > 0 {
					return fmt.Errorf("the agent runs: %v", p)
				}
				return sameTables(before, node.seamarkTables())
			})
			thaw(t, node, "kubelet")
			awaitAgent(t, node, was)
			holds(t, 2*time.Second, "the tables stay when the agent is back", func(context.Context) error {
				return sameTables(before, node.seamarkTables())
			})
			for how, traffic := range traffic {
				if err := traffic.end(); err != nil {
					t.Errorf("by way of %s: %v", how, err)
				}
			}
			if record := requests(); record.Lost() > 0 {
				t.Errorf("by way of the VIP, from outside: %d of %d requests were lost: %v", record.Lost(), len(record), record.Gaps()[0].Err)
			}
			if now := node.table("inet", foreignTable); now != foreign {
				t.Errorf("a table that is not ours has changed:\n%s\nwas\n%s", now, foreign)
			}
		})
	}
	awaitHealthy(t)
	observed.oneAtATime(mostly)
	if now := vips(ns.service("web")); !slices.Equal(now, vips(svc)) {
		t.Errorf("the addresses are %v, and were %v", now, vips(svc))
	}
	routed(t, vip, allNodes()...)
}

// Killing the controller loses no address, and what is asked for while it is dead is done when it is back.
func TestControllerKilled(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(2)
	client := on(t, "client")
	at := vipPort(svc, vips(svc)[0], "http")
	client.hears(at, "hostname")
	traffic := startTraffic(t, client, at)
	was, node := killController(t)
	freeze(t, node, "kubelet")
	ns.create("web-svc.yaml", "$NAME", "later", "$TYPE", "LoadBalancer")
	pause(t, 2*time.Second)
	thaw(t, node, "kubelet")
	awaitController(t, was)
	later := ns.awaitVIPs("later")
	if slices.ContainsFunc(vips(later), func(a netip.Addr) bool { return slices.Contains(vips(svc), a) }) {
		t.Errorf("two Services share an address: %v and %v", vips(svc), vips(later))
	}
	holds(t, 2*time.Second, "the Service keeps its addresses", func(context.Context) error {
		return want("the list of addresses", fmt.Sprint(vips(ns.service("web"))), fmt.Sprint(vips(svc)))
	})
	if err := traffic.end(); err != nil {
		t.Errorf("traffic while the controller was dead: %v", err)
	}
}

// repairLimit is the time within which a status that somebody edits is right again at the latest. As a rule it is at once: the
// controller sees the change. What it missed it finds when it looks at everything, every 30 seconds, for the second time.
const repairLimit = 75 * time.Second

// A Service's address survives that somebody wipes its status.
func TestStatusWiped(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "LoadBalancer")
	had := vips(ns.awaitVIPs("web"))
	ns.kubectl("patch", "service", "web", "--subresource=status", "--type=merge", "--patch", `{"status": {"loadBalancer": null}}`)
	await(t, repairLimit, "the status has the same addresses again", func(context.Context) error {
		return want("the list of addresses", fmt.Sprint(vips(ns.service("web"))), fmt.Sprint(had))
	})
}

// traffic is an established connection, asked again and again, and requests on new ones beside it.
type traffic struct {
	stop     context.CancelFunc
	record   chan probe.Record
	standing chan error
}

func startTraffic(t *testing.T, from host, at netip.AddrPort) *traffic {
	t.Helper()
	ctx, cancel := context.WithCancel(contextOf(t))
	session, err := probe.Connect(ctx, from.netns(), at)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	tr := &traffic{cancel, make(chan probe.Record, 1), make(chan error, 1)}
	watch := probe.Watch{From: from.netns(), URL: fmt.Sprintf("http://%s/hostname", at), Every: 100 * time.Millisecond, Timeout: requestLimit}
	go func() { tr.record <- watch.Run(ctx) }()
	go func() {
		defer session.Close()
		tr.standing <- session.Keep(ctx, "/hostname", 100*time.Millisecond, requestLimit)
	}()
	return tr
}

// end stops the traffic, and returns an error if a request was lost.
func (tr *traffic) end() error {
	tr.stop()
	record, standing := <-tr.record, <-tr.standing
	var err error
	if gaps := record.Gaps(); len(gaps) > 0 {
		err = fmt.Errorf("of %d new connections %d failed: %w", len(record), record.Lost(), gaps[0].Err)
	}
	if standing != nil {
		standing = fmt.Errorf("the connection that stood broke: %w", standing)
	}
	return errors.Join(err, standing)
}

// foreignTable is planted beside Seamark's.
const foreignTable = "scenario-foreign"

func (h host) addForeignTable() {
	h.t.Helper()
	cmd := h.Command(contextOf(h.t), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table inet ` + foreignTable + ` {
	set names { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip daddr @names drop comment "not Seamark's"
	}
}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	putBack(h.t, func(ctx context.Context) {
		_, _ = h.Exec(ctx, "nft", "delete", "table", "inet", foreignTable)
	})
}

// table returns the text of a table, without counters.
func (h host) table(family, name string) string {
	h.t.Helper()
	return h.run("nft", "--stateless", "list", "table", family, name)
}

// seamarkTables returns the text of Seamark's tables by family and name.
func (h host) seamarkTables() map[string]string {
	h.t.Helper()
	var list struct {
		Nftables []struct {
			Table *struct{ Family, Name string }
		}
	}
	if err := json.Unmarshal([]byte(h.run("nft", "--json", "list", "tables")), &list); err != nil {
		h.t.Fatal(err)
	}
	tables := make(map[string]string)
	for _, item := range list.Nftables {
		if item.Table != nil && strings.Contains(item.Table.Name, "seamark") {
			tables[item.Table.Family+" "+item.Table.Name] = h.table(item.Table.Family, item.Table.Name)
		}
	}
	return tables
}

// settledTables waits until Seamark's tables have been the same for a while, and returns them.
func (h host) settledTables() map[string]string {
	h.t.Helper()
	tables, since := h.seamarkTables(), time.Now()
	await(h.t, changeLimit, "Seamark's tables stay as they are", func(context.Context) error {
		now := h.seamarkTables()
		if err := sameTables(tables, now); err != nil || len(now) == 0 {
			tables, since = now, time.Now()
		}
		if quiet := time.Since(since); quiet < 3*time.Second {
			return fmt.Errorf("the %d tables have not changed for %s only", len(now), quiet)
		}
		return nil
	})
	return tables
}

// sameTables returns an error that shows the lines in which tables differ.
func sameTables(before, now map[string]string) error {
	var changes []string
	for name, was := range before {
		lines, old := strings.Split(now[name], "\n"), strings.Split(was, "\n")
		for _, line := range old {
			if !slices.Contains(lines, line) {
				changes = append(changes, "- "+name+": "+line)
			}
		}
		for _, line := range lines {
			if !slices.Contains(old, line) {
				changes = append(changes, "+ "+name+": "+line)
			}
		}
	}
	if len(before) != len(now) {
		changes = append(changes, fmt.Sprintf("%d tables, and there were %d", len(now), len(before)))
	}
	if len(changes) > 0 {
		return fmt.Errorf("the tables have changed:\n%s", strings.Join(changes, "\n"))
	}
	return nil
}

// pids returns the processes of a program on the host.
func (h host) pids(program string) []int {
	var pids []int
	for _, p := range h.Processes() {
		if p.Name == program {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func kill(t *testing.T, on host, program string) {
	t.Helper()
	if err := cluster.Kill(contextOf(t), on.Name, program); err != nil {
		t.Fatal(err)
	}
	await(t, requestLimit, program+" is dead", func(context.Context) error {
		return want("the number of its processes", len(on.pids(program)), 0)
	})
}

func freeze(t *testing.T, on host, program string) {
	t.Helper()
	putBack(t, func(ctx context.Context) { _ = cluster.Thaw(ctx, on.Name, program) })
	if err := cluster.Freeze(contextOf(t), on.Name, program); err != nil {
		t.Fatal(err)
	}
}

func thaw(t *testing.T, on host, program string) {
	t.Helper()
	if err := cluster.Thaw(contextOf(t), on.Name, program); err != nil {
		t.Fatal(err)
	}
}

// leadership is who led the controllers, at one moment.
type leadership struct {
	holder  string    // of the Lease: the pod's name, "_" and what tells a process from the next one in that pod
	renewed time.Time // when it said so last
}

// leader returns the controller that leads, and its pod.
func leader(ctx context.Context) (leadership, *corev1.Pod, error) {
	lease, err := cluster.client.CoordinationV1().Leases(seamarkNamespace).Get(ctx, controllerProgram, metav1.GetOptions{})
	if err != nil {
		return leadership{}, nil, err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" || lease.Spec.RenewTime == nil {
		return leadership{}, nil, errors.New("no controller leads")
	}
	l := leadership{*lease.Spec.HolderIdentity, lease.Spec.RenewTime.Time}
	name, _, _ := strings.Cut(l.holder, "_")
	pod, err := cluster.client.CoreV1().Pods(seamarkNamespace).Get(ctx, name, metav1.GetOptions{})
	return l, pod, err
}

// killController kills the controller that leads. It returns who that was, until the kill, and its node.
func killController(t *testing.T) (leadership, host) {
	t.Helper()
	l, pod, err := leader(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	node := on(t, pod.Spec.NodeName)
	if err := cluster.Kill(contextOf(t), node.Name, controllerProgram); err != nil { // and waits for its end
		t.Fatal(err)
	}
	l.renewed = time.Now()
	return l, node
}

// awaitController waits until another controller than the one before leads, has said so since, and is Ready.
func awaitController(t *testing.T, before leadership) {
	t.Helper()
	await(t, podLimit, "a controller leads", func(ctx context.Context) error {
		now, pod, err := leader(ctx)
		switch {
		case err != nil:
			return err
		case now.holder == before.holder || !now.renewed.After(before.renewed):
			return fmt.Errorf("the Lease is of %s, renewed at %s; %s had it until %s",
				now.holder, now.renewed.Format(time.StampMilli), before.holder, before.renewed.Format(time.StampMilli))
		case !isReady(*pod):
			return fmt.Errorf("%s is not Ready: %s", pod.Name, podState(*pod))
		}
		return nil
	})
}

// agentContainer returns the container of the agent of a node: another one after each restart.
func agentContainer(t *testing.T, node host) string {
	t.Helper()
	pod, err := seamarkPod(contextOf(t), agentProgram, node.Name)
	if err != nil {
		t.Fatal(err)
	}
	if len(pod.Status.ContainerStatuses) == 0 {
		t.Fatalf("pod %s has no container: %s", pod.Name, podState(pod))
	}
	return pod.Status.ContainerStatuses[0].ContainerID
}

// awaitAgent waits until the agent of a node runs in another container than before, and is Ready.
func awaitAgent(t *testing.T, node host, before string) {
	t.Helper()
	await(t, podLimit, "the agent of "+node.Name+" is back", func(ctx context.Context) error {
		pod, err := seamarkPod(ctx, agentProgram, node.Name)
		if err != nil {
			return err
		}
		if len(pod.Status.ContainerStatuses) == 0 || !isReady(pod) {
			return fmt.Errorf("pod %s is not Ready: %s", pod.Name, podState(pod))
		}
		if now := pod.Status.ContainerStatuses[0]; now.ContainerID == before || now.State.Running == nil {
			return fmt.Errorf("pod %s has container %s, and had %s: %s", pod.Name, now.ContainerID, before, podState(pod))
		}
		return nil
	})
}

// nodeReady returns nil if a node is Ready.
func nodeReady(ctx context.Context, name string) error {
	node, err := cluster.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			return fmt.Errorf("%s is not Ready: %s", name, c.Message)
		}
	}
	return nil
}
