package liveness

import (
	"fmt"
	"testing"
	"time"
)

// cluster starts nodes that all know each other.
func cluster(t *testing.T, seed uint64, nodes, vips int) *world {
	t.Helper()
	w := newWorld(seed, nodes, vips, Fence)
	if testing.Verbose() {
		w.log = t.Logf
	}
	for _, n := range w.nodes {
		n.members = w.all()
		w.after(time.Duration(w.rand.IntN(100))*time.Millisecond, n.start)
	}
	return w
}

func (w *world) mustHold(t *testing.T, what string) {
	t.Helper()
	for _, v := range w.violations {
		t.Fatalf("%s: %s", what, v)
	}
	for _, vip := range w.vips {
		if o := w.owners(vip); len(o) != 1 {
			t.Fatalf("%s: %v: %s is answered for by %v", what, time.Duration(w.now), vip, o)
		}
	}
}

// Addresses are held soon after the start, by the nodes that elect says.
func TestStart(t *testing.T) {
	for _, nodes := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			w := cluster(t, 1, nodes, 6)
			w.run(600 * time.Millisecond)
			w.mustHold(t, "started")
		})
	}
}
