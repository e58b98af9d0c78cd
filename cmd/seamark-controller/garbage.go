package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The controller holds every Service and VIP in memory: with many it is better to collect garbage when a seventh of what is in use has
// come on top than when it is as much again, Go's default. With few that would be all the time; so there is room for some at least.
const (
	leastPercent = 15
	leastRoom    = 10 << 20
)

// gcPercent is the value of GOGC for so many bytes in use.
func gcPercent(live uint64) int { return max(leastPercent, int(100*leastRoom/max(live, leastRoom/4))) }

// collectGarbage has the runtime collect garbage by gcPercent, until ctx ends.
func collectGarbage(ctx context.Context) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for now := 0; ; {
		metrics.Read(live)
		if want := gcPercent(live[0].Value.Uint64()); now == 0 || want > now+now/10 || want < now-now/10 {
			debug.SetGCPercent(want)
			now = want
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
