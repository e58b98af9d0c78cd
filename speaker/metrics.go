package speaker

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/speaker/l2"
	"github.com/seamark-io/seamark/speaker/l2/respond"
	"github.com/seamark-io/seamark/speaker/plan"
)

// metrics is a prometheus.Collector: most of what it tells is read from the drivers when it is asked.
type metrics struct {
	l2 layer2

	duration prometheus.Histogram
	errors   *prometheus.CounterVec

	vips, requests, replies, gratuitous, dropped, sendErrors, duplicates, defences *prometheus.Desc

	mu        sync.Mutex
	announced map[plan.Via]int
}

// layer2 is what metrics read of a l2.Speaker.
type layer2 interface {
	Stats() (arp, ndp l2.Stats)
	Duplicates() []l2.Duplicate
	Defences() uint64
}

func newMetrics(frames layer2) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("seamark_speaker_"+name, help, labels, nil)
	}
	return &metrics{
		l2: frames,
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "seamark_speaker_sync_duration_seconds", Help: "Time to plan and make all announcements.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seamark_speaker_sync_errors_total", Help: "Runs in which a driver could not do everything.",
		}, []string{"driver"}),
		vips:       desc("announced_vips", "VIPs that this node is to announce.", "via"),
		requests:   desc("requests_total", "ARP requests and neighbor solicitations for VIPs that this node owns.", "protocol"),
		replies:    desc("replies_total", "Answers to them.", "protocol"),
		gratuitous: desc("gratuitous_sent_total", "Gratuitous ARP frames and unsolicited neighbor advertisements sent.", "protocol"),
		dropped:    desc("frames_dropped_total", "ARP and neighbor discovery frames that were not answered.", "protocol", "reason"),
		sendErrors: desc("send_errors_total", "Frames that the kernel did not take.", "protocol"),
		duplicates: desc("duplicate_addresses", "VIPs of this node that a station uses which is none of the cluster's."),
		defences:   desc("defences_total", "Announcements against such stations."),
		announced:  map[plan.Via]int{},
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.vips, m.requests, m.replies, m.gratuitous, m.dropped, m.sendErrors, m.duplicates, m.defences} {
		ch <- d
	}
	m.duration.Describe(ch)
	m.errors.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.duration.Collect(ch)
	m.errors.Collect(ch)
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(m.duplicates, len(m.l2.Duplicates()))
	counter(m.defences, m.l2.Defences())
	arp, ndp := m.l2.Stats()
	for protocol, s := range map[string]l2.Stats{"arp": arp, "ndp": ndp} {
		counter(m.requests, s.Requests, protocol)
		counter(m.replies, s.Replies, protocol)
		counter(m.gratuitous, s.Gratuitous, protocol)
		counter(m.sendErrors, s.SendErrors, protocol)
		for v, n := range s.Dropped {
			if verdict := respond.Verdict(v); verdict != respond.Answer {
				counter(m.dropped, n, protocol, verdict.String())
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, via := range []plan.Via{plan.ARP, plan.NDP, plan.BGPRoute} {
		gauge(m.vips, m.announced[via], strings.ToLower(string(via)))
	}
}

func (m *metrics) observe(p plan.Plan, took time.Duration) {
	m.duration.Observe(took.Seconds())
	announced := map[plan.Via]int{}
	for _, d := range p.Decisions {
		for _, w := range d.Ways {
			if w.Announced {
				announced[w.Via]++
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.announced = announced
}
