package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// A node loses its link: with BFD the router sends nothing by way of it any more long before the session's hold time of 90
// seconds is over, and the sessions of the other nodes stay as they are.
func TestBFD(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(2)
	vip := vips(svc)[0]
	r := on(t, router)
	routed(t, vip, allNodes()...)
	setBFD(contextOf(t), t, `{}`)
	putBack(t, func(ctx context.Context) { setBFD(ctx, t, "null") })
	await(t, changeLimit, "the BFD sessions of all nodes are up", func(ctx context.Context) error { return r.bfdUp(ctx, allNodes()...) })
	before := established(t)

	lost := allNodes()[0]
	rest := allNodes()[1:]
	if err := cluster.Cut(contextOf(t), lost); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) { _ = cluster.Heal(ctx, lost) })
	routed(t, vip, rest...)
	if err := cluster.Heal(contextOf(t), lost); err != nil {
		t.Fatal(err)
	}
	await(t, 2*podLimit, "the BFD sessions of all nodes are up again", func(ctx context.Context) error { return r.bfdUp(ctx, allNodes()...) })
	awaitHealthy(t)
	routed(t, vip, allNodes()...)
	now := established(t)
	for _, node := range rest {
		if now[node] != before[node] {
			t.Errorf("the BGP session of %s was established %s, and then %s", node, before[node], now[node])
		}
	}

	// Router and nodes forget BFD. This BIRD takes that for a failure, others do not, so sessions may begin anew.
	setBFD(contextOf(t), t, "null")
	await(t, changeLimit, "no node has a BFD session", func(ctx context.Context) error { return r.bfdUp(ctx) })
	awaitHealthy(t)
	routed(t, vip, allNodes()...)
}

// setBFD sets the router's spec.bfd.
func setBFD(ctx context.Context, t *testing.T, bfd string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec": {"bfd": %s}}`, bfd)
	if _, err := resource("bgppeers").Patch(ctx, router, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// routerNodes returns what each node says of its session with the router.
func routerNodes(ctx context.Context) (map[string]map[string]any, error) {
	o, err := resource("bgppeers").Get(ctx, router, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, _, err := unstructured.NestedSlice(o.Object, "status", "nodes")
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]any{}
	for _, n := range list {
		if n, ok := n.(map[string]any); ok {
			out[fmt.Sprint(n["node"])] = n
		}
	}
	return out, nil
}

// bfdUp returns nil if the BFD sessions with this router of these nodes, and of no others, are up: on both sides.
func (h host) bfdUp(ctx context.Context, nodes ...string) error {
	status, err := routerNodes(ctx)
	if err != nil {
		return err
	}
	var up []string
	for _, node := range allNodes() {
		switch s := status[node]["bfd"]; s {
		case "Up (3 x 50ms)": // as agreed, on both sides
			up = append(up, node)
		case nil, "":
		default:
			err = errors.Join(err, fmt.Errorf("%s: BFD is %v", node, s))
		}
	}
	out, execErr := h.Exec(ctx, "birdc", "show", "bfd", "sessions")
	var routersUp []string
	for line := range strings.Lines(out.Stdout) {
		if words := strings.Fields(line); len(words) > 2 && words[2] == "Up" {
			routersUp = append(routersUp, nodeOf(words[0]))
		}
	}
	slices.Sort(routersUp)
	return errors.Join(err, execErr, sameSet(up, nodes), sameSet(routersUp, nodes))
}

// established returns since when each node has had its session with the router.
func established(t *testing.T) map[string]string {
	t.Helper()
	status, err := routerNodes(contextOf(t))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for node, s := range status {
		out[node] = fmt.Sprint(s["since"])
	}
	return out
}
