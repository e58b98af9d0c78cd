package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seamark-io/seamark/integration/probe"
)

const (
	askEvery = 25 * time.Millisecond
	// askTimeout is below the second after which TCP would try again by itself.
	askTimeout = 500 * time.Millisecond
	// steady is for how long every request must have been answered for the outage to be over.
	steady = 2 * time.Second
	// quietBefore is for how long every request is answered before the link is cut: more than a request may take.
	quietBefore = time.Second
	outageLimit = time.Minute
)

// cut takes the link of the VIP's owner away while the client asks all the time.
func cut(ctx context.Context, t *tour) error {
	vip := t.vips[0]
	if err := t.announced(ctx); err != nil {
		return err
	}
	t.say("The client asks %s %d times a second. This cluster calls a node NotReady that has been silent", url(vip, "hostname"), time.Second/askEvery)
	t.say("for %s (its default is 50s), and sends requests to pods there until then; the address moves without it.", nodeGrace)
	m := newMeter()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	record := make(chan probe.Record, 1)
	go func() {
		record <- probe.Watch{
			From: t.namespaceOf("client"), URL: url(vip, "hostname"), Every: askEvery, Timeout: askTimeout, Seen: m.see,
		}.Run(asking)
	}()
	err := t.until(ctx, changeLimit, fmt.Sprintf("every request to be answered for %s before the cut", quietBefore), func(context.Context) error {
		if lost, answeredFor := m.state(); answeredFor < quietBefore {
			return fmt.Errorf("%d were lost, the last %s ago", lost, answeredFor.Round(time.Millisecond))
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Read now, and from both sides: the address may have moved since the step before.
	if t.owner, err = t.found(ctx, vip); err != nil {
		return err
	}
	t.command("", "bin/lab --name "+Name+" cut "+t.owner)
	m.reset()
	start := time.Now()
	if err := t.lab.Cut(ctx, t.owner); err != nil {
		return err
	}
	if err := t.watchOutage(ctx, m); err != nil {
		return err
	}
	stop()
	seen := (<-record).Since(start.Add(-quietBefore))
	gap, outage := seen.Longest(), seen.Outage()
	now, err := t.neighbour(ctx, vip)
	if err != nil {
		return err
	}
	if now == t.owner {
		return fmt.Errorf("expected another node than %s to announce %s; seen: the client still finds it there", t.owner, vip)
	}
	if err := t.kubectl(ctx, "get", "nodes"); err != nil {
		return err
	}
	if _, err := t.on(ctx, "client", ipFor(vip, "neigh", "show", vip.String())...); err != nil {
		return err
	}
	t.good("no answer for %.2f s (%d requests lost); now %s is %s, which announces %s", gap.Length().Seconds(), gap.Lost, macOf(t, now), now, vip)
	if later := outage.Lost - gap.Lost; later > 0 {
		t.say("%d more were lost on pods of %s, which stay endpoints of the Service until Kubernetes calls the node NotReady.", later, t.owner)
	}
	t.note("link of the owner cut", "no answer for %.2f s, then %s in place of %s", gap.Length().Seconds(), now, t.owner)
	return nil
}

// watchOutage returns when all requests have been answered again for a while, and reports how things are until then.
func (t *tour) watchOutage(ctx context.Context, m *meter) error {
	start, reported := time.Now(), time.Now()
	for {
		lost, answeredFor := m.state()
		switch {
		case lost > 0 && answeredFor >= steady:
			return nil
		case time.Since(start) > outageLimit:
			return fmt.Errorf("expected requests to be lost, and then all to be answered again within %s; seen: %d lost, the last %s ago",
				outageLimit, lost, answeredFor.Round(time.Millisecond))
		case time.Since(reported) >= 2*time.Second:
			reported = time.Now()
			nodes := "all nodes Ready"
			if err := t.nodesReady(ctx); err != nil {
				nodes = err.Error()
			}
			t.output(fmt.Sprintf("%4.0f s  %d requests lost; %s", time.Since(start).Seconds(), lost, nodes))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

// meter follows the requests while they are made. It may be used concurrently.
type meter struct {
	mu       sync.Mutex
	lost     int
	lastLost time.Time // or when the first was made
}

func newMeter() *meter { return &meter{lastLost: time.Now()} }

func (m *meter) see(r probe.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Err != nil {
		m.lost++
		m.lastLost = time.Now()
	}
}

// reset forgets what was lost so far.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost, m.lastLost = 0, time.Now()
}

// state returns how many requests were lost, and for how long none was.
func (m *meter) state() (lost int, answered time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost, time.Since(m.lastLost)
}
