package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

// dnsGapLimit is how long the pods of a node may be without an answer of the cluster's DNS when its agent is replaced: the time
// that it takes to delete a pod, to make another, and to start it. Here nobody else answers for the DNS Service.
const dnsGapLimit = changeLimit

// needsSeamarkNode skips a scenario about the whole agent in a lab where others do a part of its work.
func needsSeamarkNode(t *testing.T) {
	t.Helper()
	if o := cluster.Options(); o.Proxy != lab.Seamark || o.DNS != lab.Seamark {
		t.Skipf("this lab has %s for its service proxy and %s for its DNS", o.Proxy, o.DNS)
	}
	needsSeamarkLB(t)
}

// The agent's pod is deleted, as it is in every update: no request by way of the proxy is lost, whoever makes it. Names are
// not answered for a moment; who asks patiently, as resolvers do, gets its answer.
func TestAgentPodDeleted(t *testing.T) {
	needsSeamarkNode(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	vip := vips(svc)[0]
	client, remote := on(t, "client"), on(t, "remote")
	client.hears(vipPort(svc, vip, "http"), "hostname")
	observed := client.observe(vips(svc)...)
	for _, node := range nodes(t) {
		t.Run(node.Name, func(t *testing.T) {
			ns, node := &namespace{t, ns.name}, on(t, node.Name)
			shell := ns.shellOn(node)
			remote.hears(nodePorts(svc, "http", node)[0], "hostname")
			node.hears(clusterPort(svc, "http"), "hostname")
			node.settledTables()

			http := map[string]*traffic{
				"the cluster IP, from the node":     startTraffic(t, node, clusterPort(svc, "http")),
				"the node port, from the LAN":       startTraffic(t, client, nodePorts(svc, "http", node)[0]),
				"the node port, through the router": startTraffic(t, remote, nodePorts(svc, "http", node)[0]),
			}
			// Routers are told when an agent stops, and the other nodes of the LAN take its addresses over: what was sent to it
			// goes to other nodes, and standing connections with it. New ones are made all the time.
			url := fmt.Sprintf("http://%s/hostname", vipPort(svc, vip, "http"))
			vipRequests := map[string]func() probe.Record{"through the router": ns.watch(remote, url), "from the LAN": ns.watch(client, url)}
			name := "web." + ns.name + ".svc.cluster.local"
			pods := map[string]*podLoad{
				"HTTP":                   ns.load(shell, "http", fmt.Sprintf("curl --silent --fail --output /dev/null --max-time 2 http://%s/hostname", clusterPort(svc, "http"))),
				"names, asked once":      ns.load(shell, "dns", "dig +short +tries=1 +time=1 "+name+" A | grep -q '^[0-9][0-9.]*$'"),
				"names, asked patiently": ns.load(shell, "patient", "dig +short +tries=5 +time=5 "+name+" A | tail -n1 | grep -q '^[0-9][0-9.]*$'"),
			}
			time.Sleep(time.Second)
			replaceAgent(t, node)
			time.Sleep(time.Second)

			for how, tr := range http {
				if err := tr.end(); err != nil {
					t.Errorf("by way of %s: %v", how, err)
				}
			}
			for how, requests := range vipRequests {
				if record := requests(); record.Lost() > 0 {
					t.Errorf("by way of the VIP, %s: %d of %d requests were lost: %v", how, record.Lost(), len(record), record.Gaps()[0].Err)
				}
			}
			for what, load := range pods {
				asked, lost, gap := load.end()
				t.Logf("%s, from a pod: %d asked, %d lost, the longest time without an answer %s", what, asked, lost, gap)
				switch {
				case asked == 0:
					t.Errorf("%s, from a pod: nothing was asked", what)
				case what == "names, asked once":
					if gap > dnsGapLimit {
						t.Errorf("%s, from a pod: no answer for %s, want less than %s", what, gap, dnsGapLimit)
					}
				case lost > 0:
					t.Errorf("%s, from a pod: %d of %d were lost", what, lost, asked)
				}
			}
		})
	}
	awaitHealthy(t)
	observed.oneAtATime(mostly)
}

// A stop of the agent leaves what others rely on: the rules, by which Services go on working, and the cluster DNS address,
// without which queries would leave the node by the default route. Who asks for a name meanwhile hears nothing, and so asks
// again.
func TestAgentStopped(t *testing.T) {
	needsSeamarkNode(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(3)
	node, client := nodes(t)[0], on(t, "client")
	name := "web." + ns.name + ".svc.cluster.local"
	server := cluster.Plan().ClusterDNS[0]
	ask := func(ctx context.Context) error {
		out, err := node.Exec(ctx, "dig", "+short", "+tries=1", "+time=1", "@"+server.String(), name, "A")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out.Stdout)
		}
		return want("the answer", strings.TrimSpace(out.Stdout), clusterIPs(svc)[0].String())
	}
	await(t, changeLimit, "the node's DNS knows the Service", ask)
	node.hears(clusterPort(svc, "http"), "hostname")
	client.hears(nodePorts(svc, "http", node)[0], "hostname")
	proxyTables := func() map[string]string {
		tables := node.seamarkTables()
		for name := range tables {
			if name != "ip seamark" && name != "ip6 seamark" {
				delete(tables, name)
			}
		}
		return tables
	}
	node.settledTables()
	before := proxyTables()
	http := map[string]*traffic{
		"the cluster IP, from the node": startTraffic(t, node, clusterPort(svc, "http")),
		"the node port, from the LAN":   startTraffic(t, client, nodePorts(svc, "http", node)[0]),
	}

	// Without its kubelet the agent stays down.
	freeze(t, node, "kubelet")
	for _, pid := range node.pids(agentProgram) {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	await(t, changeLimit, "the agent has ended", func(context.Context) error {
		return want("the number of its processes", len(node.pids(agentProgram)), 0)
	})
	holds(t, 3*time.Second, "the rules and the address stay while the agent is down", func(ctx context.Context) error {
		out, err := node.Exec(ctx, "ip", "-brief", "addr", "show", "dev", "lo")
		if err == nil && !strings.Contains(out.Stdout, server.String()+"/") {
			err = fmt.Errorf("the cluster DNS address is gone: %s", out.Stdout)
		}
		return errors.Join(err, sameTables(before, proxyTables()))
	})
	if err := ask(t.Context()); err == nil || !strings.Contains(err.Error(), "timed out") && !strings.Contains(err.Error(), "no servers could be reached") {
		t.Errorf("asked while the agent is down: %v, want no answer at all", err)
	}
	thaw(t, node, "kubelet")
	await(t, podLimit, "the node's DNS answers again", ask)
	await(t, podLimit, "the agent is Ready", func(ctx context.Context) error { return agentReady(ctx, node, "") })
	if err := sameTables(before, proxyTables()); err != nil {
		t.Errorf("after the agent's return: %v", err)
	}
	for how, tr := range http {
		if err := tr.end(); err != nil {
			t.Errorf("by way of %s: %v", how, err)
		}
	}
	awaitHealthy(t)
}

// replaceAgent deletes the agent's pod of a node, and waits until another is Ready in its place.
func replaceAgent(t *testing.T, node host) {
	t.Helper()
	pod, err := seamarkPod(t.Context(), agentProgram, node.Name)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cluster.Kubectl(t.Context(), "--namespace="+seamarkNamespace, "delete", "pod", pod.Name, "--wait=false"); err != nil {
		t.Fatalf("%v: %s", err, out.Stderr)
	}
	await(t, podLimit, "another agent runs on "+node.Name, func(ctx context.Context) error { return agentReady(ctx, node, pod.Name) })
}

// agentReady returns nil if the agent's pod of a node is Ready, and is not the one with the name before.
func agentReady(ctx context.Context, node host, before string) error {
	pod, err := seamarkPod(ctx, agentProgram, node.Name)
	switch {
	case err != nil:
		return err
	case pod.Name == before:
		return fmt.Errorf("pod %s is still there", pod.Name)
	case !isReady(pod) || len(node.pids(agentProgram)) == 0:
		return fmt.Errorf("pod %s is not Ready: %s", pod.Name, podState(pod))
	}
	return nil
}

// shellOn starts a pod on a node to run commands in, and returns its name.
func (ns *namespace) shellOn(node host) string {
	ns.t.Helper()
	name := "shell-" + node.Name
	yaml := strings.Replace(manifest(ns.t, "shell.yaml", "$NAME", name), "spec:\n", "spec:\n  nodeName: "+node.Name+"\n", 1)
	if out, err := ns.apply(yaml); err != nil {
		ns.t.Fatalf("%v: %s", err, out)
	}
	pods := ns.ready(name, 1)
	return pods[0].Name
}

// watch asks for a URL ten times in a second, each time on a new connection. What it returns stops it.
func (ns *namespace) watch(from host, url string) (stop func() probe.Record) {
	ctx, cancel := context.WithCancel(ns.t.Context())
	record := make(chan probe.Record, 1)
	watch := probe.Watch{From: from.netns(), URL: url, Every: 100 * time.Millisecond, Timeout: requestLimit}
	go func() { record <- watch.Run(ctx) }()
	return func() probe.Record {
		cancel()
		return <-record
	}
}

// podLoad is a command that a pod runs again and again.
type podLoad struct {
	ns        *namespace
	pod, stop string
	out       chan string
}

// load runs a command in a pod about ten times in a second, until it is ended.
func (ns *namespace) load(pod, name, command string) *podLoad {
	l := &podLoad{ns: ns, pod: pod, stop: "/tmp/stop-" + name, out: make(chan string, 1)}
	script := fmt.Sprintf(`while [ ! -e %s ]; do if %s; then echo "ok $(cut -d' ' -f1 /proc/uptime)"; else echo "lost $(cut -d' ' -f1 /proc/uptime)"; fi; sleep 0.1; done`, l.stop, command)
	go func() {
		out, err := ns.in(ns.t.Context(), pod, "sh", "-c", script)
		if err != nil {
			out += "\nfailed: " + err.Error()
		}
		l.out <- out
	}()
	return l
}

// end stops the load. It returns how often the command ran and failed, and the longest time from the end of one run that
// did not fail to the end of the next.
func (l *podLoad) end() (asked, lost int, gap time.Duration) {
	l.ns.t.Helper()
	l.ns.mustIn(l.pod, "touch", l.stop)
	out := <-l.out
	last := -1.0
	for line := range strings.Lines(out) {
		var word string
		var at float64
		if _, err := fmt.Sscan(line, &word, &at); err != nil {
			l.ns.t.Errorf("in pod %s: %s", l.pod, line)
			continue
		}
		asked++
		if word == "lost" {
			lost++
			continue
		}
		if last >= 0 {
			gap = max(gap, time.Duration((at-last)*float64(time.Second)))
		}
		last = at
	}
	return asked, lost, gap.Round(10 * time.Millisecond)
}
