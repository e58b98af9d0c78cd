package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/mdlayher/packet"
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

// socket sends and receives heartbeats on one interface.
type socket struct {
	conn      *packet.Conn
	raw       syscall.RawConn
	ifindex   int
	acceptors bool
}

func open(ifi *net.Interface, tag byte) (*socket, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet interface", ifi.Name)
	}
	filter, err := bpf.Assemble(ours(tag))
	if err != nil {
		return nil, fmt.Errorf("assemble socket filter: %w", err)
	}
	conn, err := packet.Listen(ifi, packet.Datagram, etherType, &packet.Config{Filter: filter})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open packet socket on %s: %w: the agent needs the capability NET_RAW", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", ifi.Name, err)
	}
	s := &socket{conn: conn, ifindex: ifi.Index}
	if s.raw, err = conn.SyscallConn(); err == nil {
		err = s.control(func(fd int) error {
			// Without the capability NET_ADMIN as much as net.core.rmem_max allows.
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
			return errors.Join(
				os.NewSyscallError("set priority", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, control)),
				os.NewSyscallError("join group", membership(fd, unix.PACKET_ADD_MEMBERSHIP, ifi.Index, toAll)),
			)
		})
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("set up packet socket on %s: %w", ifi.Name, err)
	}
	return s, nil
}

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

func (s *socket) control(f func(fd int) error) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
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
	if err := s.control(func(fd int) error { return membership(fd, action, s.ifindex, toAcceptors) }); err != nil {
		return fmt.Errorf("change membership in the acceptors' group: %w", err)
	}
	s.acceptors = is
	return nil
}

// send does not wait: a heartbeat that the link cannot take now is worth nothing later.
func (s *socket) send(group [6]byte, frame []byte) error {
	network := [2]byte{etherType >> 8, etherType & 0xff}
	to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(network[:]), Ifindex: s.ifindex, Halen: 6}
	copy(to.Addr[:], group[:])
	var err error
	werr := s.raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, to)
		return true
	})
	return errors.Join(werr, err)
}

func (s *socket) close() { _ = s.conn.Close() }
