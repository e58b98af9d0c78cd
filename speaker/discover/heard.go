package discover

import (
	"net/netip"
	"slices"
	"time"
)

// memory is how long a router counts after its last advertisement while another one is heard. It answers each solicitation.
const memory = 3*interval + 5*time.Second

// heard is which routers were heard on an interface, and when last. The zero value is none.
type heard struct {
	last map[netip.Addr]time.Time
	// current is the router that was the only one when it was found.
	current netip.Addr
}

// hear notes an advertisement.
func (h *heard) hear(router netip.Addr, now time.Time) {
	if h.last == nil {
		h.last = map[netip.Addr]time.Time{}
	}
	if len(h.last) < most || !h.last[router].IsZero() {
		h.last[router] = now
	}
}

// most bounds the routers of one interface that are remembered: whoever forges advertisements gets no memory for it.
const most = 16

// routers returns the router, or several if that is not clear, sorted. A router that was found stays: the silence of a router
// that is alone does not end a session, and neither does another router as long as the first is heard.
func (h *heard) routers(now time.Time) []netip.Addr {
	var lately []netip.Addr
	for a, at := range h.last {
		if now.Sub(at) <= memory {
			lately = append(lately, a)
		} else if a != h.current {
			delete(h.last, a)
		}
	}
	slices.SortFunc(lately, netip.Addr.Compare)
	switch {
	case h.current.IsValid() && (len(lately) == 0 || slices.Contains(lately, h.current)):
		return []netip.Addr{h.current}
	case len(lately) == 1:
		h.current = lately[0]
	default:
		h.current = netip.Addr{}
	}
	return lately
}
