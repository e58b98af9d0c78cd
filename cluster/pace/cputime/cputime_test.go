package cputime

import (
	"testing"
	"time"
)

// Work counts, and waiting does not.
func TestOf(t *testing.T) {
	const wait = 200 * time.Millisecond
	worked := Of(func() {
		for start := ofThread(); ofThread()-start < 20*time.Millisecond; {
		}
	})
	if worked < 20*time.Millisecond {
		t.Errorf("%s for 20 ms of work", worked)
	}
	if waited := Of(func() { time.Sleep(wait) }); waited > wait/2 {
		t.Errorf("%s for waiting %s", waited, wait)
	}
}
