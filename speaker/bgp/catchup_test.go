package bgp

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

// recorder is a router that keeps the IPv4 routes that it has, and how often it was sent each.
type recorder struct {
	*fakeRouter
	mu     sync.Mutex
	routes map[netip.Prefix]int
	// deaf: what is sent is lost.
	deaf bool
}

func record(t testing.TB, address string) *recorder {
	r := &recorder{routes: map[netip.Prefix]int{}}
	r.fakeRouter = fakeAt(t, address, func(c net.Conn) {
		r.mu.Lock()
		clear(r.routes)
		r.mu.Unlock()
		_, _ = c.Write(openMessage(4, 90, nil))
		_, _ = c.Write(keepalive())
		for header := make([]byte, bgp.BGP_HEADER_LENGTH); ; {
			if _, err := io.ReadFull(c, header); err != nil {
				return
			}
			h := &bgp.BGPHeader{}
			if err := h.DecodeFromBytes(header); err != nil {
				t.Error(err)
				return
			}
			body := make([]byte, int(h.Len)-len(header))
			if _, err := io.ReadFull(c, body); err != nil {
				return
			}
			m, err := bgp.ParseBGPBody(h, body, &bgp.MarshallingOption{Use2ByteAS: true})
			if err != nil {
				t.Error(err)
				return
			}
			if update, ok := m.Body.(*bgp.BGPUpdate); ok {
				r.take(update)
			}
		}
	})
	return r
}

func (r *recorder) take(m *bgp.BGPUpdate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deaf {
		return
	}
	prefix := func(n bgp.PathNLRI) netip.Prefix { return netip.MustParsePrefix(n.NLRI.String()) }
	for _, n := range m.WithdrawnRoutes {
		delete(r.routes, prefix(n))
	}
	for _, n := range m.NLRI {
		r.routes[prefix(n)]++
	}
}

func (r *recorder) setDeaf(deaf bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = deaf
}

// has returns the routes, sorted, and how often the most frequent one was sent.
func (r *recorder) has() (prefixes []string, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.SortedFunc(maps.Keys(r.routes), netip.Prefix.Compare) {
		prefixes, most = append(prefixes, p.String()), max(most, r.routes[p])
	}
	return prefixes, most
}

func (r *recorder) peer(name string) plan.Peer {
	p := peerOf(name, r.address.String())
	p.Session.HoldTime, p.Session.KeepaliveTime = 90, 30 // it sends no KEEPALIVE
	return p
}

// A router that missed what changed while its session began is told as soon as gobgp sends: what is new, and what is gone. Another
// router, which missed nothing, is not sent its routes again, and who begins in peace is sent them once.
func TestMissedWhileBeginning(t *testing.T) {
	missed, other := record(t, "127.0.0.2"), record(t, "127.0.0.3")
	s := newQuietSpeaker(t)
	w := wanted([]plan.Peer{missed.peer("missed"), other.peer("other")}, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
	set(t, s, w)
	established(t, s, "missed", "other")
	has := func(r *recorder, prefixes ...string) {
		t.Helper()
		var got []string
		defer func() {
			if t.Failed() {
				t.Logf("the router has %v, wanted %v", got, prefixes)
			}
		}()
		netlab.Eventually(t, "the router has the routes", func() bool { got, _ = r.has(); return slices.Equal(got, prefixes) })
	}
	has(missed, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
	has(other, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
	time.Sleep(200 * time.Millisecond)
	for _, r := range []*recorder{missed, other} {
		if _, most := r.has(); most != 1 {
			t.Errorf("a route was sent %d times", most)
		}
	}

	missed.setDeaf(true)
	set(t, s, wanted(w.Peers, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.5/32"))
	has(other, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.5/32")
	missed.setDeaf(false)
	has(missed, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
	s.mu.Lock()
	s.peers["missed"].early = true
	s.attend(t.Context(), attendMin)
	s.mu.Unlock()
	has(missed, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.5/32")
	time.Sleep(200 * time.Millisecond)
	if _, most := other.has(); most != 1 {
		t.Errorf("a route of the other router was sent %d times", most)
	}
	has(other, "192.0.2.1/32", "192.0.2.2/32", "192.0.2.5/32")

	// A session that began later has missed nothing of that.
	_, before := missed.has()
	s.mu.Lock()
	p := s.peers["missed"]
	p.since, p.early = time.Now(), true
	s.attend(t.Context(), attendMin)
	early := p.early
	s.mu.Unlock()
	time.Sleep(200 * time.Millisecond)
	if _, now := missed.has(); now != before || early {
		t.Errorf("a route was sent again, or the session begins for ever (%v)", early)
	}
}

// Withdrawals are not remembered for longer than a session can have missed them.
func TestWithdrawalsAreForgotten(t *testing.T) {
	now := time.Now()
	s := newQuietSpeaker(t)
	at := func(ages ...time.Duration) {
		s.withdrawn = nil
		for _, age := range ages {
			s.withdrawn = append(s.withdrawn, withdrawal{at: now.Add(-age)})
		}
	}
	at(2*recall, recall+time.Second, time.Second)
	s.forgetWithdrawn()
	if n := len(s.withdrawn); n != 1 {
		t.Errorf("%d are left", n)
	}
	at(3*recall, 2*recall, recall+time.Second, time.Second)
	s.peers["tor"] = &peer{since: now.Add(-2*recall - time.Second), early: true}
	s.forgetWithdrawn()
	if n := len(s.withdrawn); n != 3 {
		t.Errorf("%d are left for a session that still begins", n)
	}
}

// Routes come and go all the time while sessions begin, again and again. In the end each router has what it should. That gobgp
// leaves out what hits the wrong moment is rare: to see it, have gobgp sleep for a millisecond before it takes a session for
// established (pkg/server/fsm.go, loop, before fsm.state.Store), and do not attend to early sessions.
func TestChangesWhileSessionsBegin(t *testing.T) {
	const routers, rounds = 20, 2
	var peers []plan.Peer
	var all []*recorder
	for i := range routers {
		r := record(t, fmt.Sprintf("127.0.1.%d", 1+i))
		p := r.peer(fmt.Sprintf("router%02d", i))
		p.BFD.Enabled = true
		peers, all = append(peers, p), append(all, r)
	}
	s := newQuietSpeaker(t)
	// Every other route stays; those between them go when the next one comes.
	var stay []string
	next := 0
	change := func() {
		prefix := fmt.Sprintf("10.%d.%d.0/24", next/256, next%256)
		if next++; next%2 == 0 {
			stay = append(stay, prefix)
			set(t, s, wanted(peers, stay...))
		} else {
			set(t, s, wanted(peers, append(slices.Clone(stay), prefix)...))
		}
	}
	change()
	for range rounds {
		for _, p := range peers {
			s.SetPath(p.Session.Address.Addr(), PathUp)
			s.SetPath(p.Session.Address.Addr(), PathDown) // it begins anew
		}
		for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
			change()
			if !slices.ContainsFunc(s.Status(), func(st Status) bool { return !st.Established() }) {
				break
			}
		}
		set(t, s, wanted(peers, stay...))
		for _, p := range peers {
			established(t, s, p.Name)
		}
		want := slices.Clone(stay)
		slices.SortFunc(want, func(a, b string) int { return netip.MustParsePrefix(a).Compare(netip.MustParsePrefix(b)) })
		wrong := func(r *recorder) bool { got, _ := r.has(); return !slices.Equal(got, want) }
		for deadline := time.Now().Add(5 * time.Second); slices.ContainsFunc(all, wrong) && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		for _, r := range slices.DeleteFunc(slices.Clone(all), func(r *recorder) bool { return !wrong(r) }) {
			got, _ := r.has()
			t.Errorf("after %d changes a router lacks %v and has %v", next, difference(want, got), difference(got, want))
		}
	}
}

// difference returns what is in a and not in b.
func difference(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return slices.Contains(b, x) })
}
