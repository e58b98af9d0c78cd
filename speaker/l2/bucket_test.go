package l2

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	now := time.Unix(0, 0)
	b := newBucket(1000, 1000) // 800 in reserve
	take := func(n int, urgent bool, want time.Duration) {
		t.Helper()
		got := b.take(now, n, urgent).Truncate(time.Millisecond)
		if got != want {
			t.Errorf("take %d: wait %s, want %s", n, got, want)
		}
	}
	take(200, false, 0)
	take(64, false, 64*time.Millisecond) // what is not urgent leaves the reserve
	take(64, true, 0)
	take(736, true, 0)
	take(64, true, 64*time.Millisecond)
	now = now.Add(32 * time.Millisecond)
	take(64, true, 32*time.Millisecond)
	now = now.Add(32 * time.Millisecond)
	take(64, true, 0)
	b.put(64)
	take(64, true, 0)
	now = now.Add(time.Hour)
	take(200, false, 0)
	take(1, false, time.Millisecond)
	if b := newBucket(0, 0); b.take(now, batchFrames, false) != 0 {
		t.Error("a small bucket has no room for a batch")
	}
}
