package scenarios

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seamark-io/seamark/integration/lab"
)

// dumpLimit is the time that a failed scenario may take to say how things stand.
const dumpLimit = 30 * time.Second

// dump shows what a failed scenario's namespace holds and how Seamark sees it. With -artifacts (of go test) the tables and
// the whole logs are kept as well.
func (ns *namespace) dump() {
	ctx, cancel := context.WithTimeout(context.Background(), dumpLimit)
	defer cancel()
	section := func(name, text string, err error) {
		if err != nil {
			text += err.Error()
		}
		ns.t.Logf("--- %s\n%s", name, strings.TrimSpace(text))
	}
	kubectl := func(args ...string) {
		out, err := cluster.Kubectl(ctx, args...)
		section("kubectl "+strings.Join(args, " "), out.Stdout, err)
	}
	kubectl("get", "pods,services,endpointslices", "--namespace", ns.name, "--output=wide")
	kubectl("get", "events", "--namespace", ns.name, "--sort-by=.lastTimestamp")
	kubectl("get", "nodes")
	if !usesSeamark() {
		return
	}
	kubectl("get", "ippools,vips,bgppeers", "--output=wide")
	kubectl("get", "pods,leases", "--namespace", seamarkNamespace, "--output=wide") // who leads, and restarts
	for _, args := range [][]string{
		{"deployment/seamark-controller", "--all-pods", "--prefix"}, {"daemonset/seamark-node", "--all-pods", "--prefix"},
	} {
		kubectl(append([]string{"logs", "--namespace", seamarkNamespace, "--tail=15"}, args...)...)
	}
	ns.collect(ctx, ns.t.ArtifactDir())
}

// collect writes the ruleset and the network of each node, and the log of its agent, into files.
func (ns *namespace) collect(ctx context.Context, dir string) {
	for _, node := range nodes(ns.t) {
		var text strings.Builder
		for _, args := range [][]string{
			{"nft", "list", "ruleset"}, {"ip", "address"}, {"ip", "route"}, {"ip", "-6", "route"}, {"ip", "neigh"},
		} {
			out, err := node.Exec(ctx, args...)
			fmt.Fprintf(&text, "# %s (%v)\n%s\n", strings.Join(args, " "), err, out.Stdout)
		}
		log, err := agentLog(ctx, node.Name)
		if err != nil {
			ns.t.Logf("the log of the agent of %s: %v", node.Name, err)
		}
		for file, text := range map[string]string{node.Name + ".network": text.String(), node.Name + ".log": log} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				ns.t.Log(err)
			}
		}
	}
}

// agentLog returns the whole log of a node's agent.
func agentLog(ctx context.Context, node string) (string, error) {
	pod, err := seamarkPod(ctx, agentProgram, node)
	if err != nil {
		return "", err
	}
	out, err := cluster.Kubectl(ctx, "logs", "--namespace", seamarkNamespace, pod.Name, "--tail=-1")
	return out.Stdout, err
}

// usesSeamark reports whether Seamark plays any part in the lab.
func usesSeamark() bool {
	o := cluster.Options()
	return o.Proxy == lab.Seamark || o.DNS == lab.Seamark || o.LB == lab.Seamark
}
