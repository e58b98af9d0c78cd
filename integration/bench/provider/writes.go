package provider

import (
	"cmp"
	"slices"

	"github.com/seamark-io/seamark/integration/bench"
)

// writer says who makes the writes of a kind that come with Services; what is not here is not about them.
func writer(request string) string {
	switch request {
	case "POST services":
		return "this benchmark"
	case "POST ipaddresses":
		return "API server, for the ClusterIP"
	case "PATCH services/status":
		return "controller: address, condition, finalizer"
	case "POST vips":
		return "controller: the lock and the record"
	case "PATCH ippools/status", "APPLY ippools/status":
		return "controller: counts, for many Services at once"
	case "PATCH services":
		return "controller: finalizer"
	case "POST events", "PATCH events":
		return "controller and agents: what is told"
	case "PUT vips/status", "PATCH vips/status", "APPLY vips/status":
		return "agents: who announces it"
	case "PATCH vips":
		return "controller: who has it"
	default:
		return ""
	}
}

// writesTable counts the writes for each Service, of each kind, in each part of the run. Those that nobody makes because of
// a Service are one row.
func writesTable(parts []split) bench.Table {
	t := bench.Table{
		Title:   "Writes for each Service",
		Note:    "By the API server's metrics, those that it refused included. `POST events` are what `kubectl describe service` shows.",
		Columns: []string{"write", "by"},
	}
	counts := map[string][]float64{} // by request, for each part
	for i, s := range parts {
		t.Columns = append(t.Columns, s.of)
		what := []string{"verb", "resource", "subresource"}
		for _, r := range bench.Added(s.before.apiServer.Totals("apiserver_request_total", what...), s.after.apiServer.Totals("apiserver_request_total", what...)) {
			if !isWrite(r.Labels[0]) {
				continue
			}
			name := requestName(r.Labels)
			if writer(name) == "" {
				name = others
			}
			if counts[name] == nil {
				counts[name] = make([]float64, len(parts))
			}
			counts[name][i] += s.each(r.Count)
		}
	}
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(number(a == others), number(b == others)), cmp.Compare(slices.Max(counts[b]), slices.Max(counts[a])), cmp.Compare(a, b))
	})
	sums := make([]float64, len(parts))
	for _, name := range names {
		t.Rows = append(t.Rows, cellsOf(name, writer(name), counts[name]))
		for i, n := range counts[name] {
			sums[i] += n
		}
	}
	t.Rows = append(t.Rows, cellsOf("all", "", sums))
	return t
}

// others are writes that do not come with a Service: Leases, nodes, Endpoints that are not there.
const others = "others, not because of a Service"

func cellsOf(name, by string, counts []float64) []string {
	cells := []string{name, by}
	for _, n := range counts {
		cells = append(cells, bench.Number(n))
	}
	return cells
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
