package provider

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

const goTest = `goos: linux
goarch: amd64
pkg: github.com/seamark-io/seamark/provider/ipam
cpu: Example CPU
BenchmarkAllocate/64k_empty-2         	 1518442	       790.0 ns/op	     168 B/op	       6 allocs/op
BenchmarkAllocate/64k_empty-2         	 1484653	       815.0 ns/op	     168 B/op	       6 allocs/op
BenchmarkAllocate/64k_99_percent-2    	 1000000	      1185.0 ns/op	     168 B/op	       6 allocs/op
BenchmarkAllocate/64k_99_percent-2    	 1235851	      9850.0 ns/op	     168 B/op	       6 allocs/op
BenchmarkAllocate/IPv6_64_with_64k-2  	 1000000	     99999.0 ns/op	     168 B/op	       6 allocs/op
PASS
ok  	github.com/seamark-io/seamark/provider/ipam	15.753s
`

func TestAllocationFigures(t *testing.T) {
	for _, tt := range []struct {
		name, out string
		want      string // NAME VALUE VERDICT, …
	}{
		{"the fastest run of each level counts", goTest,
			"pool of 64k empty 0.79 met, pool of 64k 99 percent 1.185 met, growth 1.5 met"},
		{"without GOMAXPROCS in the names", strings.ReplaceAll(goTest, "-2 ", " "),
			"pool of 64k empty 0.79 met, pool of 64k 99 percent 1.185 met, growth 1.5 met"},
		{"growing with use", strings.ReplaceAll(goTest, "1185.0", "2370.0"),
			"pool of 64k empty 0.79 met, pool of 64k 99 percent 2.37 met, growth 3 MISSED"},
		{"slow", strings.NewReplacer("1185.0", "10100.0", "9850.0", "10001.0", "790.0", "8000.0", "815.0", "7900.0").Replace(goTest),
			"pool of 64k empty 7.9 met, pool of 64k 99 percent 10.001 MISSED, growth 1.266 met"},
		{"no level but empty", strings.ReplaceAll(goTest, "64k_99_percent", "1M_99_percent"), ""},
		{"no empty pool", strings.ReplaceAll(goTest, "64k_empty", "64k_half"), ""},
		{"nothing", "PASS\n", ""},
	} {
		figures, err := allocationFigures(tt.out)
		if (err != nil) != (tt.want == "") {
			t.Errorf("%s: error %v", tt.name, err)
		}
		var got []string
		for _, f := range figures {
			name := strings.TrimPrefix(f.Name, "one allocation, ")
			if strings.HasPrefix(name, "growth") {
				name = "growth"
			}
			got = append(got, fmt.Sprintf("%s %v %s", name, math.Round(f.Value*1000)/1000, f.Verdict()))
		}
		if got := strings.Join(got, ", "); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}
