package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func report() Report {
	return Report{
		Title:   "The provider: giving out addresses",
		Command: "bin/bench provider --out report.md",
		Environment: Environment{
			Date: time.Date(2026, 11, 21, 4, 5, 6, 0, time.UTC), Commit: "0123abc", CPU: "Example CPU @ 2.0GHz", Cores: 2,
			Memory: 24 << 30, Kernel: "6.18.0", Go: "go1.26.8", Load: 0.42,
		},
		Figures: []Figure{
			{Name: "one allocation", Value: 0.9, Unit: "µs", AtMost: 10},
			{Name: "1000 Services at once: until all have an address", Value: 12.34, Unit: "s", AtMost: 10},
			{Name: "creating them, without a controller", Value: 2.7, Unit: "s"},
		},
		Tables: []Table{{
			Title: "requests", Note: "Of everything.", Columns: []string{"request", "for each Service", "answers"},
			Rows: [][]string{{"PATCH services/status", "3.00", "3000 × 200"}, {"a|b", "1.00", ""}},
		}},
		Samples: Samples{Columns: []string{"created_ms", "status_ms"}, Rows: [][]float64{{1.25, 10}, {2, 20.0005}}},
	}
}

// A report is saved as files beside each other, and printed, as in testdata.
func TestSave(t *testing.T) {
	dir := t.TempDir()
	if err := report().Save(filepath.Join(dir, "report.md")); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := report().WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.txt"), []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.md", "report.json", "report.csv", "report.txt"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReportJSON(t *testing.T) {
	var text strings.Builder
	if err := report().WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatal(err)
	}
	want := report()
	want.Samples = Samples{} // not part of it
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReportErr(t *testing.T) {
	r := report()
	err := r.Err()
	if !errors.Is(err, ErrMissed) || !strings.Contains(err.Error(), "1000 Services at once") || strings.Contains(err.Error(), "one allocation") {
		t.Errorf("one of three figures misses its target, but the error is: %v", err)
	}
	r.Figures[1].Value = 9
	if err := r.Err(); err != nil {
		t.Errorf("all targets are met, but there is an error: %v", err)
	}
}

func TestNamedSamples(t *testing.T) {
	var got strings.Builder
	s := Samples{Columns: []string{"measurement", "ms"}, Names: []string{"one", "other"}, Rows: [][]float64{{1}, {2.5}}}
	if err := s.WriteCSV(&got); err != nil || got.String() != "measurement,ms\none,1.000\nother,2.500\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
}
