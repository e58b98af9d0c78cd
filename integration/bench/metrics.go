package bench

import (
	"cmp"
	"io"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are what a program said of itself at one moment, by the name of the metric.
type Metrics map[string]*dto.MetricFamily

// ParseMetrics reads metrics in Prometheus' text format.
func ParseMetrics(r io.Reader) (Metrics, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(r)
}

// Total is how often something was counted and, for a histogram, the sum of what was observed.
type Total struct {
	// Labels are the values of the labels that were asked for, in their order.
	Labels []string
	Count  float64
	Sum    float64
}

// Mean of what was observed; 0 of nothing.
func (t Total) Mean() float64 {
	if t.Count == 0 {
		return 0
	}
	return t.Sum / t.Count
}

// Totals adds up a counter or histogram by the values of some of its labels.
func (m Metrics) Totals(name string, labels ...string) []Total {
	var totals []Total
	for _, metric := range m[name].GetMetric() {
		values := make([]string, len(labels))
		for _, pair := range metric.GetLabel() {
			if i := slices.Index(labels, pair.GetName()); i >= 0 {
				values[i] = pair.GetValue()
			}
		}
		t := total(&totals, values)
		if h := metric.GetHistogram(); h != nil {
			t.Count += float64(h.GetSampleCount())
			t.Sum += h.GetSampleSum()
		} else {
			t.Count += metric.GetCounter().GetValue()
		}
	}
	return totals
}

// total finds the total of some values of labels, adding it if there is none.
func total(totals *[]Total, values []string) *Total {
	i := slices.IndexFunc(*totals, func(t Total) bool { return slices.Equal(t.Labels, values) })
	if i < 0 {
		i = len(*totals)
		*totals = append(*totals, Total{Labels: values})
	}
	return &(*totals)[i]
}

// Added returns by how much the totals have grown since before, the most frequent first; what has not grown is left out.
func Added(before, now []Total) []Total {
	var added []Total
	for _, t := range now {
		was := total(&before, t.Labels)
		t.Count -= was.Count
		t.Sum -= was.Sum
		if t.Count > 0 {
			added = append(added, t)
		}
	}
	slices.SortFunc(added, func(a, b Total) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), slices.Compare(a.Labels, b.Labels))
	})
	return added
}
