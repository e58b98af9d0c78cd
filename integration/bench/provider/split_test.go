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
			{"PATCH services/status", "3.02", "", "300 × 200, 2 × 409"},
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
