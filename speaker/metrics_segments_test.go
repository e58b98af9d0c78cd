package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/segments"
)

// What happens on a segment is told under names and in units that Prometheus' users expect.
func TestSegmentMetrics(t *testing.T) {
	var stats segment.Stats
	stats.Sent = 7
	stats.Delays.Counts[0], stats.Delays.Counts[1], stats.Delays.Counts[len(segment.DelayBounds)] = 5, 2, 1
	stats.Delays.Sum = 1500 * time.Millisecond
	reg := prometheus.NewRegistry()
	reg.MustRegister(newSegmentMetrics(fixedSegments{segments.Status{
		Subnet: netip.MustParsePrefix("10.0.0.0/24"), Interface: "eth0", View: &liveness.View{Majority: true}, Stats: stats,
	}}))
	const want = `
# HELP seamark_speaker_heartbeat_delay_seconds By how much later than at its instant something was done on the segment. Beyond half of the detection time the node is close to being given up.
# TYPE seamark_speaker_heartbeat_delay_seconds histogram
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.00025"} 5
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.001"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.005"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.01"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.025"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.05"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.1"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="0.25"} 7
seamark_speaker_heartbeat_delay_seconds_bucket{interface="eth0",segment="10.0.0.0/24",le="+Inf"} 8
seamark_speaker_heartbeat_delay_seconds_sum{interface="eth0",segment="10.0.0.0/24"} 1.5
seamark_speaker_heartbeat_delay_seconds_count{interface="eth0",segment="10.0.0.0/24"} 8
# HELP seamark_speaker_heartbeat_thread_info How the kernel schedules the thread that sends heartbeats: SCHED_OTHER is late on a busy node.
# TYPE seamark_speaker_heartbeat_thread_info gauge
seamark_speaker_heartbeat_thread_info{policy="SCHED_RR"} 1
# HELP seamark_speaker_heartbeats_sent_total Heartbeats sent.
# TYPE seamark_speaker_heartbeats_sent_total counter
seamark_speaker_heartbeats_sent_total{interface="eth0",segment="10.0.0.0/24"} 7
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "seamark_speaker_heartbeat_delay_seconds",
		"seamark_speaker_heartbeat_thread_info", "seamark_speaker_heartbeats_sent_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// fixedSegments is a driver whose segments do not change.
type fixedSegments []segments.Status

func (f fixedSegments) Status() []segments.Status { return f }
func (f fixedSegments) Policy() string            { return "SCHED_RR" }
