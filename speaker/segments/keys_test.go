package segments

import (
	"strings"
	"testing"

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
