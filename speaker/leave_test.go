package speaker

import (
	"testing"

	"github.com/seamark-io/seamark/cluster"
)

// Whether the end of an agent is that of its routes.
func TestDrainPolicy(t *testing.T) {
	for name, tt := range map[string]struct {
		node *cluster.Node
		want bool
	}{
		"in service": {&cluster.Node{Ready: true}, false},
		"cordoned":   {&cluster.Node{Ready: true, Unschedulable: true}, true},
		"excluded":   {&cluster.Node{Ready: true, Excluded: true}, true},
		"shuts down": {&cluster.Node{}, true},
		"not known":  {nil, false},
	} {
		if got := DrainAuto.drains(tt.node); got != tt.want {
			t.Errorf("auto, %s: %v", name, got)
		}
		if !DrainAlways.drains(tt.node) || DrainNever.drains(tt.node) {
			t.Errorf("always and never depend on the node that is %s", name)
		}
	}
	if _, err := ParseDrainPolicy("maybe"); err == nil {
		t.Error("maybe is a policy")
	}
}
