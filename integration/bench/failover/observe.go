package failover

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/seamark-io/seamark/integration/bench"
	"github.com/seamark-io/seamark/integration/probe"
)

const (
	// askEvery is the time between two requests of an observer.
	askEvery = 20 * time.Millisecond
	// unanswered is how many of its requests, in per cent, may be without an answer: who hears nothing sees no second owner either.
	unanswered = 25
	// none is a target for what must not be, where a figure of 0 has none.
	none = 0.5
)

// observation is what an observer of an address has seen, of one fault or some time.
type observation struct {
	asked, answers int
	moves          []probe.Move
	overlaps       []probe.Overlap
}

// observe records who answers for an address until it is stopped.
func (w *world) observe(ctx context.Context, vip netip.Addr) (stop func() (observation, error)) {
	type result struct {
		answers probe.Answers
		asked   int
		err     error
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan result, 1)
	go func() {
		answers, asked, err := probe.Asker{From: w.namespaceOf("client"), Interface: "eth0", To: vip, Every: askEvery}.Run(ctx)
		done <- result{answers, asked, err}
	}()
	return sync.OnceValues(func() (observation, error) {
		cancel()
		r := <-done
		return observation{r.asked, len(r.answers), r.answers.Moves(), r.answers.Overlaps()}, r.err
	})
}

// observed are the figures of what was observed, of each fault by itself: what happened in one of many is not to vanish in a mean.
func observed(title string, seen []observation, moves int) []bench.Figure {
	changes, overlaps, silent := 0, 0, 0.0
	for _, o := range seen {
		changes, overlaps = max(changes, len(o.moves)), overlaps+len(o.overlaps)
		silent = max(silent, 100*(1-float64(o.answers)/float64(max(o.asked, 1))))
	}
	return []bench.Figure{
		{Name: title + ": several nodes answered at the same time, all together", Value: float64(overlaps), Unit: "times", AtMost: none},
		{Name: title + ": changes of who answers, the most of one", Value: float64(changes), Unit: "changes", AtMost: float64(moves)},
		{Name: title + ": requests of the observer without an answer, the most of one", Value: silent, Unit: "%", AtMost: unanswered},
	}
}
