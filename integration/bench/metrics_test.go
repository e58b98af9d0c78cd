package bench

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const metricsBefore = `# HELP apiserver_request_total Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="services",subresource="status",verb="PATCH"} 5
apiserver_request_total{code="201",resource="events",subresource="",verb="POST"} 2
`

const metricsNow = `# HELP apiserver_request_total Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="services",subresource="status",verb="PATCH"} 25
apiserver_request_total{code="409",resource="services",subresource="status",verb="PATCH"} 1
apiserver_request_total{code="201",resource="vips",subresource="",verb="POST"} 10
apiserver_request_total{code="201",resource="events",subresource="",verb="POST"} 2
# HELP workqueue_work_duration_seconds How long in seconds processing an item from workqueue takes.
# TYPE workqueue_work_duration_seconds histogram
workqueue_work_duration_seconds_bucket{name="service",le="0.1"} 1
workqueue_work_duration_seconds_bucket{name="service",le="+Inf"} 4
workqueue_work_duration_seconds_sum{name="service"} 2
workqueue_work_duration_seconds_count{name="service"} 4
`

func parse(t *testing.T, text string) Metrics {
	t.Helper()
	m, err := ParseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAdded(t *testing.T) {
	before, now := parse(t, metricsBefore), parse(t, metricsNow)
	for _, tt := range []struct {
		metric string
		labels []string
		want   []Total
	}{
		{"apiserver_request_total", []string{"verb", "resource"}, []Total{
			{Labels: []string{"PATCH", "services"}, Count: 21},
			{Labels: []string{"POST", "vips"}, Count: 10},
		}},
		{"apiserver_request_total", []string{"code"}, []Total{
			{Labels: []string{"200"}, Count: 20},
			{Labels: []string{"201"}, Count: 10},
			{Labels: []string{"409"}, Count: 1},
		}},
		{"apiserver_request_total", nil, []Total{{Labels: []string{}, Count: 31}}},
		{"apiserver_request_total", []string{"absent"}, []Total{{Labels: []string{""}, Count: 31}}},
		{"workqueue_work_duration_seconds", []string{"name"}, []Total{{Labels: []string{"service"}, Count: 4, Sum: 2}}},
		{"absent", []string{"name"}, nil},
	} {
		got := Added(before.Totals(tt.metric, tt.labels...), now.Totals(tt.metric, tt.labels...))
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s by %q (-want +got):\n%s", tt.metric, tt.labels, diff)
		}
	}
}

func TestMean(t *testing.T) {
	if got := (Total{Count: 4, Sum: 2}).Mean(); got != 0.5 {
		t.Errorf("mean of 4 that sum up to 2: %v", got)
	}
	if got := (Total{}).Mean(); got != 0 {
		t.Errorf("mean of nothing: %v", got)
	}
}

func TestParseMetricsRejects(t *testing.T) {
	if _, err := ParseMetrics(strings.NewReader("<html>not found</html>\n")); err == nil {
		t.Error("a page that is no metrics was read")
	}
}
