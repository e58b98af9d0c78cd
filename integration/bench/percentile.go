package bench

import (
	"cmp"
	"math"
	"slices"
)

// Percentile returns the smallest of the samples that at least p percent of them do not exceed (nearest rank), p above 0
// and up to 100. It is the zero value if there are no samples.
func Percentile[T cmp.Ordered](samples []T, p float64) T {
	if len(samples) == 0 {
		var none T
		return none
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
