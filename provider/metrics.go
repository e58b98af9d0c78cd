package provider

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/provider/ipam"
)

// metrics are what is counted as it happens; what there is at one moment is collected when somebody asks.
type metrics struct {
	duration  prometheus.Histogram
	decision  prometheus.Histogram
	write     prometheus.Histogram
	conflicts prometheus.Counter

	addresses, waiting *prometheus.Desc
}

func newMetrics() metrics {
	return metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seamark_allocation_duration_seconds",
			Help:    "Time to give a Service its addresses: from the call of the service controller to the last VIP written.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seamark_allocation_decision_seconds",
			Help:    "Time to decide which addresses a Service has, without requests to the API server: calls that made some before the decision was final are left out.",
			Buckets: prometheus.ExponentialBuckets(0.00001, 4, 10),
		}),
		write: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seamark_allocation_write_seconds",
			Help:    "Time to write a Service's addresses into its status, and the VIPs that are written at the same time: waiting for the API server.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seamark_allocation_conflicts_total",
			Help: "Writes of VIPs that the API server refused because another writer was faster.",
		}),
		addresses: prometheus.NewDesc("seamark_pool_addresses",
			"Addresses of an IPPool, by family and state: used by Services, reserved, or free.", []string{"pool", "family", "state"}, nil),
		waiting: prometheus.NewDesc("seamark_waiting_services",
			"Services that do not have all that they ask for, or for which something cannot be written (WriteFailed), by reason.",
			[]string{"reason"}, nil),
	}
}

func (m *metrics) allocated(d time.Duration) { m.duration.Observe(d.Seconds()) }

func (m *metrics) decided(d time.Duration) { m.decision.Observe(d.Seconds()) }

func (m *metrics) wrote(d time.Duration) { m.write.Observe(d.Seconds()) }

func (m *metrics) clashed() { m.conflicts.Inc() }

// Describe is that of a prometheus.Collector.
func (p *Provider) Describe(c chan<- *prometheus.Desc) {
	p.metrics.duration.Describe(c)
	p.metrics.decision.Describe(c)
	p.metrics.write.Describe(c)
	p.metrics.conflicts.Describe(c)
	c <- p.metrics.addresses
	c <- p.metrics.waiting
}

// Collect is that of a prometheus.Collector.
func (p *Provider) Collect(c chan<- prometheus.Metric) {
	p.metrics.duration.Collect(c)
	p.metrics.decision.Collect(c)
	p.metrics.write.Collect(c)
	p.metrics.conflicts.Collect(c)
	if !p.isReady() {
		return // another replica leads, and knows
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for _, pool := range list[*v1alpha1.IPPool](p.pools) {
		v4, v6 := p.alloc.counts(pool.Name)
		for _, f := range []struct {
			family string
			ipam.Counts
		}{{"IPv4", v4}, {"IPv6", v6}} {
			if f.Counts == (ipam.Counts{}) {
				continue
			}
			gauge(p.metrics.addresses, f.Used, pool.Name, f.family, "used")
			gauge(p.metrics.addresses, f.Reserved, pool.Name, f.family, "reserved")
			gauge(p.metrics.addresses, f.Free, pool.Name, f.family, "free")
		}
	}
	waiting := p.waiting.count()
	for _, reason := range ipam.Reasons() {
		gauge(p.metrics.waiting, int64(waiting[reason]), string(reason))
	}
	gauge(p.metrics.waiting, int64(p.told.countFailed()), v1alpha1.ServiceReasonWriteFailed)
}
