package failover

import (
	"testing"

	"github.com/seamark-io/seamark/integration/probe"
)

// One fault of many that is not as it should be misses a target.
func TestObserved(t *testing.T) {
	good := observation{asked: 400, answers: 390, moves: make([]probe.Move, 1)}
	for name, tt := range map[string]struct {
		bad    observation
		missed []bool
	}{
		"nothing":                  {good, []bool{false, false, false}},
		"it came back":             {observation{asked: 400, answers: 400, moves: make([]probe.Move, 2)}, []bool{false, false, false}},
		"announcements as well":    {observation{asked: 400, answers: 420, moves: make([]probe.Move, 1)}, []bool{false, false, false}},
		"it moved on":              {observation{asked: 400, answers: 400, moves: make([]probe.Move, 3)}, []bool{false, true, false}},
		"two owners":               {observation{asked: 400, answers: 400, moves: make([]probe.Move, 2), overlaps: make([]probe.Overlap, 1)}, []bool{true, false, false}},
		"nobody answered":          {observation{asked: 400}, []bool{false, false, true}},
		"nobody answered for long": {observation{asked: 400, answers: 250}, []bool{false, false, true}},
		"nobody was asked":         {observation{}, []bool{false, false, true}},
	} {
		for i, f := range observed("a fault", []observation{good, tt.bad, good}, thereAndBack) {
			if f.Missed() != tt.missed[i] {
				t.Errorf("%s: %s is %v: missed is %t", name, f.Name, f.Value, f.Missed())
			}
		}
	}
}
