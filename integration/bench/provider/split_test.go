package provider

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seamark-io/seamark/integration/bench"
)

const apiServerBefore = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="services",subresource="status",verb="PATCH"} 7
apiserver_request_total{code="200",resource="services",subresource="",verb="WATCH"} 1
`

const apiServerAfter = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="services",subresource="status",verb="PATCH"} 307
apiserver_request_total{code="409",resource="services",subresource="status",verb="PATCH"} 2
apiserver_request_total{code="201",resource="vips",subresource="",verb="POST"} 100
apiserver_request_total{code="200",resource="vips",subresource="",verb="GET"} 50
apiserver_request_total{code="200",resource="nodes",subresource="status",verb="PATCH"} 0.5
apiserver_request_total{code="200",resource="services",subresource="",verb="WATCH"} 90
# TYPE apiserver_request_duration_seconds histogram
apiserver_request_duration_seconds_bucket{resource="vips",subresource="",verb="POST",le="+Inf"} 100
apiserver_request_duration_seconds_sum{resource="vips",subresource="",verb="POST"} 0.5
apiserver_request_duration_seconds_count{resource="vips",subresource="",verb="POST"} 100
apiserver_request_duration_seconds_bucket{resource="services",subresource="",verb="POST",le="+Inf"} 100
apiserver_request_duration_seconds_sum{resource="services",subresource="",verb="POST"} 0.8
apiserver_request_duration_seconds_count{resource="services",subresource="",verb="POST"} 100
apiserver_request_duration_seconds_bucket{resource="services",subresource="status",verb="PATCH",le="+Inf"} 100
apiserver_request_duration_seconds_sum{resource="services",subresource="status",verb="PATCH"} 0.4
apiserver_request_duration_seconds_count{resource="services",subresource="status",verb="PATCH"} 100
# TYPE apiserver_watch_events_total counter
apiserver_watch_events_total{group="",resource="services",version="v1"} 2500
apiserver_watch_events_total{group="seamark.io",resource="vips",version="v1alpha1"} 600
`

const controllerAfter = `# TYPE workqueue_work_duration_seconds histogram
workqueue_work_duration_seconds_bucket{name="service",le="+Inf"} 200
workqueue_work_duration_seconds_sum{name="service"} 1
workqueue_work_duration_seconds_count{name="service"} 200
# TYPE workqueue_queue_duration_seconds histogram
workqueue_queue_duration_seconds_bucket{name="service",le="+Inf"} 200
workqueue_queue_duration_seconds_sum{name="service"} 0.02
workqueue_queue_duration_seconds_count{name="service"} 200
# TYPE seamark_allocation_decision_seconds histogram
seamark_allocation_decision_seconds_bucket{le="+Inf"} 100
seamark_allocation_decision_seconds_sum 0.005
seamark_allocation_decision_seconds_count 100
# TYPE seamark_allocation_write_seconds histogram
seamark_allocation_write_seconds_bucket{le="+Inf"} 100
seamark_allocation_write_seconds_sum 0.7
seamark_allocation_write_seconds_count 100
# TYPE rest_client_request_duration_seconds histogram
rest_client_request_duration_seconds_bucket{host="h",verb="POST",le="+Inf"} 100
rest_client_request_duration_seconds_sum{host="h",verb="POST"} 0.6
rest_client_request_duration_seconds_count{host="h",verb="POST"} 100
`

func metrics(t *testing.T, text string) bench.Metrics {
	t.Helper()
	m, err := bench.ParseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSplit(t *testing.T) {
	s := split{
		of: "100 Services at once", services: 100,
		before: counters{apiServer: metrics(t, apiServerBefore), controller: bench.Metrics{}},
		after:  counters{apiServer: metrics(t, apiServerAfter), controller: metrics(t, controllerAfter)},
	}
	for _, tt := range []struct {
		table bench.Table
		title string
		want  [][]string
	}{
		{s.requests(), "100 Services at once: requests to the API server", [][]string{
			{"PATCH services/status", "3.02", "4.00 ms", "300 × 200, 2 × 409"},
			{"POST vips", "1.00", "5.00 ms", "100 × 201"},
			{"GET vips", "0.500", "", "50 × 200"},
			{"all writes", "4.02", "", ""},
		}},
		{s.events(), "100 Services at once: watch events", [][]string{{"services", "25.0"}, {"vips", "6.00"}}},
		{s.controller(), "100 Services at once: the controller by its own metrics", [][]string{
			{"queue service", "2.00", "5.00 ms", "0.100 ms"},
			{"POST", "1.00", "6.00 ms", ""},
		}},
	} {
		if tt.table.Title != tt.title {
			t.Errorf("title %q, want %q", tt.table.Title, tt.title)
		}
		if diff := cmp.Diff(tt.want, tt.table.Rows); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.title, diff)
		}
		for _, row := range tt.table.Rows {
			if len(row) != len(tt.table.Columns) {
				t.Errorf("%s: row %q does not have the columns %q", tt.title, row, tt.table.Columns)
			}
		}
	}
}

// A Service takes 30 ms: 8 for the call, 4 for the write of the status, 0.1 in the queue, and of 10 of work 7 are waiting.
func TestPhases(t *testing.T) {
	s := split{
		of: "100 Services, one at a time", services: 100,
		before: counters{apiServer: metrics(t, apiServerBefore), controller: bench.Metrics{}},
		after:  counters{apiServer: metrics(t, apiServerAfter), controller: metrics(t, controllerAfter)},
	}
	p := s.phases(30)
	want := [][]string{
		{"create → address in status", "30.0 ms", ""},
		{"**API writes**", "12.0 ms", "40 %"},
		{"POST services", "8.00 ms", ""},
		{"PATCH services/status", "4.00 ms", ""},
		{"**our time**", "3.10 ms", "10 %"},
		{"waiting in the controller's queue", "0.100 ms", ""},
		{"the controller's work, without waiting for the API server", "3.00 ms", ""},
		{"of that, deciding", "0.050 ms", ""},
		{"**watches and HTTP**", "14.9 ms", "50 %"},
		{"beside it: POST vips", "5.00 ms", ""},
		{"the controller's waiting for both writes", "7.00 ms", ""},
	}
	if diff := cmp.Diff(want, p.table("").Rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if sum := p.writes() + p.ours() + p.watch(); sum < 29.99 || sum > 30.01 {
		t.Errorf("the parts are %.2f ms, the whole 30", sum)
	}
}

func TestWrites(t *testing.T) {
	before, after := counters{apiServer: metrics(t, apiServerBefore)}, counters{apiServer: metrics(t, apiServerAfter)}
	got := writesTable([]split{{"100 at once", 100, before, after}, {"nothing", 1, before, before}, {"200 at once", 200, before, after}})
	want := [][]string{
		{"PATCH services/status", "controller: address, condition, finalizer", "3.02", "0", "1.51"},
		{"POST vips", "controller: the lock and the record", "1.00", "0", "0.500"},
		{"others, not because of a Service", "", "0.005", "0", "0.003"},
		{"all", "", "4.02", "0", "2.01"},
	}
	if diff := cmp.Diff(want, got.Rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"write", "by", "100 at once", "nothing", "200 at once"}, got.Columns); diff != "" {
		t.Error(diff)
	}
}
