package bench

import "testing"

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[len(hundred)-1-i] = float64(i + 1) // not in order
	}
	for _, tt := range []struct {
		name    string
		samples []float64
		p, want float64
	}{
		{"none", nil, 50, 0},
		{"one", []float64{7}, 1, 7},
		{"one, the last", []float64{7}, 100, 7},
		{"median of an even number is the lower", []float64{4, 1, 3, 2}, 50, 2},
		{"median of an odd number", []float64{5, 1, 3}, 50, 3},
		{"p90 of a hundred", hundred, 90, 90},
		{"p99 of a hundred", hundred, 99, 99},
		{"p99 of few is the largest", []float64{1, 2, 3}, 99, 3},
		{"all", hundred, 100, 100},
	} {
		if got := Percentile(tt.samples, tt.p); got != tt.want {
			t.Errorf("%s: p%v is %v, want %v", tt.name, tt.p, got, tt.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the samples were sorted in place")
	}
}
