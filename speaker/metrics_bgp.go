package speaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/speaker/bgp"
)

// bgpMetrics is a prometheus.Collector of the sessions: all is read from the driver when it is asked.
type bgpMetrics struct {
	driver *bgp.Speaker

	up, since, sent, received, updates, messages, failures *prometheus.Desc
}

func newBGPMetrics(driver *bgp.Speaker) *bgpMetrics {
	const counted = "Counted from 0 again when the session's parameters change, when BFD ends it, and after the pause for too many routes."
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("seamark_bgp_"+name, help, append([]string{"peer"}, labels...), nil)
	}
	return &bgpMetrics{
		driver:   driver,
		up:       desc("session_up", "1 when the session with the BGPPeer is established."),
		since:    desc("session_changed_timestamp_seconds", "When the session was established or lost."),
		sent:     desc("prefixes_sent", "Routes that the router has from this node."),
		received: desc("prefixes_received", "Routes that the router sent, which are not used.", "family"),
		updates:  desc("updates_total", "UPDATE messages. "+counted, "direction"),
		messages: desc("messages_total", "BGP messages. "+counted, "direction"),
		failures: desc("failures_total", "Sessions lost and attempts that failed.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (m *bgpMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.since, m.sent, m.received, m.updates, m.messages, m.failures} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *bgpMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, s := range m.driver.Status() {
		up := 0.0
		if s.Established() {
			up = 1
		}
		gauge(m.up, up, s.Peer)
		gauge(m.since, float64(s.Since.UnixMilli())/1000, s.Peer)
		gauge(m.sent, float64(s.PrefixesSent), s.Peer)
	}
	for peer, failures := range m.driver.Failures() {
		for f, n := range failures {
			counter(m.failures, n, peer, string(f))
		}
	}
	for _, t := range m.driver.Traffic() {
		counter(m.updates, t.UpdatesSent, t.Peer, "sent")
		counter(m.updates, t.UpdatesReceived, t.Peer, "received")
		counter(m.messages, t.MessagesSent, t.Peer, "sent")
		counter(m.messages, t.MessagesReceived, t.Peer, "received")
		gauge(m.received, float64(t.Prefixes4), t.Peer, "ipv4")
		gauge(m.received, float64(t.Prefixes6), t.Peer, "ipv6")
	}
}
