package segment

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// step is by how much CLOCK_REALTIME may run away from CLOCK_BOOTTIME between two looks, for it not to have been set: it is
// slewed by half a per mille at most, and the two cannot be read at the same instant.
const step = time.Millisecond

// arrivals tells when frames arrived that were read later. The kernel stamps them by CLOCK_REALTIME, which can be set. It must never say
// that a frame arrived earlier than it did: a node would be given up too early.
type arrivals struct {
	now liveness.Time
	// offset is that of CLOCK_REALTIME, trusted whether it is the same as at the last look.
	offset  int64
	trusted bool
	// empty is when there were no more frames to read, as of the last time.
	empty liveness.Time
}

// begin is called before frames are read.
func (a *arrivals) begin() { a.look(Now(), realtimeNow()) }

func (a *arrivals) look(now liveness.Time, realtime int64) {
	offset := realtime - int64(now)
	change := time.Duration(offset - a.offset)
	a.trusted = a.offset != 0 && change.Abs() < step
	a.now, a.offset = now, offset
}

// end is called when there were no more.
func (a *arrivals) end() { a.empty = a.now }

// at returns when a frame with this stamp arrived that was read now.
func (a *arrivals) at(now liveness.Time, stamp int64) liveness.Time {
	if stamp == 0 || !a.trusted {
		return now
	}
	arrived := liveness.Time(stamp - a.offset).Add(step)
	if arrived < a.empty { // it would have been read then
		return now
	}
	return min(arrived, now)
}

func realtimeNow() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &ts) // it cannot fail
	return ts.Nano()
}
