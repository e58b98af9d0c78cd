package realtime

import (
	"sync/atomic"
	"testing"
	"time"
)

// A watchdog goes off as long as it is not put off, not before its time, and ends when it is told to.
func TestWatchdog(t *testing.T) {
	w, err := NewWatchdog()
	if err != nil {
		t.Fatal(err)
	}
	var late atomic.Int64
	var over atomic.Bool
	ended := make(chan error)
	barked := make(chan struct{}, 100)
	go func() {
		ended <- w.Run(func() bool {
			again := !over.Load()
			late.Add(1)
			barked <- struct{}{}
			return again
		})
	}()
	// Put off again and again, to an hour from now: never.
	for range 100 {
		now := time.Now()
		w.PutOff(now, now.Add(time.Hour))
	}
	if n := late.Load(); n != 0 {
		t.Errorf("it went off %d times though it was put off", n)
	}
	now := time.Now()
	w.PutOff(now, now.Add(20*time.Millisecond))
	<-barked
	if d := time.Since(now); d < 20*time.Millisecond {
		t.Errorf("it went off after %v", d)
	}
	over.Store(true)
	w.Stop()
	<-ended // with the error of LockThread, where that has no rights
	if n := late.Load(); n != 2 {
		t.Errorf("it went off %d times, want 2", n)
	}
}
