package main

import (
	"runtime/debug"
	"sync"
	"time"
)

// heldPercent is GOGC while collections are put off. It is not off: what is taken over then may be ten thousand addresses, again and
// again, on a node without much memory.
const heldPercent = 400

// garbage puts collections off while there is no time for them: to mark the heap takes tens of milliseconds of processor time, as long
// as it takes to announce hundreds of addresses. The zero value is ready; any goroutine may call it.
type garbage struct {
	mu      sync.Mutex
	until   time.Time
	restore *time.Timer // nil: nothing is put off
	percent int         // what was set before
}

// putOff has the next collection wait until the heap has grown to heldPercent, for that long. One that runs already goes on. It does not
// wait for anything.
func (g *garbage) putOff(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = time.Now().Add(d)
	if g.restore != nil {
		return
	}
	before := debug.SetGCPercent(heldPercent)
	if before < 0 || before >= heldPercent { // whoever runs the agent has chosen so
		debug.SetGCPercent(before)
		return
	}
	g.percent = before
	g.restore = time.AfterFunc(d, g.end)
}

func (g *garbage) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if more := time.Until(g.until); more > 0 {
		g.restore.Reset(more)
		return
	}
	debug.SetGCPercent(g.percent)
	g.restore = nil
}
