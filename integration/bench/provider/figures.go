package provider

import (
	"fmt"
	"time"

	"github.com/seamark-io/seamark/integration/bench"
)

// Targets, in the units of their figures.
const (
	idleP50AtMost = 12  // ms
	idleP99AtMost = 40  // ms
	cpuAtMost     = 2   // ms for each Service
	rssAtMost     = 120 // MB, with as many Services as rssAt
	rssAt         = 10_000
)

// The targets are for a machine on which the calls that create Services take so long where nothing of Seamark runs, for each
// thousand. How much slower the one at hand is shows in the same run.
const (
	referenceServices = 1000
	referenceAlone    = 2.7 // s
)

// slower is by how much this machine is slower than the one of the targets, if creating so many Services took so long where
// nothing of Seamark runs.
func slower(services int, alone time.Duration) float64 {
	return alone.Seconds() / (referenceAlone * float64(services) / referenceServices)
}

// forThisMachine has the targets in milliseconds count for a machine on which referenceServices take so long. A burst has its
// own: the API server's work for a Service grows with those that there are.
func forThisMachine(figures []bench.Figure, alone time.Duration) {
	for i := range figures {
		if f := &figures[i]; f.AtMost != 0 && f.Unit == "ms" {
			f.Slower = slower(referenceServices, alone)
		}
	}
}

// servedAtMost is by when all Services of a burst shall have an address, in seconds; 0 for sizes without a target.
func servedAtMost(services int) float64 {
	switch services {
	case 1000:
		return 10
	case 10_000:
		return 120
	default:
		return 0
	}
}

func (i *idle) figures() []bench.Figure {
	var created, vip, status []float64
	for _, s := range i.samples {
		created, vip, status = append(created, s.created), append(vip, s.vip), append(status, s.status)
	}
	ms := func(what string, samples []float64, p, atMost float64) bench.Figure {
		return bench.Figure{Name: fmt.Sprintf("one Service, idle: %s, p%.0f", what, p), Value: bench.Percentile(samples, p), Unit: "ms", AtMost: atMost}
	}
	const address = "create → address in status"
	return append([]bench.Figure{
		ms(address, status, 50, idleP50AtMost),
		ms(address, status, 90, 0),
		ms(address, status, 99, idleP99AtMost),
		ms("create → the call returned", created, 50, 0),
		ms("create → VIP seen", vip, 50, 0),
	}, i.phases().figures("one Service, idle")...)
}

func (i *idle) csv() bench.Samples {
	s := bench.Samples{Columns: []string{"created_ms", "vip_ms", "status_ms"}}
	for _, x := range i.samples {
		s.Rows = append(s.Rows, []float64{x.created, x.vip, x.status})
	}
	return s
}

func (b *burst) figures() []bench.Figure {
	figure := func(what string, value float64, unit string, atMost float64) bench.Figure {
		return bench.Figure{Name: fmt.Sprintf("%d Services at once: %s", b.services, what), Value: value, Unit: unit, AtMost: atMost}
	}
	rssLimit := 0.0
	if b.services == rssAt {
		rssLimit = rssAtMost
	}
	cpu := func(now bench.Accounts) float64 {
		return milliseconds(now.Of(controller).CPU-b.before.accounts.Of(controller).CPU) / float64(b.services)
	}
	served := figure("until all have an address", b.served.Seconds(), "s", servedAtMost(b.services))
	if served.AtMost != 0 {
		served.Slower = slower(b.services, b.alone)
	}
	figures := []bench.Figure{
		served,
		figure("creating them, meanwhile", b.made.Seconds(), "s", 0),
		figure("creating them, without Seamark", b.alone.Seconds(), "s", 0),
		figure("call returned → address in status, p50", bench.Percentile(b.lag, 50), "ms", 0),
		figure("call returned → address in status, p99", bench.Percentile(b.lag, 99), "ms", 0),
		figure("controller CPU for each, until all have an address", cpu(b.atServed), "ms", 0),
		figure("controller CPU for each, with what follows", cpu(b.after.accounts), "ms", cpuAtMost),
		figure("controller RSS when all have an address", megabytes(b.atServed.Of(controller).RSS), "MB", rssLimit),
		figure("controller RSS, peak", megabytes(b.after.accounts.Of(controller).Peak), "MB", 0),
	}
	return append(figures, b.phases().figures(fmt.Sprintf("%d Services at once", b.services))...)
}

func megabytes(bytes uint64) float64 { return float64(bytes) / 1e6 }
