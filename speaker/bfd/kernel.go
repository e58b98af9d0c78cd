package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/internal/realtime"
)

const (
	// ttl of all packets (RFC 5881 section 5). It proves to the receiver that nobody forwarded them.
	ttl = 255
	// class is CS6, network control, as routers mark BFD: it is not to be lost in a queue of other traffic.
	class = 0xc0
	// receiveBuffer holds half a second of 500 sessions at 50 ms. The kernel reckons a packet as some 800 bytes.
	receiveBuffer = 4 << 20
)

// kernel is the wire of a real host.
type kernel struct{}

func (kernel) watchdog() (watchdog, error) { return realtime.NewWatchdog() }

type kernelListener struct {
	conn    net.PacketConn
	raw     syscall.RawConn
	payload []byte
	control []byte
	done    chan struct{}
}

func (kernel) listen(ipv6 bool, arrived func()) (listener, error) {
	network, set := "udp4", listenOptions4
	if ipv6 {
		network, set = "udp6", listenOptions6
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = set(int(fd)) }), err)
	}}
	conn, err := config.ListenPacket(context.Background(), network, ":"+strconv.Itoa(packet.Port))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: does another program on this host speak BFD?", err)
	}
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	l := &kernelListener{conn: conn, raw: raw, payload: make([]byte, 512), control: make([]byte, 256), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		// The function is called at first and whenever packets arrive, until the socket is closed.
		_ = raw.Read(func(uintptr) bool { arrived(); return false })
	}()
	return l, nil
}

func listenOptions4(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		enlarge(fd))
}

func listenOptions6(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
		enlarge(fd))
}

// enlarge sets the receive buffer: beyond the host's limit with NET_ADMIN, else up to it.
func enlarge(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
}

func (l *kernelListener) drain(limit int, each func(*datagram)) bool {
	empty := true
	_ = l.raw.Control(func(fd uintptr) { // fails if the socket is closed, which is empty
		for range limit {
			n, oobn, _, from, err := unix.RecvmsgBuffers(int(fd), [][]byte{l.payload}, l.control, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return // EAGAIN, or what the next packet will not meet again
			}
			d := datagram{payload: l.payload[:n], ttl: -1}
			d.readSource(from)
			d.readControl(l.control[:oobn])
			each(&d)
		}
		empty = false
	})
	return empty
}

func (l *kernelListener) close() {
	_ = l.conn.Close()
	<-l.done
}

func (d *datagram) readSource(from unix.Sockaddr) {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		d.src = netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		d.src = netip.AddrFrom16(a.Addr)
	}
}

// readControl reads the ancillary data (ip(7), ipv6(7)).
func (d *datagram) readControl(b []byte) {
	for len(b) >= unix.CmsgLen(0) {
		header, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return
		}
		b = rest
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_TTL && len(data) >= 4,
			header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			d.ttl = int(int32(binary.NativeEndian.Uint32(data)))
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			d.ifindex = int(int32(binary.NativeEndian.Uint32(data)))
			d.dst = netip.AddrFrom4([4]byte(data[8:12]))
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			d.dst = netip.AddrFrom16([16]byte(data[:16]))
			d.ifindex = int(int32(binary.NativeEndian.Uint32(data[16:])))
		}
	}
}

// kernelSender is a connected socket. Being connected it learns from ICMP that nobody listens.
type kernelSender int

func (kernel) dial(s *Session, port uint16) (sender, int, error) {
	ifindex := 0
	if s.Interface != "" {
		ifi, err := net.InterfaceByName(s.Interface)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", s.Interface, unix.ENODEV)
		}
		ifindex = ifi.Index
	}
	family := unix.AF_INET
	if s.Peer.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return nil, 0, fmt.Errorf("open socket: %w", err)
	}
	if err := connect(fd, s, port, ifindex); err != nil {
		_ = unix.Close(fd)
		return nil, 0, err
	}
	return kernelSender(fd), ifindex, nil
}

func connect(fd int, s *Session, port uint16, ifindex int) error {
	level, hops, traffic := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_TOS
	if s.Peer.Is6() {
		level, hops, traffic = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_TCLASS
	}
	err := errors.Join(unix.SetsockoptInt(fd, level, hops, ttl), unix.SetsockoptInt(fd, level, traffic, class))
	if err == nil && s.Interface != "" {
		err = unix.BindToDevice(fd, s.Interface)
	}
	if err != nil {
		return fmt.Errorf("set socket options: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(s.Local, s.Peer.Is6(), port, ifindex)); err != nil {
		return fmt.Errorf("bind to %s port %d: %w", s.Local, port, err)
	}
	if err := unix.Connect(fd, sockaddr(s.Peer, s.Peer.Is6(), packet.Port, ifindex)); err != nil {
		return fmt.Errorf("connect to %s: %w", s.Peer, err)
	}
	return nil
}

// sockaddr returns the kernel's form of an address; an invalid one is the unspecified one of the family.
func sockaddr(a netip.Addr, ipv6 bool, port uint16, ifindex int) unix.Sockaddr {
	if !ipv6 {
		out := &unix.SockaddrInet4{Port: int(port)}
		if a.IsValid() {
			out.Addr = a.As4()
		}
		return out
	}
	out := &unix.SockaddrInet6{Port: int(port)}
	if a.IsValid() {
		out.Addr = a.As16()
		if a.IsLinkLocalUnicast() {
			out.ZoneId = uint32(ifindex)
		}
	}
	return out
}

// send writes the packet. An error that waits in the socket, from ICMP or from resolving the peer's address, comes back
// from a write that it prevents; the second write is the one that counts.
func (s kernelSender) send(b []byte) error {
	_, err := unix.Write(int(s), b)
	if err == nil {
		return nil
	}
	if _, again := unix.Write(int(s), b); again != nil {
		return again
	}
	return errors.Join(errSent, err)
}

func (s kernelSender) close() { _ = unix.Close(int(s)) }
