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
	t   *testing.T
	end map[netip.Addr]func() heard
}

// heard are the answers to a number of requests.
type heard struct {
	probe.Answers
	asked int
}

// observe starts observers of addresses on the host's LAN.
func (h host) observe(addrs ...netip.Addr) *observers {
	o := &observers{t: h.t, end: map[netip.Addr]func() heard{}}
	for _, a := range addrs {
		ctx, cancel := context.WithCancel(h.t.Context())
		done := make(chan heard, 1)
		go func() {
			answers, asked, err := probe.Asker{From: h.netns(), Interface: "eth0", To: a, Every: askEvery}.Run(ctx)
			if err != nil {
				h.t.Errorf("observe who answers for %s: %v", a, err)
			}
			done <- heard{answers, asked}
		}()
		o.end[a] = func() heard {
			cancel()
			return <-done
		}
	}
	return o
}

// stop ends the observers and returns what they have heard.
func (o *observers) stop() map[netip.Addr]heard {
	out := map[netip.Addr]heard{}
	for a, end := range o.end {
		out[a] = end()
	}
	return out
}

// oneAtATime stops the observers and fails the test where several stations answered for an address at the same time, or where
// fewer than a share of the requests were answered: who hears nothing has not shown anything.
func (o *observers) oneAtATime(share float64) map[netip.Addr]heard {
	o.t.Helper()
	all := o.stop()
	for addr, h := range all {
		for _, overlap := range h.Overlaps() {
			o.t.Errorf("%s has two owners: %s", addr, overlap)
		}
		if least := share * float64(h.asked); h.asked == 0 || float64(len(h.Answers)) < least {
			o.t.Errorf("%d answers to %d requests for %s; want %.0f of them at least", len(h.Answers), h.asked, addr, least)
		}
		o.t.Logf("%s: %d answers to %d requests; it moved %d times", addr, len(h.Answers), h.asked, h.Changes())
	}
	return all
}
