package pace

import "time"

// Pacer holds a loop to a share of a processor. It is for one goroutine.
type Pacer struct {
	share  float64
	burst  time.Duration
	credit time.Duration
	last   time.Time
}

// most is the longest rest: what is left of a debt then is forgiven. A loop whose single runs are long, such as the first
// after a start, is not to be late by many times that.
const most = time.Second

// What each of the agent's loops may use of one processor when changes stream in, and what is free before: a few changes are
// acted upon at once in the largest cluster, and five loops together take a sixteenth.
const (
	Share = 0.0125
	Burst = 100 * time.Millisecond
)

// New returns a Pacer for a loop that may take the given share of one processor (0.05 is a twentieth), and before that
// counts, burst.
func New(share float64, burst time.Duration) *Pacer {
	return &Pacer{share: share, burst: burst, credit: burst}
}

// Rest is told of a run of the loop, when it ended and what processor time it used, and returns how long to wait before the
// next: 0, unless the loop has taken more than its share lately.
func (p *Pacer) Rest(now time.Time, used time.Duration) time.Duration {
	if !p.last.IsZero() {
		earned := time.Duration(p.share * float64(now.Sub(p.last)))
		p.credit = min(p.burst, p.credit+earned)
	}
	p.last = now
	p.credit -= used
	if p.credit >= 0 {
		return 0
	}
	rest := time.Duration(float64(-p.credit) / p.share)
	if rest > most {
		rest = most
		p.credit = -time.Duration(p.share * float64(most))
	}
	return rest
}
