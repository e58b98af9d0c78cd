package liveness

import "testing"

// A seed says all that happens, so one that fails can be looked at: two runs have the same trace, and those of other seeds differ.
func TestReplay(t *testing.T) {
	for name, run := range map[string]func(seed uint64) *world{
		"faults":           func(seed uint64) *world { return scenario(seed, mutant{}, nil) },
		"changing members": func(seed uint64) *world { return changing(seed, mutant{}, nil) },
		"lock":             func(seed uint64) *world { return halves(seed, true, nil) },
		"serve":            func(seed uint64) *world { return serving(seed, nil) },
		"large":            func(seed uint64) *world { return large(seed, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			traces := map[uint64]uint64{}
			for seed := uint64(1); seed <= 2*longSeeds; seed++ {
				if name == "large" && seed > 3 {
					break
				}
				first, again := run(seed), run(seed)
				if first.trace != again.trace || first.now != again.now || first.count != again.count {
					t.Errorf("seed %d: the trace is %x at first and %x when it is run again", seed, first.trace, again.trace)
				}
				if other, ok := traces[first.trace]; ok {
					t.Errorf("seeds %d and %d have the same trace", other, seed)
				}
				traces[first.trace] = seed
			}
		})
	}
}
