package speaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
	"github.com/seamark-io/seamark/speaker/segments"
)

// segmentMetrics is a prometheus.Collector of what the segments are like at the moment.
type segmentMetrics struct {
	segments segmentsStatus

	policy *prometheus.Desc

	members, majority, held, heals, sent, sentBytes, sendErrors, received, unused, delay *prometheus.Desc
}

type segmentsStatus interface {
	Status() []segments.Status
	Policy() string
}

func newSegmentMetrics(s segmentsStatus) *segmentMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("seamark_speaker_"+name, help, append([]string{"segment", "interface"}, labels...), nil)
	}
	return &segmentMetrics{
		segments:   s,
		policy:     prometheus.NewDesc("seamark_speaker_heartbeat_thread_info", "How the kernel schedules the thread that sends heartbeats: SCHED_OTHER is late on a busy node.", []string{"policy"}, nil),
		members:    desc("segment_members", "Nodes that are members of the segment, by whether this node takes them for alive.", "alive"),
		majority:   desc("segment_majority", "Whether this node hears, and is heard by, what it takes to hold an address (1) or not (0)."),
		held:       desc("segment_held_vips", "VIPs that this node may answer for on the segment."),
		heals:      desc("segment_heals_total", "Returns of nodes that had been silent."),
		sent:       desc("heartbeats_sent_total", "Heartbeats sent."),
		sentBytes:  desc("heartbeats_sent_bytes_total", "Bytes of heartbeats sent, without Ethernet headers."),
		sendErrors: desc("heartbeat_send_errors_total", "Heartbeats that the kernel did not take."),
		received:   desc("heartbeats_received_total", "Heartbeats received, by what became of them when they were opened.", "result"),
		delay:      desc("heartbeat_delay_seconds", "By how much later than at its instant something was done on the segment. Beyond half of the detection time the node is close to being given up."),
		unused:     desc("heartbeats_dropped_total", "Heartbeats that were authentic and were not used.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (m *segmentMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.members, m.majority, m.held, m.heals, m.sent, m.sentBytes, m.sendErrors, m.received, m.unused, m.delay, m.policy} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *segmentMetrics) Collect(ch chan<- prometheus.Metric) {
	if policy := m.segments.Policy(); policy != "" {
		ch <- prometheus.MustNewConstMetric(m.policy, prometheus.GaugeValue, 1, policy)
	}
	for _, s := range m.segments.Status() {
		give := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{s.Subnet.String(), s.Interface}, labels...)...)
		}
		alive, majority, held := len(s.View.Alive()), 0.0, 0
		if s.View.Majority {
			majority = 1
		}
		for i := range s.View.Addresses {
			if s.View.Addresses[i].State == liveness.Holding {
				held++
			}
		}
		give(m.members, prometheus.GaugeValue, float64(alive), "true")
		give(m.members, prometheus.GaugeValue, float64(len(s.View.Nodes)-alive), "false")
		give(m.majority, prometheus.GaugeValue, majority)
		give(m.held, prometheus.GaugeValue, float64(held))
		give(m.heals, prometheus.CounterValue, float64(s.View.Heals))
		give(m.sent, prometheus.CounterValue, float64(s.Stats.Sent))
		give(m.sentBytes, prometheus.CounterValue, float64(s.Stats.SentBytes))
		give(m.sendErrors, prometheus.CounterValue, float64(s.Stats.SendErrors))
		count, buckets := uint64(0), map[float64]uint64{}
		for i, n := range s.Stats.Delays.Counts {
			count += n
			if i < len(segment.DelayBounds) {
				buckets[segment.DelayBounds[i].Seconds()] = count
			}
		}
		ch <- prometheus.MustNewConstHistogram(m.delay, count, s.Stats.Delays.Sum.Seconds(), buckets, s.Subnet.String(), s.Interface)
		for r, n := range s.Stats.Opened {
			give(m.received, prometheus.CounterValue, float64(n), wire.Result(r).String())
		}
		for d, n := range s.Stats.Dropped {
			if drop := liveness.Drop(d); drop != liveness.Used {
				give(m.unused, prometheus.CounterValue, float64(n), drop.String())
			}
		}
	}
}
