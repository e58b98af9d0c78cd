package l2

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seamark-io/seamark/speaker/plan"
)

const (
	// defendInterval is the least time between two defences of an address (RFC 5227 section 1.1: DEFEND_INTERVAL). Two
	// stations that both defend would otherwise do nothing else.
	defendInterval = 10 * time.Second
	// forget is how long a station must be silent that uses an address of ours until that counts as over. It is asked each
	// minute.
	forget = 3*refresh + refresh/2
)

// Duplicate is a station that is none of the cluster's and uses an address of ours.
type Duplicate struct {
	Addr netip.Addr
	MAC  plan.MAC
	// Interface that it was seen on.
	Interface string
	// Since when it was seen, and when last.
	Since, Seen time.Time
}

// duplicates remembers them. Its methods may be called from any goroutine.
type duplicates struct {
	mu       sync.Mutex
	seen     map[netip.Addr]*sighting
	defences uint64
}

type sighting struct {
	Duplicate
	defended time.Time
}

func newDuplicates() *duplicates { return &duplicates{seen: map[netip.Addr]*sighting{}} }

// saw notes a station that used an address. It says whether that is news, and whether to defend the address.
func (d *duplicates) saw(addr netip.Addr, mac plan.MAC, iface string, now time.Time) (news, defend bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.seen[addr]
	if s == nil {
		s = &sighting{}
		d.seen[addr] = s
	}
	if news = s.MAC != mac || s.Interface != iface; news {
		s.Duplicate = Duplicate{Addr: addr, MAC: mac, Interface: iface, Since: now}
	}
	s.Seen = now
	if defend = s.defended.IsZero() || now.Sub(s.defended) >= defendInterval; defend {
		s.defended = now
		d.defences++
	}
	return news, defend
}

// prune forgets stations that have been silent, and those that use an address which is not ours any more. It reports whether
// there were any.
func (d *duplicates) prune(now time.Time, ours func(netip.Addr) bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.seen)
	for addr, s := range d.seen {
		if now.Sub(s.Seen) >= forget || !ours(addr) {
			delete(d.seen, addr)
		}
	}
	return len(d.seen) < before
}

// list returns them by address.
func (d *duplicates) list() []Duplicate {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Duplicate, 0, len(d.seen))
	for _, s := range d.seen {
		out = append(out, s.Duplicate)
	}
	slices.SortFunc(out, func(x, y Duplicate) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	return out
}

func (d *duplicates) defended() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.defences
}
