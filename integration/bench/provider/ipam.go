package provider

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/benchmark/parse"

	"github.com/seamark-io/seamark/integration/bench"
)

const (
	// allocateBenchmark is the benchmark of provider/ipam that takes one address of a pool of 64k, and gives it back. It has
	// a part for each level to which the pool was filled before, called 64k_LEVEL; levelEmpty is one of them.
	allocateBenchmark = "^BenchmarkAllocate$/^64k_"
	levelEmpty        = "empty"
	// allocateRuns is how often each part is run. The fastest run counts: what else the machine does only makes it slower.
	allocateRuns = 5

	allocateAtMost = 10 // µs
	// growthAtMost is by what factor an allocation may take longer than in an empty pool, in the same run. One that looked
	// at every address in use would take thousands of times as long; what stays below two are the processor's caches.
	growthAtMost = 2
)

// allocation measures an allocation without a cluster.
func allocation(ctx context.Context, source string) ([]bench.Figure, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+allocateBenchmark, fmt.Sprintf("-count=%d", allocateRuns), "./provider/ipam")
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return allocationFigures(string(out))
}

// allocateName is the name of a part of the benchmark, with GOMAXPROCS unless that is 1.
var allocateName = regexp.MustCompile(`^BenchmarkAllocate/64k_(.+?)(-\d+)?$`)

// allocationFigures reads the output of go test.
func allocationFigures(out string) ([]bench.Figure, error) {
	runs := make(map[string][]float64) // µs by level
	var levels []string                // in the order of the output
	for line := range strings.Lines(out) {
		result, err := parse.ParseLine(line)
		if err != nil {
			continue // not of a benchmark
		}
		if name := allocateName.FindStringSubmatch(result.Name); name != nil {
			level := name[1]
			if runs[level] == nil {
				levels = append(levels, level)
			}
			runs[level] = append(runs[level], result.NsPerOp/1000)
		}
	}
	if !slices.Contains(levels, levelEmpty) || len(levels) < 2 {
		return nil, fmt.Errorf("the benchmarks %s of provider/ipam must have a part %q and one of a fuller pool; they have: %q", allocateBenchmark, levelEmpty, levels)
	}
	var figures []bench.Figure
	longest := 0.0
	for _, level := range levels {
		took := slices.Min(runs[level])
		longest = max(longest, took)
		figures = append(figures, bench.Figure{
			Name: "one allocation, pool of 64k " + strings.ReplaceAll(level, "_", " "), Value: took, Unit: "µs", AtMost: allocateAtMost,
		})
	}
	return append(figures, bench.Figure{
		Name: "growth with use: the longest of these by that in an empty pool", Value: longest / slices.Min(runs[levelEmpty]), Unit: "×", AtMost: growthAtMost,
	}), nil
}
