package cputime

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Of runs f and returns the processor time that it took in its goroutine. Time in which it waits does not count, be it for the
// kernel, for a lock, or on a busy node for a processor: that is just when a loop must not be slowed down further. What f has
// other goroutines do does not count either.
func Of(f func()) time.Duration {
	runtime.LockOSThread() // so that the goroutine's time is the thread's
	defer runtime.UnlockOSThread()
	before := ofThread()
	f()
	return ofThread() - before
}

// ofThread is what the calling thread has used: clock_gettime(2), which fails for clocks that do not exist, and this one does.
func ofThread() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
