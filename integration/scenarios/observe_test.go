package scenarios

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/probe"
)

// askEvery is the time between two requests of an observer.
const askEvery = 25 * time.Millisecond

// mostly is the share of an observer's requests that are answered at least where an address moves a few times.
const mostly = 0.7

// observers record who answers for addresses, by ARP or NDP, from when they are made until they are asked what they have seen. What
// is looked at now and then, until it is right, does not show that it never was wrong.
type observers struct {
	t     *testing.T
	began time.Time
	end   map[netip.Addr]func() probe.Answers
}

// observe starts observers of addresses on the host's LAN.
func (h host) observe(addrs ...netip.Addr) *observers {
	o := &observers{t: h.t, began: time.Now(), end: map[netip.Addr]func() probe.Answers{}}
	for _, a := range addrs {
		ctx, cancel := context.WithCancel(h.t.Context())
		done := make(chan probe.Answers, 1)
		go func() {
			answers, err := probe.Asker{From: h.netns(), Interface: "eth0", To: a, Every: askEvery}.Run(ctx)
			if err != nil {
				h.t.Errorf("observe who answers for %s: %v", a, err)
			}
			done <- answers
		}()
		o.end[a] = func() probe.Answers {
			cancel()
			return <-done
		}
	}
	return o
}

// stop ends the observers and returns what they have heard.
func (o *observers) stop() map[netip.Addr]probe.Answers {
	out := map[netip.Addr]probe.Answers{}
	for a, end := range o.end {
		out[a] = end()
	}
	return out
}

// oneAtATime stops the observers and fails the test where several stations answered for an address at the same time, or where
// fewer than a share of the requests were answered: who hears nothing has not shown anything.
func (o *observers) oneAtATime(share float64) map[netip.Addr]probe.Answers {
	o.t.Helper()
	asked := float64(time.Since(o.began) / askEvery)
	heard := o.stop()
	for addr, answers := range heard {
		for _, overlap := range answers.Overlaps() {
			o.t.Errorf("%s has two owners: %s", addr, overlap)
		}
		if got := float64(len(answers)); got < share*asked {
			o.t.Errorf("%.0f answers to %.0f requests for %s; want %.0f of them at least", got, asked, addr, share*asked)
		}
		o.t.Logf("%s: %d answers to %.0f requests; it moved %d times", addr, len(answers), asked, answers.Changes())
	}
	return heard
}
