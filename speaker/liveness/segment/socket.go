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

// socket sends and receives heartbeats on one interface. It is two in the kernel: the loop wakes for frames in the one, prompt, and looks
// into the other, steady, when it is awake anyway. So a node wakes as often on a segment of many as on one of few. None of them is among the
// sockets of the runtime, which waits with epoll(7): there every frame would wake a thread.
type socket struct {
	prompt, steady int
	ifindex        int
	acceptors      bool
	control        [64]byte // of a message
}

func open(ifi *net.Interface, tag byte) (*socket, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet interface", ifi.Name)
	}
	prompt, err := openOne(ifi, ours(tag, true))
	if err != nil {
		return nil, err
	}
	steady, err := openOne(ifi, ours(tag, false))
	if err != nil {
		_ = unix.Close(prompt)
		return nil, err
	}
	return &socket{prompt: prompt, steady: steady, ifindex: ifi.Index}, nil
}

func openOne(ifi *net.Interface, filter []bpf.Instruction) (int, error) {
	// It receives nothing before it is bound to the protocol.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, os.ErrPermission) {
		return -1, fmt.Errorf("open packet socket on %s: %w: the agent needs the capability NET_RAW", ifi.Name, err)
	}
	if err != nil {
		return -1, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	if err := setUp(fd, ifi.Index, filter); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set up packet socket on %s: %w", ifi.Name, err)
	}
	return fd, nil
}

func setUp(fd, ifindex int, instructions []bpf.Instruction) error {
	filter, err := bpf.Assemble(instructions)
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
		os.NewSyscallError("ask for timestamps", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)),
		os.NewSyscallError("set priority", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, control)),
		os.NewSyscallError("join group", membership(fd, unix.PACKET_ADD_MEMBERSHIP, ifindex, toAll)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol(), Ifindex: ifindex})),
	)
}

// protocol returns the type of the frames as the kernel wants it, in network order.
func protocol() uint16 { return binary.NativeEndian.Uint16([]byte{etherType >> 8, etherType & 0xff}) }

// ours lets through frames of this protocol and segment that are for this link, and prompt or not. With a datagram socket the data begin behind the
// Ethernet header. Frames of VLANs belong to the VLAN's interface, and the kernel shows them here as well; those to other
// stations are seen in promiscuous mode.
func ours(tag byte, prompt bool) []bpf.Instruction {
	const otherHost = 3
	isPrompt := bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: wire.PromptBit, SkipFalse: 2}
	if !prompt {
		isPrompt = bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: wire.PromptBit, SkipTrue: 2}
	}
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 8},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: otherHost, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 0, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.Magic, SkipTrue: 4},
		bpf.LoadAbsolute{Off: wire.PromptOffset, Size: 1},
		isPrompt,
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
	if err := membership(s.prompt, action, s.ifindex, toAcceptors); err != nil {
		return fmt.Errorf("change membership in the acceptors' group: %w", err)
	}
	s.acceptors = is
	return nil
}

// send does not wait: a heartbeat that the link cannot take now is worth nothing later.
func (s *socket) send(group [6]byte, frame []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: protocol(), Ifindex: s.ifindex, Halen: 6}
	copy(to.Addr[:], group[:])
	return unix.Sendto(s.prompt, frame, unix.MSG_DONTWAIT, to)
}

// frame is what was received.
type frame struct {
	bytes []byte
	// station is the one that sent it.
	station [6]byte
	// stamp is when it arrived, by CLOCK_REALTIME; 0: the kernel does not say.
	stamp int64
}

// receive returns the next frame of one of the two, in the buffer; false if there is none.
func (s *socket) receive(fd int, buffer []byte) (f frame, ok bool, err error) {
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, buffer, s.control[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return f, false, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			continue // reported once when the link goes down; the socket works again when it is up
		case err != nil:
			return f, false, err
		}
		f.bytes, f.stamp = buffer[:n], stampOf(s.control[:oobn])
		if ll, is := from.(*unix.SockaddrLinklayer); is && ll.Halen == 6 {
			f.station = [6]byte(ll.Addr[:6])
		}
		return f, true, nil
	}
}

// stampOf reads the one control message that was asked for (socket(7), SO_TIMESTAMPNS).
func stampOf(control []byte) int64 {
	header, data, _, err := unix.ParseOneSocketControlMessage(control)
	if err != nil || header.Level != unix.SOL_SOCKET || header.Type != unix.SCM_TIMESTAMPNS || len(data) < 16 {
		return 0
	}
	return int64(binary.NativeEndian.Uint64(data))*1e9 + int64(binary.NativeEndian.Uint64(data[8:]))
}

func (s *socket) close() {
	_ = unix.Close(s.prompt)
	_ = unix.Close(s.steady)
}
