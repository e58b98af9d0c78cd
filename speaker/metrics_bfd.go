package speaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/speaker/bfd"
	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

// bfdMetrics is a prometheus.Collector of the BFD sessions: all is read from the driver when it is asked.
type bfdMetrics struct {
	driver *bfd.Speaker

	up, downs, detection, packets, sendErrors, dropped *prometheus.Desc
}

func newBFDMetrics(driver *bfd.Speaker) *bfdMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("seamark_bfd_"+name, help, labels, nil)
	}
	return &bfdMetrics{
		driver:     driver,
		up:         desc("session_up", "1 when the BFD session with the router is up.", "router"),
		downs:      desc("session_downs_total", "How often the session went down after it was up, but for administrative reasons.", "router"),
		detection:  desc("session_detection_seconds", "How long the router may be silent; 0 while it is not heard.", "router"),
		packets:    desc("packets_total", "BFD packets of all sessions.", "direction"),
		sendErrors: desc("send_errors_total", "BFD packets that the kernel did not take."),
		dropped:    desc("packets_dropped_total", "BFD packets that no session took.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (m *bfdMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.downs, m.detection, m.packets, m.sendErrors, m.dropped} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *bfdMetrics) Collect(ch chan<- prometheus.Metric) {
	give := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	for _, st := range m.driver.Status() {
		router, up := routerOf(st.Session).String(), 0.0
		if st.State == packet.Up {
			up = 1
		}
		give(m.up, prometheus.GaugeValue, up, router)
		give(m.downs, prometheus.CounterValue, float64(st.Downs), router)
		give(m.detection, prometheus.GaugeValue, st.DetectionTime.Seconds(), router)
	}
	s := m.driver.Stats()
	give(m.packets, prometheus.CounterValue, float64(s.Sent), "sent")
	give(m.packets, prometheus.CounterValue, float64(s.Received), "received")
	give(m.sendErrors, prometheus.CounterValue, float64(s.SendErrors))
	for v, n := range s.Dropped {
		if verdict := packet.Verdict(v); verdict != packet.Accepted {
			give(m.dropped, prometheus.CounterValue, float64(n), verdict.String())
		}
	}
}
