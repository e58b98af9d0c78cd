package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
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
	// batchFrames is how many frames one system call sends: few enough that the call takes a fraction of a millisecond.
	batchFrames = 64
	// frameLen has room for the longest frame that is sent (an advertisement has 86 bytes).
	frameLen = 128
)

// sender sends frames in batches by sendmmsg(2), without allocating. What a frame says of its address may have ceased to be so
// while it waited: for the socket, which has one sender at a time, or for room in its buffer. So each is looked at last when the
// system call is all that is left.
type sender struct {
	raw syscall.RawConn
	// may says whether something may be said of an address at this moment.
	may    func(netip.Addr) bool
	frames [batchFrames][frameLen]byte
	addrs  [batchFrames]netip.Addr
	iovs   [batchFrames]unix.Iovec
	msgs   [batchFrames]message
	// n frames wait, of which next is the first that was not dealt with; they are what became of those of the last flush.
	n, next int
	flushed flushed
	// patient waits where the socket's buffer is full.
	patient bool
	send    func(fd uintptr) bool
	// turns is odd from before may is asked until the kernel has the frames that it let pass.
	turns atomic.Uint64
}

// flushed are what became of frames: those that the kernel took, those that it did not, and those that must not be sent any more.
type flushed struct{ sent, failed, fenced int }

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

func (s *socket) sender(patient bool, may func(netip.Addr) bool) *sender {
	out := &sender{raw: s.raw, may: may, patient: patient}
	for i := range out.msgs {
		out.msgs[i].header.Iov = &out.iovs[i]
		out.msgs[i].header.SetIovlen(1)
	}
	out.send = out.sendAll
	return out
}

// empty returns a frame to append to, and add queues it, which says something of the address. There must be room: room returns how
// many frames.
func (s *sender) empty() []byte { return s.frames[s.n][:0] }

func (s *sender) add(frame []byte, about netip.Addr) {
	s.iovs[s.n].Base = &s.frames[s.n][0]
	s.iovs[s.n].SetLen(len(frame))
	s.addrs[s.n] = about
	s.n++
}

func (s *sender) room() int { return batchFrames - s.n }

// flush sends what waits.
func (s *sender) flush() flushed {
	s.next, s.flushed = 0, flushed{}
	if s.n > 0 {
		if err := s.raw.Write(s.send); err != nil { // closed
			s.flushed.failed += s.n - s.next
		}
	}
	s.n = 0
	return s.flushed
}

func (s *sender) sendAll(fd uintptr) bool {
	for {
		s.turns.Add(1)
		s.leaveOut()
		if s.next == s.n {
			s.turns.Add(1)
			return true
		}
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.next])), uintptr(s.n-s.next), unix.MSG_DONTWAIT, 0, 0)
		s.turns.Add(1)
		switch {
		case errno == 0:
			s.flushed.sent += int(n)
			s.next += int(n)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN && s.patient:
			return false
		default:
			s.flushed.failed++ // this frame; perhaps the next passes
			s.next++
		}
	}
}

// leaveOut forgets the frames that must not be sent any more.
func (s *sender) leaveOut() {
	kept := s.next
	for i := s.next; i < s.n; i++ {
		if s.may(s.addrs[i]) {
			s.iovs[kept], s.addrs[kept] = s.iovs[i], s.addrs[i]
			kept++
		}
	}
	s.flushed.fenced += s.n - kept
	s.n = kept
}

// settle waits until the kernel has what was let pass before.
func (s *sender) settle() {
	for began := s.turns.Load(); began%2 == 1 && s.turns.Load() == began; {
		time.Sleep(settleEvery)
	}
}

// settleEvery is shorter than a batch of frames takes.
const settleEvery = 50 * time.Microsecond
