package bfd

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/fsm"
	"github.com/seamark-io/seamark/speaker/bfd/packet"
)

const (
	// batch is how many packets are taken before timers are looked at again, and others get the lock.
	batch = 64
	// backlog is how many packets are looked through before a peer is given up: more than a socket's buffer holds.
	backlog = 1 << 14
	// idle is how long the timer's goroutine sleeps when nothing is due.
	idle = time.Hour
	// grace is how late the timer's goroutine may be before a real-time thread does its work: a fifth of the usual interval.
	grace = 10 * time.Millisecond
)

// run does what is due until ctx ends.
func (s *Speaker) run(ctx context.Context) {
	defer close(s.stopped)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		s.mu.Lock()
		now := time.Now()
		s.step(now)
		wait := idle
		s.armed = time.Time{}
		if len(s.due) > 0 {
			s.armed = s.due[0].due
			wait = time.Until(s.armed)
		}
		s.putOff(now)
		s.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// putOff tells the watchdog that all is well until something is overdue. The lock is held.
func (s *Speaker) putOff(now time.Time) {
	if s.watchdog == nil {
		return
	}
	until := now.Add(idle)
	if len(s.due) > 0 {
		until = s.due[0].due.Add(grace)
	}
	s.watchdog.PutOff(now, until)
}

// standIn does what is due on the watchdog's thread; it returns false when the watchdog is not wanted any more.
func (s *Speaker) standIn(w watchdog) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchdog != w {
		return false
	}
	now := time.Now()
	s.step(now)
	s.putOff(now)
	return true
}

// rouse has the timer's goroutine look again.
func (s *Speaker) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// arrived takes in the packets of a family until there are no more.
func (s *Speaker) arrived(ipv6 bool) {
	for empty := false; !empty; {
		s.mu.Lock()
		l := s.listeners[ipv6]
		if l == nil {
			s.mu.Unlock()
			return
		}
		now := time.Now()
		empty = l.drain(batch, func(d *datagram) { s.receive(now, d) })
		s.step(now)
		earlier := len(s.due) > 0 && (s.armed.IsZero() || s.due[0].due.Before(s.armed))
		s.mu.Unlock()
		if earlier {
			s.rouse()
		}
	}
}

// step does what is due. Before it gives up a peer it looks whether a packet of it has arrived meanwhile: this process may
// have been kept from running, and that is not the peer's failure.
func (s *Speaker) step(now time.Time) {
	looked := false
	for len(s.due) > 0 && !s.due[0].due.After(now) {
		n := s.due[0]
		if e := n.machine.Expiry(); !looked && !e.IsZero() && !e.After(now) {
			looked = true
			for _, l := range s.listeners {
				l.drain(backlog, func(d *datagram) { s.receive(now, d) })
			}
			continue
		}
		s.act(now, n, n.machine.Advance(now))
	}
	if s.quiet != nil && len(s.due) == 0 {
		close(s.quiet)
		s.quiet = nil
	}
}

// receive gives a packet to its session, or counts why it does not.
func (s *Speaker) receive(now time.Time, d *datagram) {
	c, n, verdict := s.judge(d)
	if verdict == packet.Accepted {
		s.stats.Received++
		n.stats.Received++
		before := n.seen()
		s.act(now, n, n.machine.Receive(now, &c))
		if n.seen() != before {
			s.signal()
		}
		return
	}
	s.stats.Dropped[verdict]++
	if n != nil {
		n.stats.Dropped[verdict]++
	}
}

// judge decides on a packet. The session of a packet that is not accepted is the one that it may have been meant for, if any.
func (s *Speaker) judge(d *datagram) (packet.Control, *session, packet.Verdict) {
	c, verdict := packet.Control{}, packet.Routed
	if d.ttl == ttl {
		c, verdict = packet.Parse(d.payload)
	}
	named := s.byDiscriminator[c.YourDiscriminator]
	if verdict == packet.Accepted && named != nil {
		return c, named, named.accepts(d)
	}
	from, where := s.ofPeer(d)
	switch {
	case verdict != packet.Accepted:
		return c, from, verdict
	case c.YourDiscriminator != 0:
		return c, from, packet.UnknownSession
	}
	return c, from, where
}

// ofPeer finds the session by where the packet came from.
func (s *Speaker) ofPeer(d *datagram) (*session, packet.Verdict) {
	found, verdict := (*session)(nil), packet.UnknownPeer
	for _, n := range s.byPeer[d.src] {
		if found, verdict = n, n.accepts(d); verdict == packet.Accepted {
			break
		}
	}
	return found, verdict
}

// accepts judges where a packet came from.
func (n *session) accepts(d *datagram) packet.Verdict {
	switch {
	case d.src != n.Peer:
		return packet.WrongSource
	case n.Interface != "" && d.ifindex != n.ifindex:
		return packet.WrongInterface
	case n.Local.IsValid() && d.dst != n.Local:
		return packet.WrongDestination
	}
	return packet.Accepted
}

// act sends what the machine wants sent, notes a change of state, and waits for the next deadline.
func (s *Speaker) act(now time.Time, n *session, out fsm.Output) {
	for _, c := range out.Packets() {
		s.send(n, &c)
	}
	remote := n.machine.Remote()
	if out.Changed() {
		n.since = now
		if out.From == packet.Up && out.To == packet.Down && remote.State != packet.AdminDown {
			n.failed = true
			n.downs++
			n.lastDown = Down{At: now, Diag: n.machine.Diag(), RemoteState: remote.State, RemoteDiag: remote.Diag}
		}
		s.signal()
	}
	if out.To == packet.Up || remote.State == packet.AdminDown { // RFC 5882 section 3.2: who ends BFD says nothing of the path
		n.failed = false
	}
	s.due.update(n)
	if n.place == nowhere && n.machine.State() == packet.AdminDown {
		n.hangUp()
	}
}

func (s *Speaker) send(n *session, c *packet.Control) {
	if n.out == nil && !s.dial(n) {
		s.stats.SendErrors++
		n.stats.SendErrors++
		return
	}
	s.buf = packet.Append(s.buf[:0], c)
	err := n.out.send(s.buf)
	if err == nil || errors.Is(err, errSent) {
		s.stats.Sent++
		n.stats.Sent++
	} else {
		s.stats.SendErrors++
		n.stats.SendErrors++
		n.hangUp() // the next packet tries with a new socket: addresses and interfaces come and go
	}
	s.trouble(n, sendWords(err))
}

// dial opens the session's socket, with another source port if that one is taken.
func (s *Speaker) dial(n *session) bool {
	for range 32 {
		out, ifindex, err := s.wire.dial(&n.Session, n.port)
		if errors.Is(err, unix.EADDRINUSE) {
			n.port = s.freePort()
			continue
		}
		if err != nil {
			n.ifindex = 0
			s.trouble(n, sendWords(err))
			return false
		}
		n.out, n.ifindex = out, ifindex
		return true
	}
	s.trouble(n, "no free source port")
	return false
}

func (n *session) hangUp() {
	if n.out != nil {
		n.out.close()
		n.out = nil
	}
}

func (s *Speaker) trouble(n *session, words string) {
	if n.problem != words {
		n.problem = words
		s.signal()
	}
}
