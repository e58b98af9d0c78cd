package l2

import "time"

// bucket limits the rate of frames: it holds at most size tokens, is full at first, and gets rate of them each second. What is
// not urgent leaves the reserve in it.
type bucket struct {
	rate, size, reserve int

	tokens float64
	at     time.Time
}

// newBucket returns a bucket of which four fifths are in reserve. However small it is meant, it has room for a batch.
func newBucket(rate, size int) *bucket {
	size = max(size, 5*batchFrames)
	return &bucket{rate: max(rate, 1), size: size, reserve: size / 5 * 4, tokens: float64(size)}
}

// take takes n tokens, at most a fifth of the size, or returns after how long there will be as many.
func (b *bucket) take(now time.Time, n int, urgent bool) (wait time.Duration) {
	if !b.at.IsZero() {
		b.tokens = min(float64(b.size), b.tokens+now.Sub(b.at).Seconds()*float64(b.rate))
	}
	b.at = now
	missing := float64(n) - b.tokens
	if !urgent {
		missing += float64(b.reserve)
	}
	if missing > 0 {
		return time.Duration(missing/float64(b.rate)*float64(time.Second)) + time.Microsecond
	}
	b.tokens -= float64(n)
	return 0
}

// put gives back tokens that were not used.
func (b *bucket) put(n int) { b.tokens = min(float64(b.size), b.tokens+float64(n)) }
