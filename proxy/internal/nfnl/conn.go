package nfnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer holds what the kernel queues for us before we read it: one error for each refused message.
	receiveBuffer = 4 << 20
	// receiveTimeout is never reached: the kernel answers while it takes the request.
	receiveTimeout = 10 * time.Second
)

// Conn is a netlink socket to the netfilter of the network namespace in which it was opened. The kernel handles a request
// within the send, so that answers are there when the send returns. It must not be used concurrently.
type Conn struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	// sendLimit is the size of the send buffer: a transaction has to fit into it as a whole (EMSGSIZE otherwise).
	sendLimit int
	recv      []byte
}

// Dial opens a socket.
func Dial() (*Conn, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for netfilter: %w", err)
	}
	c := &Conn{conn: conn, recv: make([]byte, 1<<16)}
	if err := conn.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(fmt.Errorf("set the receive buffer: %w", err), conn.Close())
	}
	if c.raw, err = conn.SyscallConn(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.conn.Close() }

func (c *Conn) send(b []byte) error {
	if err := c.drain(); err != nil {
		return err
	}
	if len(b) > c.sendLimit {
		// Needs CAP_NET_ADMIN, which all of this does; the limit net.core.wmem_max does not count then.
		if err := c.conn.SetWriteBuffer(2 * len(b)); err != nil {
			return fmt.Errorf("make room for a message of %d bytes: %w", len(b), err)
		}
		c.sendLimit = 2 * len(b)
	}
	var err error
	if e := c.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return err != unix.EAGAIN
	}); e != nil {
		return e
	}
	return os.NewSyscallError("sendto", err)
}

// receive returns the next datagram; it is valid until the next call.
func (c *Conn) receive() ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(receiveTimeout)); err != nil {
		return nil, err
	}
	var n int
	var err error
	if e := c.raw.Read(func(fd uintptr) bool {
		n, _, err = unix.Recvfrom(int(fd), c.recv, 0)
		return err != unix.EAGAIN
	}); e != nil {
		return nil, e
	}
	return c.recv[:max(n, 0)], os.NewSyscallError("recvfrom", err)
}

// drain forgets what is left of earlier answers: a refused transaction has one for each message that is wrong.
func (c *Conn) drain() error {
	// The deadline of the last answer has passed by now.
	err := c.conn.SetReadDeadline(time.Time{})
	if err != nil {
		return err
	}
	e := c.raw.Read(func(fd uintptr) bool {
		for err == nil {
			_, _, err = unix.Recvfrom(int(fd), c.recv, unix.MSG_DONTWAIT)
		}
		return true
	})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		err = nil
	}
	return errors.Join(e, os.NewSyscallError("recvfrom", err))
}

// Commit sends what was written, which must ask for an answer at its end (EndBatch, LeaveBatchOpen, Acknowledge), and returns the first
// error that the kernel has with it, as a [syscall.Errno].
func (c *Conn) Commit(w *Writer) error {
	if err := c.send(w.buf); err != nil {
		return err
	}
	for {
		b, err := c.receive()
		if err != nil {
			return err
		}
		for _, m := range split(b) {
			if m.msgType != unix.NLMSG_ERROR || len(m.payload) < 4 {
				continue
			}
			if errno := -int32(binary.NativeEndian.Uint32(m.payload)); errno != 0 {
				return syscall.Errno(errno)
			}
			return nil
		}
	}
}

// ErrInterrupted says that what was to be read changed meanwhile.
var ErrInterrupted = errors.New("the kernel's state changed while it was read")

// Dump sends a request and calls f with the payload, behind struct nfgenmsg, of each answer as it comes; payload is valid
// during the call only. Errors of the kernel are of type [syscall.Errno].
func (c *Conn) Dump(w *Writer, f func(payload []byte)) error {
	if err := c.send(w.buf); err != nil {
		return err
	}
	interrupted := false
	for {
		b, err := c.receive()
		if err != nil {
			return err
		}
		for _, m := range split(b) {
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.msgType == unix.NLMSG_ERROR && len(m.payload) >= 4:
				if errno := -int32(binary.NativeEndian.Uint32(m.payload)); errno != 0 {
					return syscall.Errno(errno)
				}
				return nil
			case m.msgType == unix.NLMSG_DONE:
				if interrupted {
					return ErrInterrupted
				}
				return nil
			case len(m.payload) >= 4:
				f(m.payload[4:])
			}
		}
	}
}

type datagram struct {
	msgType, flags uint16
	payload        []byte
}

func split(b []byte) []datagram {
	var out []datagram
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			break
		}
		out = append(out, datagram{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[unix.NLMSG_HDRLEN:n]})
		b = b[min((n+3)&^3, len(b)):]
	}
	return out
}
