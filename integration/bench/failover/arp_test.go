package failover

import "testing"

func TestRunsOf(t *testing.T) {
	got, err := runsOf(`goos: linux
cpu: Example CPU
BenchmarkAnswer_10000_VIPs_10000_requests_a_second/kernel-2   	   50000	    100012 ns/op	       100.0 %answered	       90.0 max-µs	        4.00 p50-µs	       31.0 p99-µs
BenchmarkAnswer_10000_VIPs_10000_requests_a_second/seamark-2   	   50000	    100012 ns/op	       100.0 %answered	       900.0 max-µs	        41.00 p50-µs	       310.0 p99-µs
BenchmarkAnswer_10000_VIPs_10000_requests_a_second/seamark-2   	   50000	    100012 ns/op	        99.9 %answered	       700.0 max-µs	        43.00 p50-µs	       150.0 p99-µs
PASS
`, "seamark")
	if err != nil || len(got) != 2 || got[0]["p99-µs"] != 310 || got[1]["p99-µs"] != 150 || got[1]["p50-µs"] != 43 || got[1]["%answered"] != 99.9 {
		t.Errorf("%v, %v", got, err)
	}
	for _, out := range []string{"PASS\n", "BenchmarkOther/seamark-2 1 5 ns/op\n", "BenchmarkAnswer/kernel-2 1 5 ns/op 1 p99-µs\n"} {
		if got, err := runsOf(out, "seamark"); err == nil {
			t.Errorf("%q: %v", out, got)
		}
	}
}
