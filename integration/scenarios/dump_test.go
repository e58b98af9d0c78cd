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
	kubectl("get", "pods", "--namespace", seamarkNamespace, "--output=wide")
	for _, args := range [][]string{
		{"deployment/seamark-controller"}, {"daemonset/seamark-node", "--all-pods", "--prefix"},
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
		logs, err := cluster.Kubectl(ctx, "logs", "--namespace", seamarkNamespace, "--selector=app.kubernetes.io/name=seamark-node",
			"--field-selector=spec.nodeName="+node.Name, "--tail=-1")
		_ = err // of a pod that is just restarting there is none
		_ = os.WriteFile(filepath.Join(dir, node.Name+".network"), []byte(text.String()), 0o644)
		_ = os.WriteFile(filepath.Join(dir, node.Name+".log"), []byte(logs.Stdout), 0o644)
	}
}

// usesSeamark reports whether Seamark plays any part in the lab.
func usesSeamark() bool {
	o := cluster.Options()
	return o.Proxy == lab.Seamark || o.DNS == lab.Seamark || o.LB == lab.Seamark
}
