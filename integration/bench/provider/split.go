package provider

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seamark-io/seamark/integration/bench"
)

// split shows what some Services cost, and whom.
type split struct {
	of            string // how the Services were made, for titles
	services      int
	before, after counters
}

func (b *burst) split() split {
	return split{fmt.Sprintf("%d Services at once", b.services), b.services, b.before, b.after}
}

// phases of a burst: what its Services waited for the call is the API server's word, as most of that is waiting there.
func (b *burst) phases() phases {
	p := b.split().phases(0)
	p.total = p.create + mean(b.lag)
	return p
}

func (b *burst) tables() []bench.Table {
	s := b.split()
	tables := append([]bench.Table{b.phases().table(s.title("where the time goes"))}, s.tables()...)
	return append(tables, processes(s.title("processes, without Seamark"), b.services, b.aloneBefore, b.aloneAfter))
}

func (i *idle) split() split {
	return split{fmt.Sprintf("%d Services, one at a time", len(i.samples)), len(i.samples), i.before, i.after}
}

func (i *idle) phases() phases {
	var status []float64
	for _, s := range i.samples {
		status = append(status, s.status)
	}
	return i.split().phases(mean(status))
}

func (i *idle) tables() []bench.Table {
	s := i.split()
	return append([]bench.Table{i.phases().table(s.title("where the time goes"))}, s.tables()...)
}

func (s split) tables() []bench.Table {
	return []bench.Table{
		s.requests(), s.events(), s.controller(),
		processes(s.title("processes"), s.services, s.before.accounts, s.after.accounts),
	}
}

func (s split) each(count float64) float64 { return count / float64(s.services) }

func (s split) title(of string) string { return s.of + ": " + of }

// rare is how often, for each Service, something must be counted to be shown.
const rare = 0.01

func isWrite(verb string) bool {
	return slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE"}, verb)
}

// requests are those to the API server, of everything in the cluster.
func (s split) requests() bench.Table {
	what := []string{"verb", "resource", "subresource"}
	added := func(metric string, labels ...string) []bench.Total {
		return bench.Added(s.before.apiServer.Totals(metric, labels...), s.after.apiServer.Totals(metric, labels...))
	}
	durations := added("apiserver_request_duration_seconds", what...)
	codes := added("apiserver_request_total", append(what, "code")...)
	t := bench.Table{
		Title:   s.title("requests to the API server"),
		Note:    "Of everything in the cluster. `POST services` is this benchmark's, `POST ipaddresses` the API server's own, for the ClusterIP.",
		Columns: []string{"request", "for each Service", "mean", "answers"},
	}
	var writes float64
	for _, r := range added("apiserver_request_total", what...) {
		each := s.each(r.Count)
		if each < rare || r.Labels[0] == "WATCH" {
			continue
		}
		if isWrite(r.Labels[0]) {
			writes += each
		}
		mean := ""
		for _, d := range durations {
			if slices.Equal(d.Labels, r.Labels) {
				mean = ms(d.Mean())
			}
		}
		var answers []string
		for _, c := range codes {
			if slices.Equal(c.Labels[:len(what)], r.Labels) {
				answers = append(answers, fmt.Sprintf("%.0f × %s", c.Count, c.Labels[len(what)]))
			}
		}
		t.Rows = append(t.Rows, []string{requestName(r.Labels), bench.Number(each), mean, strings.Join(answers, ", ")})
	}
	t.Rows = append(t.Rows, []string{"all writes", bench.Number(writes), "", ""})
	return t
}

// requestName writes a verb, a resource and a subresource.
func requestName(labels []string) string {
	name := labels[0] + " " + labels[1]
	if labels[2] != "" {
		name += "/" + labels[2]
	}
	return name
}

// events are those that the API server sent to watches.
func (s split) events() bench.Table {
	t := bench.Table{
		Title:   s.title("watch events"),
		Note:    "Each change of an object counts once for every watch that it is sent to.",
		Columns: []string{"resource", "for each Service"},
	}
	const metric = "apiserver_watch_events_total"
	for _, e := range bench.Added(s.before.apiServer.Totals(metric, "resource"), s.after.apiServer.Totals(metric, "resource")) {
		if each := s.each(e.Count); each >= rare {
			t.Rows = append(t.Rows, []string{e.Labels[0], bench.Number(each)})
		}
	}
	return t
}

// controller is what the controller says of its work queues and its requests.
func (s split) controller() bench.Table {
	added := func(metric, label string) []bench.Total {
		return bench.Added(s.before.controller.Totals(metric, label), s.after.controller.Totals(metric, label))
	}
	t := bench.Table{
		Title:   s.title("the controller by its own metrics"),
		Note:    "Its work queues, and its requests to the API server as it sees them.",
		Columns: []string{"", "for each Service", "mean", "mean wait before"},
	}
	waits := added("workqueue_queue_duration_seconds", "name")
	for _, w := range added("workqueue_work_duration_seconds", "name") {
		if s.each(w.Count) < rare {
			continue
		}
		wait := ""
		for _, q := range waits {
			if slices.Equal(q.Labels, w.Labels) {
				wait = ms(q.Mean())
			}
		}
		t.Rows = append(t.Rows, []string{"queue " + w.Labels[0], bench.Number(s.each(w.Count)), ms(w.Mean()), wait})
	}
	for _, r := range added("rest_client_request_duration_seconds", "verb") {
		if s.each(r.Count) >= rare {
			t.Rows = append(t.Rows, []string{r.Labels[0], bench.Number(s.each(r.Count)), ms(r.Mean()), ""})
		}
	}
	return t
}

// processes tells whose the machine's time was between two moments in which Services were made.
func processes(title string, services int, before, after bench.Accounts) bench.Table {
	t := bench.Table{
		Title:   title,
		Columns: []string{"process", "CPU", "CPU for each Service", "RSS", "peak"},
	}
	const least = 50 * time.Millisecond
	for _, u := range after.Since(before, least) {
		name, rss, peak := u.Name, mb(u.RSS), mb(u.Peak)
		switch {
		case u.Count == 0:
			rss, peak = "", ""
		case u.Count > 1:
			name = fmt.Sprintf("%s × %d", name, u.Count)
		}
		t.Rows = append(t.Rows, []string{name, bench.Number(u.CPU.Seconds()) + " s", ms(u.CPU.Seconds() / float64(services)), rss, peak})
	}
	return t
}

func ms(seconds float64) string { return bench.Number(seconds*1000) + " ms" }

func mb(bytes uint64) string { return bench.Number(megabytes(bytes)) + " MB" }
