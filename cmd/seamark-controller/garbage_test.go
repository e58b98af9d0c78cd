package main

import (
	"context"
	"runtime/debug"
	"testing"
)

// Garbage may be 10 MiB, or 15 % of what is in use if that is more; where next to nothing is in use, four times as much.
func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for live, want := range map[uint64]int{0: 400, mib: 400, 5 * mib: 200, 10 * mib: 100, 20 * mib: 50, 60 * mib: 16, 70 * mib: 15, 1000 * mib: 15} {
		if got := gcPercent(live); got != want {
			t.Errorf("%d MiB in use: GOGC=%d, want %d", live/mib, got, want)
		}
	}
}

func TestCollectGarbage(t *testing.T) {
	before := debug.SetGCPercent(7)
	defer debug.SetGCPercent(before)
	ended, end := context.WithCancel(t.Context())
	end()
	collectGarbage(ended)
	if now := debug.SetGCPercent(before); now < leastPercent || now > 400 {
		t.Errorf("GOGC is %d", now)
	}
}
