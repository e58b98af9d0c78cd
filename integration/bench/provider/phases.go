package provider

import (
	"fmt"
	"math"
	"slices"

	"github.com/seamark-io/seamark/integration/bench"
)

// phases is where the time of one Service goes, from the call that creates it to the address in its status, on the mean and
// in milliseconds.
type phases struct {
	total float64
	// create is the API server's time for the call that creates the Service, patch for the controller's write of the status.
	// vip is that for the VIP, which is written at the same time and which nobody waits for who waits for the status.
	create, patch, vip float64
	// queue is what the Service waits in the controller's queue, work what the controller then works on it. Of that, decision
	// is the provider's for the decision, and write what it waits for the API server.
	queue, work, decision, write float64
}

// phases of the Services between the counters; total is the mean of what was seen from outside.
func (s split) phases(total float64) phases {
	server := func(verb, resource, subresource string) float64 {
		for _, t := range bench.Added(
			s.before.apiServer.Totals("apiserver_request_duration_seconds", "verb", "resource", "subresource"),
			s.after.apiServer.Totals("apiserver_request_duration_seconds", "verb", "resource", "subresource")) {
			if slices.Equal(t.Labels, []string{verb, resource, subresource}) {
				return t.Mean() * 1000
			}
		}
		return 0
	}
	own := func(metric, name string) bench.Total {
		for _, t := range bench.Added(s.before.controller.Totals(metric, "name"), s.after.controller.Totals(metric, "name")) {
			if t.Labels[0] == name {
				return t
			}
		}
		return bench.Total{}
	}
	const queue = "service"
	return phases{
		total:  total,
		create: server("POST", "services", ""), patch: server("PATCH", "services", "status"), vip: server("POST", "vips", ""),
		queue: own("workqueue_queue_duration_seconds", queue).Mean() * 1000,
		// A Service may be looked at again later, to find that nothing is to be done: that is not on its way, but ours.
		work:     s.each(own("workqueue_work_duration_seconds", queue).Sum) * 1000,
		decision: own("seamark_allocation_decision_seconds", "").Mean() * 1000,
		write:    s.each(own("seamark_allocation_write_seconds", "").Sum) * 1000,
	}
}

// writes is the API server's time for the two writes on the way.
func (p phases) writes() float64 { return p.create + p.patch }

// ours is the controller's time without waiting for the API server: in its queue, and at work.
func (p phases) ours() float64 { return p.queue + max(0, p.work-p.write) }

// watch is the rest: the API server's watches, to the controller and to whoever waits for the address, and HTTP.
func (p phases) watch() float64 { return max(0, p.total-p.writes()-p.ours()) }

func (p phases) table(title string) bench.Table {
	t := bench.Table{
		Title: title,
		Note: "Means, by the API server's and the controller's own metrics. Watches, and the way of requests between the processes, are what is left of the whole. " +
			"`POST vips` runs beside `PATCH services/status`: whoever waits for the status does not wait for it.",
		Columns: []string{"", "for each Service", "of the whole"},
	}
	row := func(what string, ms float64, share bool) {
		cells := []string{what, bench.Number(ms) + " ms", ""}
		if share && p.total > 0 {
			cells[2] = fmt.Sprintf("%.0f %%", math.Round(100*ms/p.total))
		}
		t.Rows = append(t.Rows, cells)
	}
	row("create → address in status", p.total, false)
	row("**API writes**", p.writes(), true)
	row("POST services", p.create, false)
	row("PATCH services/status", p.patch, false)
	row("**our time**", p.ours(), true)
	row("waiting in the controller's queue", p.queue, false)
	row("the controller's work, without waiting for the API server", p.ours()-p.queue, false)
	row("of that, deciding", p.decision, false)
	row("**watches and HTTP**", p.watch(), true)
	row("beside it: POST vips", p.vip, false)
	row("the controller's waiting for both writes", p.write, false)
	return t
}

// figures are the three parts, for the list of figures.
func (p phases) figures(of string) []bench.Figure {
	part := func(what string, ms float64) bench.Figure {
		return bench.Figure{Name: fmt.Sprintf("%s: %s, mean", of, what), Value: ms, Unit: "ms"}
	}
	return []bench.Figure{part("of it API writes", p.writes()), part("of it our time", p.ours()), part("of it watches and HTTP", p.watch())}
}

func mean(samples []float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range samples {
		sum += x
	}
	return sum / float64(len(samples))
}
