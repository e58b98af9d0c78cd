package pace

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Pulse tells whether a loop gets on. The loop says when it begins a piece of work and when it has ended it; whoever wants
// to know asks. A loop that waits for something to do is well. The zero value is ready to use, from any goroutine.
type Pulse struct{ begun atomic.Pointer[time.Time] }

// Begin notes that work begins now. It returns what notes its end.
func (p *Pulse) Begin(now time.Time) (end func()) {
	p.begun.Store(&now)
	return func() { p.begun.Store(nil) }
}

// Stuck returns an error if work is under way that began longer than most ago.
func (p *Pulse) Stuck(now time.Time, most time.Duration) error {
	if begun := p.begun.Load(); begun != nil && now.Sub(*begun) > most {
		return fmt.Errorf("has been at one piece of work for %s", now.Sub(*begun).Round(time.Second))
	}
	return nil
}

// Hang is how long a loop may take for a piece of work before it counts as stuck: what a part does at a time takes seconds
// at the most, in the largest cluster.
const Hang = time.Minute
