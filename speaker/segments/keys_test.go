package segments

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// Keys that are too short are said to be, and keep nothing else from going on: addresses move when their owner is lost.
func TestShortKeys(t *testing.T) {
	host, a := agents(t, 3)
	short := []byte("0123456789abcde")
	if err := a[0].set(3, &cluster.HeartbeatKeys{Send: short, Accept: [][]byte{secret(1)}}, vip1); err == nil || a[0].HasKeys() || len(a[0].Status()) > 0 {
		t.Errorf("with a short key only: %v, %d segments", err, len(a[0].Status()))
	}
	keys := &cluster.HeartbeatKeys{Send: secret(1)}
	a[0].want(t, 3, keys, vip1)
	a[1].want(t, 3, keys)
	a[2].want(t, 3, keys)
	netlab.Eventually(t, "n0 has the address", func() bool { return a[0].MayAnswer(vip1) })

	// The one that is sealed with next: those that are long enough are accepted, so another may begin to seal with one.
	shortNext := &cluster.HeartbeatKeys{Send: secret(1), Accept: [][]byte{short, secret(2)}}
	for range 2 { // it is still wrong the next time
		for _, x := range a[1:] {
			if err := x.set(3, shortNext, vip1); err == nil || !strings.Contains(err.Error(), "15 bytes") {
				t.Errorf("a short key to accept: %v", err)
			}
		}
	}
	host.Run("ip link set eth0 down")
	owner := func() int {
		for i, x := range a {
			if x.MayAnswer(vip1) {
				return i
			}
		}
		return -1
	}
	netlab.Eventually(t, "another has the address", func() bool { return owner() > 0 })
	a[1].want(t, 3, &cluster.HeartbeatKeys{Send: secret(2), Accept: [][]byte{secret(1)}}, vip1)
	before := a[2].Status()[0].Stats.Opened
	netlab.Eventually(t, "n2 hears n1 by the other key", func() bool {
		return a[2].Status()[0].Stats.Opened[wire.Opened] > before[wire.Opened]+10
	})
	if now := a[2].Status()[0].Stats.Opened; now[wire.UnknownKey] > 0 {
		t.Errorf("n2 did not know the key of %d heartbeats", now[wire.UnknownKey])
	}

	// The one to seal with: nodes go on with those that they have.
	for _, x := range a[1:] {
		if err := x.set(3, &cluster.HeartbeatKeys{Send: short, Accept: [][]byte{secret(3)}}, vip1, vip2); err == nil || !strings.Contains(err.Error(), "15 bytes") {
			t.Errorf("a short key: %v", err)
		}
	}
	netlab.Eventually(t, "one has the address that is new", func() bool { return a[1].MayAnswer(vip2) != a[2].MayAnswer(vip2) })
	for _, x := range a[1:] {
		x.want(t, 3, nil, vip1, vip2) // and so they do without the Secret
	}
}

// Two nodes learn of a key that neither has accepted before, one well after the other: each always knows the key of what it hears,
// and in the end the old one is worth nothing.
func TestReplacedKey(t *testing.T) {
	_, a := agents(t, 2)
	const apart = time.Second
	old, other := &cluster.HeartbeatKeys{Send: secret(1)}, &cluster.HeartbeatKeys{Send: secret(2)}
	for i, x := range a {
		x.keys.hold = 2 * apart
		x.want(t, 2, old, []netip.Addr{vip1, vip2}[i])
	}
	netlab.Eventually(t, "both have their addresses", func() bool { return a[0].MayAnswer(vip1) && a[1].MayAnswer(vip2) })
	a[0].want(t, 2, other, vip1)
	time.Sleep(apart)
	a[1].want(t, 2, other, vip2)
	done := time.After(20 * time.Second)
	for !sameKeys(a[0].keys.current, other) || !sameKeys(a[1].keys.current, other) {
		select {
		case <-a[0].Changed():
			a[0].want(t, 2, other, vip1)
		case <-a[1].Changed():
			a[1].want(t, 2, other, vip2)
		case <-done:
			t.Fatalf("they go by %+v and %+v", a[0].keys.current, a[1].keys.current)
		}
	}
	for i, x := range a {
		for result, n := range x.Status()[0].Stats.Opened {
			if n > 0 && wire.Result(result) != wire.Opened {
				t.Errorf("n%d: %d heartbeats came to the result %s", i, n, wire.Result(result))
			}
		}
	}
}

// Which keys a node seals with and takes, at the given seconds after the last ones of those that it was given.
func TestKeyring(t *testing.T) {
	const never = time.Duration(0)
	k := func(send byte, accept ...byte) *cluster.HeartbeatKeys {
		out := &cluster.HeartbeatKeys{Send: secret(send)}
		for _, c := range accept {
			out.Accept = append(out.Accept, secret(c))
		}
		return out
	}
	for name, tt := range map[string]struct {
		given []*cluster.HeartbeatKeys // a second apart
		after time.Duration
		want  *cluster.HeartbeatKeys
		again time.Duration
	}{
		"the first":                    {[]*cluster.HeartbeatKeys{k(1)}, 0, k(1), never},
		"rotated, another to take":     {[]*cluster.HeartbeatKeys{k(1), k(1, 2)}, 0, k(1, 2), never},
		"rotated, the other":           {[]*cluster.HeartbeatKeys{k(1), k(1, 2), k(2, 1)}, 0, k(2, 1), never},
		"rotated, the old one is gone": {[]*cluster.HeartbeatKeys{k(1), k(1, 2), k(2, 1), k(2)}, 0, k(2), never},
		"rotated, one step missed":     {[]*cluster.HeartbeatKeys{k(1), k(2, 1)}, 0, k(2, 1), never},
		"replaced, at once":            {[]*cluster.HeartbeatKeys{k(1), k(2)}, 0, k(1, 2), 10 * time.Second},
		"replaced, a little later":     {[]*cluster.HeartbeatKeys{k(1), k(2)}, 9 * time.Second, k(1, 2), time.Second},
		"replaced, when all know":      {[]*cluster.HeartbeatKeys{k(1), k(2)}, 10 * time.Second, k(2, 1), 20 * time.Second},
		"replaced, in the end":         {[]*cluster.HeartbeatKeys{k(1), k(2)}, 30 * time.Second, k(2), never},
		"replaced, and told again":     {[]*cluster.HeartbeatKeys{k(1), k(2), k(2)}, 9 * time.Second, k(2, 1), 20 * time.Second},
		"replaced, and one more":       {[]*cluster.HeartbeatKeys{k(1), k(2), k(2, 3)}, 0, k(1, 2, 3), 9 * time.Second},
		"replaced twice":               {[]*cluster.HeartbeatKeys{k(1), k(2), k(3)}, 0, k(1, 3), 10 * time.Second},
		"replaced, and lost":           {[]*cluster.HeartbeatKeys{k(1), k(2), nil}, 29 * time.Second, k(2), never},
	} {
		t.Run(name, func(t *testing.T) {
			r := keyring{hold: 10 * time.Second}
			now := time.Unix(0, 0)
			for i, g := range tt.given {
				now = time.Unix(int64(i), 0)
				if err := r.give(g, now); err != nil {
					t.Fatal(err)
				}
				r.at(now)
			}
			got, again := r.at(now.Add(tt.after))
			if !sameKeys(got, tt.want) || again != tt.again {
				t.Errorf("got %+v, again after %v, want %+v, %v", got, again, tt.want, tt.again)
			}
			if same, _ := r.at(now.Add(tt.after)); same != got {
				t.Error("the same keys are others the next time")
			}
		})
	}
}
