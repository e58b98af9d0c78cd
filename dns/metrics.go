package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// connKind is how a query came, as an index of counters.
type connKind uint8

const (
	udp4 connKind = iota
	udp6
	tcp4
	tcp6
	connKinds
)

func kindOf(addr netip.Addr, udp bool) connKind {
	k := tcp4
	if udp {
		k = udp4
	}
	if addr.Is6() {
		k++
	}
	return k
}

func (k connKind) udp() bool { return k <= udp6 }

func (k connKind) proto() string {
	if k.udp() {
		return "udp"
	}
	return "tcp"
}

func (k connKind) family() string {
	if k == udp4 || k == tcp4 {
		return "IPv4"
	}
	return "IPv6"
}

// metrics holds the counters of the hot path ready to use.
type metrics struct {
	requests        [connKinds][256]prometheus.Counter
	requestsOther   [connKinds]prometheus.Counter
	responses       [16]prometheus.Counter
	duration        [2]prometheus.Observer
	zoneRecords     prometheus.Gauge
	zoneBuild       prometheus.Histogram
	upstreams       prometheus.Gauge
	listeners       prometheus.Gauge
	forwardFailures *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seamark_dns_requests_total", Help: "Queries that were answered, by protocol, IP family and type.",
	}, []string{"proto", "family", "type"})
	responses := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seamark_dns_responses_total", Help: "Replies, by response code.",
	}, []string{"rcode"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "seamark_dns_request_duration_seconds", Help: "Time from a query's arrival to its reply, by where the answer came from.",
		Buckets: prometheus.ExponentialBuckets(1e-5, 4, 10),
	}, []string{"from"})
	m.zoneRecords = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "seamark_dns_zone_records", Help: "Resource records of the cluster's zone. 0 before the first sync.",
	})
	m.zoneBuild = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "seamark_dns_zone_build_duration_seconds", Help: "Time to build the cluster's zone after a change.",
		Buckets: prometheus.ExponentialBuckets(1e-4, 4, 8),
	})
	m.upstreams = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "seamark_dns_forward_upstreams", Help: "Upstream servers. With 0, names outside the cluster are SERVFAIL.",
	})
	m.listeners = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "seamark_dns_listen_addresses", Help: "Addresses that queries are answered at.",
	})
	m.forwardFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "seamark_dns_forward_failures_total",
		Help: "Queries for names outside the cluster without an answer: no_upstream, limit (too many under way), upstream (none answered).",
	}, []string{"reason"})

	for k := range connKinds {
		// All types without a counter of their own are "other", so that clients cannot make up time series.
		for _, t := range []uint16{
			dns.TypeA, dns.TypeNS, dns.TypeCNAME, dns.TypeSOA, dns.TypePTR, dns.TypeMX, dns.TypeTXT, dns.TypeAAAA,
			dns.TypeSRV, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeANY,
		} {
			m.requests[k][t] = requests.WithLabelValues(k.proto(), k.family(), dns.TypeToString[t])
		}
		m.requestsOther[k] = requests.WithLabelValues(k.proto(), k.family(), "other")
	}
	for i := range m.responses {
		m.responses[i] = responses.WithLabelValues(rcodeName(i))
	}
	m.duration[0] = duration.WithLabelValues("zone")
	m.duration[1] = duration.WithLabelValues("forward")
	for _, reason := range []string{"no_upstream", "limit", "upstream"} {
		m.forwardFailures.WithLabelValues(reason)
	}
	if reg == nil {
		return m, nil
	}
	collectors := []prometheus.Collector{requests, responses, duration, m.zoneRecords, m.zoneBuild, m.upstreams, m.listeners, m.forwardFailures}
	if reg != prometheus.DefaultRegisterer {
		collectors = append(collectors, coreDNSMetrics{prometheus.DefaultGatherer})
	}
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return "other"
}

// observe counts a query whose reply is complete.
func (m *metrics) observe(q *query) {
	counter := m.requestsOther[q.conn]
	if int(q.Type) < len(m.requests[q.conn]) && m.requests[q.conn][q.Type] != nil {
		counter = m.requests[q.conn][q.Type]
	}
	counter.Inc()
	m.responses[binary.BigEndian.Uint16(q.reply[2:])&0xf].Inc()
	from := 0
	if q.verdict != 0 {
		from = 1
	}
	m.duration[from].Observe(time.Since(q.start).Seconds())
}

// coreDNSMetrics passes on the metrics of CoreDNS' plugins, which know no registry but the default one, under our names.
// It must not be registered there.
type coreDNSMetrics struct{ from prometheus.Gatherer }

// Describe makes it an unchecked collector: which metrics there are is up to the plugins.
func (coreDNSMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c coreDNSMetrics) Collect(ch chan<- prometheus.Metric) {
	ours := strings.NewReplacer(
		"coredns_forward_", "seamark_dns_forward_",
		"coredns_proxy_", "seamark_dns_forward_",
		"coredns_cache_", "seamark_dns_cache_",
	)
	families, err := c.from.Gather()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	for _, f := range families {
		name := ours.Replace(f.GetName())
		if name == f.GetName() {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			ch <- gathered{prometheus.NewDesc(name, f.GetHelp(), labels, nil), m}
		}
	}
}

// gathered is a metric that another registry has gathered.
type gathered struct {
	desc *prometheus.Desc
	m    *dto.Metric
}

func (g gathered) Desc() *prometheus.Desc { return g.desc }

func (g gathered) Write(out *dto.Metric) error {
	out.Label, out.Gauge, out.Counter, out.Histogram, out.Summary, out.Untyped =
		g.m.Label, g.m.Gauge, g.m.Counter, g.m.Histogram, g.m.Summary, g.m.Untyped
	return nil
}
