package segment

import (
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/liveness"
)

// A stamp of the kernel tells when a frame arrived, unless the clock was set, or it cannot be.
func TestArrivals(t *testing.T) {
	const ms = liveness.Time(time.Millisecond)
	const epoch = int64(1_700_000_000e9)
	for _, tt := range []struct {
		name string
		// set is by how much the clock is set between two looks, which are at 1,000 ms and 1,040 ms.
		set time.Duration
		// stamp is when the frame arrived, by the clock after that.
		stamp int64
		want  liveness.Time
	}{
		{"a while ago", 0, epoch + int64(1015*ms), 1016 * ms},
		{"just now", 0, epoch + int64(1040*ms), 1041 * ms},
		{"in the future, which is as good as now", 0, epoch + int64(1090*ms), 1041 * ms},
		{"before the last look, which cannot be", 0, epoch + int64(990*ms), 1041 * ms},
		{"no stamp", 0, 0, 1041 * ms},
		{"the clock is slewed", 20 * time.Microsecond, epoch + int64(1015*ms), 1016*ms - 20_000},
		{"the clock was set forward", time.Hour, epoch + int64(1015*ms), 1041 * ms},
		{"the clock was set back", -10 * time.Millisecond, epoch + int64(1030*ms), 1041 * ms},
	} {
		var a arrivals
		a.look(960*ms, epoch+int64(960*ms))
		a.look(1000*ms, epoch+int64(1000*ms))
		a.end()
		a.look(1040*ms, epoch+int64(1040*ms)+int64(tt.set))
		if got := a.at(1041*ms, tt.stamp); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, time.Duration(got), time.Duration(tt.want))
		}
	}
	var a arrivals
	a.look(1000*ms, epoch+int64(1000*ms))
	if got := a.at(1001*ms, epoch+int64(990*ms)); got != 1001*ms {
		t.Errorf("at the first look: %v", got)
	}
}
