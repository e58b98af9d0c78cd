package l2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// An address is announced at once and after 1, 3 and 10 seconds, then with all others each minute, and never after it was
// given up.
func TestAnnouncer(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var owned atomic.Pointer[respond.Owned]
		owned.Store(&respond.Owned{a: {}, b: {}})
		var got []string
		an := newAnnouncer(func() respond.Owned { return *owned.Load() }, func(addr netip.Addr) {
			got = append(got, fmt.Sprintf("%s@%s", addr, time.Since(start)))
		})
		ctx, cancel := context.WithCancel(t.Context())
		go an.run(ctx)
		an.take([]netip.Addr{a})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		an.take([]netip.Addr{b})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		owned.Store(&respond.Owned{b: {}}) // a is given up after four seconds
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		want := []string{"192.0.2.1@0s", "192.0.2.1@1s", "192.0.2.2@2s", "192.0.2.1@3s", "192.0.2.2@3s", "192.0.2.2@5s", "192.0.2.2@12s", "192.0.2.2@1m0s"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}
