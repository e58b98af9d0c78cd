package pace

import (
	"testing"
	"time"
)

// A few runs in a row are free; a stream of them is held to its share; after a pause a few are free again.
func TestPacer(t *testing.T) {
	const (
		share = 0.05
		burst = 50 * time.Millisecond
		run   = 4 * time.Millisecond
	)
	p := New(share, burst)
	now := time.Unix(0, 0)
	free := func() (n int) {
		for {
			rest := p.Rest(now.Add(run), run)
			now = now.Add(run + rest)
			if rest > 0 {
				return n
			}
			n++
		}
	}
	if n := free(); n < 12 || n > 13 {
		t.Errorf("%d runs of %s in a row, with a burst of %s", n, run, burst)
	}
	start, runs := now, 0
	for now.Sub(start) < 10*time.Second {
		now = now.Add(run + p.Rest(now.Add(run), run))
		runs++
	}
	if took := time.Duration(runs) * run; took > 510*time.Millisecond || took < 450*time.Millisecond {
		t.Errorf("%s of work in 10 s, want a share of %v", took, share)
	}
	now = now.Add(time.Minute)
	if n := free(); n < 12 || n > 13 {
		t.Errorf("%d runs in a row after a pause", n)
	}
	// One long run is paid for, but not for long.
	now = now.Add(time.Minute)
	if rest := p.Rest(now.Add(10*time.Second), 10*time.Second); rest != most {
		t.Errorf("after a run of 10 s: rest of %s", rest)
	}
	now = now.Add(10*time.Second + most)
	if rest := p.Rest(now.Add(run), run); rest > 100*time.Millisecond {
		t.Errorf("after that rest: another of %s", rest)
	}
}
