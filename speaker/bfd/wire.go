package bfd

import (
	"errors"
	"net/netip"
	"time"
)

// wire is where packets go and come from: the kernel, or a model of a network in tests.
type wire interface {
	// listen receives the control packets of a family. From then on arrived is called, never twice at once, when packets
	// may be there to drain; it must drain them all.
	listen(ipv6 bool, arrived func()) (listener, error)
	// dial opens a session's way out from the source port. ifindex is that of the session's interface, 0 if it has none.
	dial(s *Session, port uint16) (out sender, ifindex int, err error)
	// watchdog returns one that has yet to be put off; nil if there is no need for it.
	watchdog() (watchdog, error)
}

// watchdog is a realtime.Watchdog.
type watchdog interface {
	PutOff(now, until time.Time)
	Run(late func() bool) error
	Stop()
}

type listener interface {
	// drain hands over at most limit datagrams that are there, and reports whether there were no more. The datagram is
	// valid during the call.
	drain(limit int, each func(*datagram)) (empty bool)
	// close returns when arrived has returned for the last time.
	close()
}

type sender interface {
	// send sends a packet. An error that wraps errSent is about an earlier one.
	send(b []byte) error
	close()
}

// errSent marks an error with which a packet was sent nevertheless.
var errSent = errors.New("an earlier packet came back")

// datagram is a received packet and what the kernel says about it.
type datagram struct {
	payload  []byte
	src, dst netip.Addr
	ifindex  int
	// ttl is -1 if it is not known.
	ttl int
}
