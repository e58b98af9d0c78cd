package liveness

import (
	"net/netip"
	"testing"
	"time"
)

// An acceptor that has begun anew knows nothing of what was claimed before. Until it has heard of a claim again, that it
// hears the claimant is no grant: it may have granted the address to another.
func TestAcceptorBeganAnew(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.1")
	a, b, now, _ := pair(t)
	a.SetWanted(now, []Want{{Addr: vip}})
	for range 20 {
		now = now.Add(20 * time.Millisecond)
		exchange(now, a, b)
	}
	if !a.Leases().MayAnswer(vip, at(now)) {
		t.Fatal("the address is not had")
	}
	b = fresh(t, now, "b", 33, []string{"a", "b"})
	lossy := true
	turn := func() {
		now = now.Add(20 * time.Millisecond)
		for _, o := range a.Tick(now) {
			if lossy { // what told of the claim does not arrive
				o.Claims = Claims{From: o.Claims.To, To: o.Claims.To}
			}
			b.Receive(now, &o.Heartbeat)
		}
		for _, o := range b.Tick(now) {
			a.Receive(now, &o.Heartbeat)
		}
	}
	for range 60 {
		turn()
	}
	if !a.base.held || b.quiet {
		t.Fatal("the two do not hear each other again")
	}
	if a.Leases().MayAnswer(vip, at(now)) {
		t.Error("an acceptor that does not know of the claim counts for it")
	}
	lossy = false
	for range 20 {
		turn()
	}
	if !a.Leases().MayAnswer(vip, at(now)) {
		t.Error("the address is not had when all is heard again")
	}
}
