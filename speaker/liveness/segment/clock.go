package segment

import (
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// Now reads CLOCK_BOOTTIME: it goes on while the machine is suspended, and nobody sets it.
func Now() liveness.Time {
	var ts unix.Timespec
	// It cannot fail: the clock has been there since Linux 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return liveness.Time(ts.Nano())
}
