package liveness

import (
	"testing"
	"time"
)

// Three members become five, and node0 neither hears of that from the API nor hears any node but node2, which does. All others go by
// the five by then, as node2 tells it. node0 must not take for granted that they still go by the three, as it heard last.
func TestRetiredOnStaleEvidence(t *testing.T) {
	for _, tt := range []struct {
		name string
		// first are the nodes that know of the five before node0 is cut off.
		first []int
		// stopped is for how long node0 is stopped when it is cut off.
		stopped time.Duration
	}{
		{"node0 learns of the five when it is cut off", nil, 0},
		{"node0 knew of the five, and that nobody went by them", []int{2, 4}, 0},
		{"node0 was stopped", nil, 700 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1, 5, 6, Fence)
			if testing.Verbose() && *simSeed != 0 {
				w.log = t.Logf
			}
			for _, n := range w.nodes {
				n.members = w.all()[:3]
				if n.index < 4 { // node3's agent runs before it is a member
					n.start()
				}
			}
			five := func(i int) {
				if w.nodes[i].m == nil {
					w.nodes[i].members = w.all()
					w.nodes[i].start()
				}
				w.nodes[i].api(w.all(), 1)
			}
			w.run(time.Second)
			w.mustHold(t, "three")
			for _, i := range tt.first {
				five(i)
			}
			w.run(2 * time.Second)
			if tt.stopped > 0 {
				w.nodes[0].pause(tt.stopped)
			}
			for _, i := range []int{1, 3, 4} {
				w.cutOff(0, i, true)
				w.cutOff(i, 0, true)
			}
			w.run(2500 * time.Millisecond)
			for _, i := range []int{1, 2, 3, 4} {
				five(i)
			}
			w.run(4 * time.Second)
			w.mustHold(t, "five")
			for _, vip := range w.vips {
				if w.nodes[0].answers(vip) {
					t.Errorf("node0 answers for %s", vip)
				}
			}
		})
	}
}
