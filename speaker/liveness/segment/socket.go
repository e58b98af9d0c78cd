package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/liveness/wire"
)

// etherType is IEEE Std 802 local experimental EtherType 1.
const etherType = 0x88b5

// Group addresses, locally administered. Switches flood them: snooping is about IP only.
var (
	toAll       = [6]byte{0x03, 'S', 'm', 0, 0, 1} //nolint:gochecknoglobals // a constant
	toAcceptors = [6]byte{0x03, 'S', 'm', 0, 0, 2} //nolint:gochecknoglobals // a constant
)

const (
	// maxFrame is more than any frame is long.
	maxFrame = 2048
	// receiveBuffer holds what comes while the process has no processor: a second of a full segment.
	receiveBuffer = 1 << 20
	// control is the highest priority that needs no privilege: queueing disciplines send such frames first.
	control = 6
)

// socket sends and receives heartbeats on one interface. Only the Loop waits for it: among the sockets of the runtime, which waits with
// epoll(7), every frame would wake a second thread for nothing.
type socket struct {
	fd, ifindex int
	acceptors   bool
}

func open(ifi *net.Interface, tag byte) (*socket, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet interface", ifi.Name)
	}
	// It receives nothing before it is bound to the protocol.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open packet socket on %s: %w: the agent needs the capability NET_RAW", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	if err := setUp(fd, ifi.Index, tag); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set up packet socket on %s: %w", ifi.Name, err)
	}
	return &socket{fd: fd, ifindex: ifi.Index}, nil
}

func setUp(fd, ifindex int, tag byte) error {
	filter, err := bpf.Assemble(ours(tag))
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	program := make([]unix.SockFilter, len(filter))
	for i, in := range filter {
		program[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	// Without the capability NET_ADMIN as much as net.core.rmem_max allows.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return errors.Join(
		os.NewSyscallError("attach filter", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})),
		os.NewSyscallError("set priority", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, control)),
		os.NewSyscallError("join group", membership(fd, unix.PACKET_ADD_MEMBERSHIP, ifindex, toAll)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol(), Ifindex: ifindex})),
	)
}

// protocol returns the type of the frames as the kernel wants it, in network order.
func protocol() uint16 { return binary.NativeEndian.Uint16([]byte{etherType >> 8, etherType & 0xff}) }

// ours lets through frames of this protocol and segment that are for this link. With a datagram socket the data begin behind the
// Ethernet header. Frames of VLANs belong to the VLAN's interface, and the kernel shows them here as well; those to other
// stations are seen in promiscuous mode.
func ours(tag byte) []bpf.Instruction {
	const otherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 6},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: otherHost, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 0, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.Magic, SkipTrue: 2},
		bpf.LoadAbsolute{Off: wire.TagOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(tag), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: maxFrame},
	}
}

func membership(fd, action, ifindex int, group [6]byte) error {
	mreq := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(mreq.Address[:], group[:])
	return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, action, &mreq)
}

// setAcceptor joins or leaves the group that only acceptors are in.
func (s *socket) setAcceptor(is bool) error {
	if is == s.acceptors {
		return nil
	}
	action := unix.PACKET_DROP_MEMBERSHIP
	if is {
		action = unix.PACKET_ADD_MEMBERSHIP
	}
	if err := membership(s.fd, action, s.ifindex, toAcceptors); err != nil {
		return fmt.Errorf("change membership in the acceptors' group: %w", err)
	}
	s.acceptors = is
	return nil
}

// send does not wait: a heartbeat that the link cannot take now is worth nothing later.
func (s *socket) send(group [6]byte, frame []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: protocol(), Ifindex: s.ifindex, Halen: 6}
	copy(to.Addr[:], group[:])
	return unix.Sendto(s.fd, frame, unix.MSG_DONTWAIT, to)
}

// receive returns the length of the next frame and the station that sent it; -1 if there is none.
func (s *socket) receive(frame []byte) (int, [6]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, frame, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return -1, [6]byte{}, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			continue // reported once when the link goes down; the socket works again when it is up
		case err != nil:
			return -1, [6]byte{}, err
		}
		var station [6]byte
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Halen == 6 {
			station = [6]byte(ll.Addr[:6])
		}
		return n, station, nil
	}
}

func (s *socket) close() { _ = unix.Close(s.fd) }
