package failover

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"slices"
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
	title := fmt.Sprintf("ARP, 10,000 addresses, 10,000 requests a second, best of %d runs: request → answer, ", arpRuns)
	for _, part := range []struct {
		name, title string
		atMost      float64
	}{{"seamark", "", arpP99}, {"kernel", ", by the kernel itself", 0}} {
		runs, err := runsOf(string(out), part.name)
		if err != nil {
			return err
		}
		for i, run := range runs {
			w.sample("arp-"+part.name+"-p50", i, run["p50-µs"]/1000, 0)
			w.sample("arp-"+part.name+"-p99", i, run["p99-µs"]/1000, 0)
		}
		best := slices.MinFunc(runs, func(a, b map[string]float64) int { return cmp.Compare(a["p99-µs"], b["p99-µs"]) })
		w.figure(title+"p50"+part.title, best["p50-µs"], "µs", 0)
		w.figure(title+"p99"+part.title, best["p99-µs"], "µs", part.atMost)
		if part.atMost > 0 {
			w.figure(title+"without an answer", 100-best["%answered"], "%", 0.01)
		}
	}
	return nil
}

// runsOf reads the metrics of a part of a benchmark that was run several times from the output of go test.
func runsOf(out, part string) (runs []map[string]float64, err error) {
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
		if _, ok := metrics["p99-µs"]; ok {
			runs = append(runs, metrics)
		}
	}
	if runs == nil {
		return nil, fmt.Errorf("the benchmark %s of speaker/l2 reports no p99-µs of %s: %s", arpBenchmark, part, out)
	}
	return runs, nil
}
