package proxy

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/proxy/ruleset"
)

// metrics of the proxy.
type metrics struct {
	duration  prometheus.Histogram
	lastSync  prometheus.Gauge
	failures  *prometheus.CounterVec
	drift     prometheus.Counter
	services  prometheus.Gauge
	frontends prometheus.Gauge
	endpoints prometheus.Gauge
	problems  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "seamark_proxy_sync_duration_seconds",
			Help:    "How long it took to bring the rules to the latest state of the cluster.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		lastSync: gauge("seamark_proxy_sync_last_timestamp_seconds", "When the rules were last brought to the latest state of the cluster."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "seamark_proxy_sync_failures_total",
			Help: "Syncs in which a part (rules, conntrack, healthcheck, check) failed, in whole or for some Services.",
		}, []string{"part"}),
		drift: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "seamark_proxy_drift_total",
			Help: "How often somebody else was found to have changed the tables of the proxy.",
		}),
		services:  gauge("seamark_proxy_services", "Services that have rules."),
		frontends: gauge("seamark_proxy_frontends", "Addresses with a protocol and a port at which Services are served."),
		endpoints: gauge("seamark_proxy_endpoints", "Endpoints of all frontends together."),
		problems:  gauge("seamark_proxy_problems", "Services, or parts of them, that cannot be served as they are."),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.duration, m.lastSync, m.failures, m.drift, m.services, m.frontends, m.endpoints, m.problems} {
		errs = append(errs, r.Register(c))
	}
	for _, part := range []string{"rules", "conntrack", "healthcheck", "check"} {
		m.failures.WithLabelValues(part)
	}
	return m, errors.Join(errs...)
}

// sync notes a sync that has ended.
func (m *metrics) sync(took time.Duration, r *ruleset.Ruleset, problems int) {
	m.duration.Observe(took.Seconds())
	m.lastSync.SetToCurrentTime()
	m.problems.Set(float64(problems))
	s := r.Stats()
	m.services.Set(float64(s.Services))
	m.frontends.Set(float64(s.Frontends))
	m.endpoints.Set(float64(s.Endpoints))
}
