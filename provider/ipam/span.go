package ipam

import (
	"container/heap"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"

	"go4.org/netipx"
)

// span finds the lowest free address of one range.
//
// Every address below next was held once; those of them that are free again stand in freed. So neither a /64 nor a
// full pool costs anything to search.
type span struct {
	netipx.IPRange
	avoidBuggy bool
	next       netip.Addr // the zero Addr past the end
	freed      addrHeap
	inFreed    map[netip.Addr]struct{}
}

func newSpan(r netipx.IPRange, avoidBuggy bool) *span {
	return &span{IPRange: r, avoidBuggy: avoidBuggy, next: r.From(), inFreed: map[netip.Addr]struct{}{}}
}

// lowest returns the lowest usable address that is not held; the zero Addr when there is none. Who stops holding an
// address must release it.
func (s *span) lowest(held func(netip.Addr) bool) netip.Addr {
	for len(s.freed) > 0 {
		if a := s.freed[0]; !held(a) {
			return a
		}
		// Taken by name while it stood here.
		delete(s.inFreed, heap.Pop(&s.freed).(netip.Addr))
	}
	for s.next.IsValid() && (held(s.next) || !s.usable(s.next)) {
		s.next = s.next.Next()
		if !s.Contains(s.next) {
			s.next = netip.Addr{}
		}
	}
	return s.next
}

// release notes that an address of the range is free again.
func (s *span) release(a netip.Addr) {
	if s.next.IsValid() && !a.Less(s.next) || !s.usable(a) {
		return
	}
	if _, ok := s.inFreed[a]; ok {
		return
	}
	s.inFreed[a] = struct{}{}
	heap.Push(&s.freed, a)
}

// usable reports whether the address, which is in the range, can be given out.
func (s *span) usable(a netip.Addr) bool { return !s.avoidBuggy || !buggy(a) }

// buggy reports whether some old devices take the address for that of a network or a broadcast.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

// size returns the number of usable addresses, at most math.MaxInt64.
func (s *span) size() int64 {
	if s.From().Is4() {
		from, to := int64(v4(s.From())), int64(v4(s.To()))
		n := to - from + 1
		if s.avoidBuggy {
			n -= buggyUpTo(to) - buggyUpTo(from-1)
		}
		return n
	}
	from, to := s.From().As16(), s.To().As16()
	low, borrow := bits.Sub64(binary.BigEndian.Uint64(to[8:]), binary.BigEndian.Uint64(from[8:]), 0)
	high, _ := bits.Sub64(binary.BigEndian.Uint64(to[:8]), binary.BigEndian.Uint64(from[:8]), borrow)
	if high > 0 || low >= maxCount {
		return maxCount
	}
	return int64(low) + 1
}

func v4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// buggyUpTo counts the addresses from 0.0.0.0 to n that end in .0 or .255; n may be -1.
func buggyUpTo(n int64) int64 { return (n+256)/256 + (n+1)/256 }

const maxCount = math.MaxInt64

// addSaturating adds two counts that are not negative.
func addSaturating(a, b int64) int64 {
	if a > maxCount-b {
		return maxCount
	}
	return a + b
}

// addrHeap is a heap of addresses, the lowest first.
type addrHeap []netip.Addr

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].Less(h[j]) }
func (h addrHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *addrHeap) Push(a any)        { *h = append(*h, a.(netip.Addr)) }
func (h *addrHeap) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	*h = (*h)[:last]
	return a
}
