package l2

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"

	mdpacket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// socket is a packet socket on one link. mdlayher/packet opens it; frames go past its methods, which allocate for each, and
// in batches. It may be read from one goroutine, and each sender is for one.
type socket struct {
	conn *mdpacket.Conn
	raw  syscall.RawConn
}

// open returns a socket that takes nothing until filtered.
func open(key segment) (*socket, error) {
	ethertype := unix.ETH_P_ARP
	if key.proto == ndp {
		ethertype = unix.ETH_P_IPV6
	}
	nothing, err := filter(key.proto, nil)
	if err != nil {
		return nil, err
	}
	ifi := &net.Interface{Index: key.link.Index, Name: key.link.Name, HardwareAddr: key.link.MAC[:]}
	conn, err := mdpacket.Listen(ifi, mdpacket.Raw, ethertype, &mdpacket.Config{Filter: nothing})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open packet socket: %w: the agent needs the capability NET_RAW", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &socket{conn, raw}
	s.enlarge()
	return s, nil
}

// receiveBuffer holds the requests of a tenth of a second when ten thousand come in one: the agent may have to wait for a
// processor.
const receiveBuffer = 2 << 20

// enlarge makes the receive buffer larger, as far as the agent may.
func (s *socket) enlarge() {
	_ = s.raw.Control(func(fd uintptr) { // without it, the default does for most
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	})
}

// reader reads frames without allocating.
type reader struct {
	raw  syscall.RawConn
	buf  []byte
	n    int
	err  error
	recv func(fd uintptr) bool
}

func (s *socket) reader() *reader {
	r := &reader{raw: s.raw, buf: make([]byte, 2048)}
	r.recv = func(fd uintptr) bool {
		r.n, r.err = unix.Read(int(fd), r.buf)
		return r.err != unix.EAGAIN //nolint:errorlint // the kernel's own
	}
	return r
}

// next waits for a frame, which is valid until the next call.
func (r *reader) next() ([]byte, error) {
	if err := r.raw.Read(r.recv); err != nil {
		return nil, err
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.buf[:r.n], nil
}

const (
	// batchFrames is how many frames one system call sends: few enough that all are on the wire within a fraction of a
	// millisecond of the moment at which the gate let them pass.
	batchFrames = 64
	// frameLen has room for the longest frame that is sent (an advertisement has 86 bytes).
	frameLen = 128
)

// sender sends frames in batches by sendmmsg(2), without allocating.
type sender struct {
	raw    syscall.RawConn
	frames [batchFrames][frameLen]byte
	iovs   [batchFrames]unix.Iovec
	msgs   [batchFrames]message
	// n frames wait; sent and failed are those of the last flush.
	n, sent, failed int
	// patient waits where the socket's buffer is full.
	patient bool
	send    func(fd uintptr) bool
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

func (s *socket) sender(patient bool) *sender {
	out := &sender{raw: s.raw, patient: patient}
	for i := range out.msgs {
		out.iovs[i].Base = &out.frames[i][0]
		out.msgs[i].header.Iov = &out.iovs[i]
		out.msgs[i].header.SetIovlen(1)
	}
	out.send = out.sendAll
	return out
}

// next returns an empty frame to append to, and add queues it. There must be room: room returns how many frames.
func (s *sender) next() []byte { return s.frames[s.n][:0] }

func (s *sender) add(frame []byte) {
	s.iovs[s.n].SetLen(len(frame))
	s.n++
}

// clear forgets what waits.
func (s *sender) clear() { s.n = 0 }

func (s *sender) room() int { return batchFrames - s.n }

// flush sends what waits and returns how many frames the kernel took, and how many it did not.
func (s *sender) flush() (sent, failed int) {
	s.sent, s.failed = 0, 0
	if s.n > 0 {
		if err := s.raw.Write(s.send); err != nil { // closed
			s.failed = s.n - s.sent
		}
	}
	s.n = 0
	return s.sent, s.failed
}

func (s *sender) sendAll(fd uintptr) bool {
	for s.sent+s.failed < s.n {
		at := s.sent + s.failed
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[at])), uintptr(s.n-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			s.sent += int(n)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && s.patient:
			return false
		default:
			s.failed++ // this frame; perhaps the next passes
		}
	}
	return true
}
