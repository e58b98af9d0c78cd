package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/fsm"
)

// The range of intervals. Below it a process among others cannot keep what it promises.
const (
	MinInterval = 10 * time.Millisecond
	MaxInterval = time.Minute
)

// Session is a wanted session. Sessions are comparable; Peer, Local and Interface together tell one from another, and what
// else changes is negotiated anew while the session stays as it is.
type Session struct {
	// Peer is the router, on a link of this host, without a zone.
	Peer netip.Addr
	// Local is the address to send from, and the only one at which packets are taken. Invalid: the kernel chooses, and any.
	Local netip.Addr
	// Interface to send by, and the only one at which packets are taken; needed for a link-local IPv6 peer. Empty: the
	// kernel chooses, and any.
	Interface string
	// MinTx and MinRx are the intervals, from MinInterval to MaxInterval, between packets that this end would like to send
	// and is ready to receive. The slower of MinTx and the peer's MinRx is used.
	MinTx, MinRx time.Duration
	// Multiplier says after how many missing packets the peer gives this end up. At least 1; 1 means that a single lost
	// packet does.
	Multiplier uint8
	// Passive: say nothing before the peer does. At most one end may be passive.
	Passive bool
	// Independent tells the peer that the session outlives a restart of the control plane (the C bit, RFC 5882 section
	// 4.3.2). It does not while this package runs in the speaker.
	Independent bool
}

// identity tells sessions from each other.
type identity struct {
	peer, local netip.Addr
	iface       string
}

func (s *Session) identity() identity { return identity{s.Peer, s.Local, s.Interface} }

func (i identity) compare(o identity) int {
	return cmp.Or(i.peer.Compare(o.peer), i.local.Compare(o.local), cmp.Compare(i.iface, o.iface))
}

// name is how errors call the session.
func (s *Session) name() string {
	name := s.Peer.String()
	if s.Local.IsValid() {
		name += " from " + s.Local.String()
	}
	if s.Interface != "" {
		name += " on " + s.Interface
	}
	return name
}

func (s *Session) config() fsm.Config {
	return fsm.Config{MinTx: s.MinTx, MinRx: s.MinRx, Multiplier: s.Multiplier, Passive: s.Passive, Independent: s.Independent}
}

// check returns all that is wrong with a session.
func (s *Session) check() error {
	var errs []error
	if !unicast(s.Peer) {
		errs = append(errs, fmt.Errorf("%q is not the address of one host, without a zone", s.Peer))
	}
	if s.Local.IsValid() && (!unicast(s.Local) || s.Local.Is4() != s.Peer.Is4()) {
		errs = append(errs, fmt.Errorf("%q is no source address for packets to %s", s.Local, s.Peer))
	}
	if s.Peer.Is6() && s.Peer.IsLinkLocalUnicast() && s.Interface == "" {
		errs = append(errs, errors.New("a link-local address needs an interface"))
	}
	for what, d := range map[string]time.Duration{"transmit": s.MinTx, "receive": s.MinRx} {
		if d < MinInterval || d > MaxInterval {
			errs = append(errs, fmt.Errorf("a %s interval of %s is not between %s and %s", what, d, MinInterval, MaxInterval))
		}
	}
	if s.Multiplier == 0 {
		errs = append(errs, errors.New("the multiplier is zero"))
	}
	return errors.Join(errs...)
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast()
}
