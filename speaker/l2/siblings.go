package l2

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seamark-io/seamark/speaker/plan"
)

// knownFor is how long the answer whether a station is one of the cluster's holds.
const knownFor = 10 * time.Second

// siblings tells the Ethernet addresses of the cluster's nodes from others: by those that the plan knows, and by what the
// kernel's neighbour table has for the addresses of nodes. Its methods may be called from any goroutine.
type siblings struct {
	// lookUp returns the Ethernet address of a neighbour.
	lookUp func(ifindex int, a netip.Addr) (plan.MAC, bool)

	mu    sync.Mutex
	known []plan.MAC
	nodes []netip.Addr
	// found are answers from the neighbour table.
	found map[station]finding
}

type station struct {
	ifindex int
	mac     plan.MAC
}

type finding struct {
	sibling bool
	at      time.Time
}

// set replaces what the plan knows. The lists are sorted.
func (s *siblings) set(known []plan.MAC, nodes []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.known, known) || !slices.Equal(s.nodes, nodes) {
		s.known, s.nodes, s.found = known, nodes, nil
	}
}

// has reports whether the station is one of the cluster's nodes. It may ask the kernel, once in a while for each station.
func (s *siblings) has(ifindex int, mac plan.MAC, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Contains(s.known, mac) {
		return true
	}
	key := station{ifindex, mac}
	if f, ok := s.found[key]; ok && now.Sub(f.at) < knownFor {
		return f.sibling
	}
	sibling := slices.ContainsFunc(s.nodes, func(a netip.Addr) bool {
		m, ok := s.lookUp(ifindex, a)
		return ok && m == mac
	})
	if s.found == nil || len(s.found) > 1000 { // a station that changes its address all the time
		s.found = map[station]finding{}
	}
	s.found[key] = finding{sibling, now}
	return sibling
}
