package provider

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// Metrics have names and helps as Prometheus would have them, and the figures are right. Only the replica that leads has
// figures of pools.
func TestMetrics(t *testing.T) {
	inOneWorld(t, true, func(w *world) {
		_, _, other := w.standby()
		lead, _, p := w.standby()
		lead()
		w.pool("default", "192.0.2.0/31", "2001:db8::/126")
		for _, name := range []string{"a", "b", "waits"} {
			w.service(name)
		}
		figures := func(p *Provider) map[string]float64 {
			r := prometheus.NewPedanticRegistry()
			w.must(r.Register(p))
			families, err := r.Gather()
			w.must(err)
			problems, err := promlint.NewWithMetricFamilies(families).Lint()
			w.must(err)
			for _, problem := range problems {
				t.Errorf("%s: %s", problem.Metric, problem.Text)
			}
			out := map[string]float64{}
			for _, f := range families {
				for _, m := range f.Metric {
					name := f.GetName()
					for _, l := range m.Label {
						name += " " + l.GetValue()
					}
					out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
			return out
		}
		got := figures(p)
		for name, want := range map[string]float64{
			"seamark_pool_addresses IPv4 default used": 2, "seamark_pool_addresses IPv4 default free": 0,
			"seamark_pool_addresses IPv6 default free": 4, "seamark_pool_addresses IPv6 default reserved": 0,
			"seamark_waiting_services PoolExhausted": 1, "seamark_waiting_services NoPool": 0, "seamark_waiting_services WriteFailed": 0,
			"seamark_allocation_duration_seconds": 2, "seamark_allocation_decision_seconds": 3, "seamark_allocation_write_seconds": 2, "seamark_allocation_conflicts_total": 0,
		} {
			if is, ok := got[name]; !ok || is != want {
				t.Errorf("%s is %v; want %v", name, is, want)
			}
		}
		w.fake.PrependReactor("create", "vips", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("etcd is not there")
		})
		w.service("fails", func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} })
		time.Sleep(time.Minute)
		if got := figures(p); got["seamark_waiting_services WriteFailed"] != 1 || got["seamark_waiting_services PoolExhausted"] != 1 {
			t.Errorf("one Service waits, and of another nothing can be written: %v", got)
		}
		w.update("fails", func(s *corev1.Service) {
			s.DeletionTimestamp, s.Finalizers = &metav1.Time{Time: time.Now()}, []string{"example.com/held"}
		})
		if got := figures(p); got["seamark_waiting_services WriteFailed"] != 0 {
			t.Errorf("nothing is to be written for it any more: %v", got)
		}
		if got := figures(other); len(got) != 4 {
			t.Errorf("the other replica has %v", got)
		}
	})
}
