package l2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	mdpacket "github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/l2/packet"
	"github.com/seamark-io/seamark/speaker/l2/respond"
)

// listener speaks one protocol on one link: it reads what the filter lets through, answers, and announces what it takes.
type listener struct {
	segment
	conn   *mdpacket.Conn
	stats  *counters
	broken func()

	// owned is read for every frame and replaced by set.
	owned  atomic.Pointer[respond.Owned]
	groups *groups
	burst  *announcer

	err  atomic.Pointer[error]
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func listen(key segment, stats *counters, broken func()) (*listener, error) {
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
	l := &listener{segment: key, conn: conn, stats: stats, broken: broken}
	l.owned.Store(&respond.Owned{})
	if key.proto == ndp {
		l.groups = newGroups(key.link.Index)
	}
	l.burst = newAnnouncer(func() respond.Owned { return *l.owned.Load() }, l.announcement())

	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.wg.Go(func() { l.read(ctx) })
	l.wg.Go(func() { l.burst.run(ctx) })
	return l, nil
}

// set replaces the addresses. What is new is answered for before it is announced.
func (l *listener) set(owned respond.Owned) error {
	before := *l.owned.Load()
	var taken []netip.Addr
	for a := range owned {
		if _, ok := before[a]; !ok {
			taken = append(taken, a)
		}
	}
	if len(taken) > 0 || len(owned) != len(before) {
		f, err := filter(l.proto, owned)
		if err != nil {
			return err
		}
		l.owned.Store(&owned)
		if err := l.conn.SetBPF(f); err != nil {
			return fmt.Errorf("set socket filter: %w", err)
		}
	}
	var err error
	if l.groups != nil {
		err = l.groups.set(owned)
	}
	l.burst.take(taken)
	return err
}

func (l *listener) close() {
	l.owned.Store(&respond.Owned{})
	l.stop()
	_ = l.conn.Close()
	l.wg.Wait()
	if l.groups != nil {
		l.groups.close()
	}
}

// failure returns why the listener stopped by itself, nil while it works.
func (l *listener) failure() error {
	if err := l.err.Load(); err != nil {
		return *err
	}
	return nil
}

// read answers until the socket is closed. No frame, however malformed, ends it.
func (l *listener) read(ctx context.Context) {
	decide := respond.ARP
	if l.proto == ndp {
		decide = respond.NDP
	}
	frame, buf := make([]byte, 2048), make([]byte, 0, 128)
	dst := &mdpacket.Addr{HardwareAddr: make(net.HardwareAddr, 6)}
	for {
		n, _, err := l.conn.ReadFrom(frame)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENOBUFS):
			continue // reported once when the link goes down; the socket works again when it is up
		case err != nil:
			err = fmt.Errorf("read from packet socket: %w", err)
			l.err.Store(&err)
			l.broken()
			return
		}
		answer, verdict := decide(frame[:n], *l.owned.Load(), l.link.MAC, buf[:0])
		if verdict != respond.Answer {
			l.stats.dropped[verdict].Add(1)
			continue
		}
		l.stats.requests.Add(1)
		if l.send(answer, dst) {
			l.stats.replies.Add(1)
		}
	}
}

func (l *listener) send(frame []byte, dst *mdpacket.Addr) bool {
	copy(dst.HardwareAddr, frame[:6])
	if _, err := l.conn.WriteTo(frame, dst); err != nil {
		l.stats.sendErrors.Add(1)
		return false
	}
	return true
}

// announcement returns the function that announces one address. It is for one goroutine.
func (l *listener) announcement() func(netip.Addr) {
	forms := []func([]byte, [6]byte, netip.Addr) []byte{packet.AppendGratuitousRequest, packet.AppendGratuitousReply}
	if l.proto == ndp {
		forms = forms[:0]
		forms = append(forms, packet.AppendUnsolicited)
	}
	buf := make([]byte, 0, 128)
	dst := &mdpacket.Addr{HardwareAddr: make(net.HardwareAddr, 6)}
	return func(a netip.Addr) {
		for _, form := range forms {
			if l.send(form(buf[:0], l.link.MAC, a), dst) {
				l.stats.gratuitous.Add(1)
			}
		}
	}
}

// filter returns the socket's program in classic BPF: it keeps the agent asleep while the LAN talks about other things.
// With no addresses it lets nothing through.
func filter(p protocol, owned respond.Owned) ([]bpf.RawInstruction, error) {
	prog := []bpf.Instruction{bpf.RetConstant{Val: 0}}
	if len(owned) > 0 && p == arp {
		prog = arpFilter(bounds(owned))
	}
	if len(owned) > 0 && p == ndp {
		prog = ndpFilter()
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, fmt.Errorf("assemble socket filter: %w", err)
	}
	return raw, nil
}

// ours drops what is not for this link: frames with the tag of a VLAN (they belong to that VLAN's interface, and the
// kernel shows them here as well) and frames to other stations (PACKET_OTHERHOST, seen in promiscuous mode).
func ours(rest int) []bpf.Instruction {
	const otherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: uint8(rest + 2)},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: otherHost, SkipTrue: uint8(rest)},
	}
}

// arpFilter lets through ARP whose target or sender lies between lo and hi.
func arpFilter(lo, hi netip.Addr) []bpf.Instruction {
	const sender, target = 28, 38
	from, to := be32(lo), be32(hi)
	// The verdicts stand at the end: drop, then take.
	body := []bpf.Instruction{
		bpf.LoadAbsolute{Off: target, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: from, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: to, SkipTrue: 4},
		bpf.LoadAbsolute{Off: sender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: from, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: to, SkipTrue: 1},
	}
	prog := append(ours(len(body)), body...)
	return append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 0xffff})
}

// ndpFilter lets through neighbor solicitations.
func ndpFilter() []bpf.Instruction {
	const nextHeader, icmpType, icmpv6, solicitation = 20, 54, 58, 135
	body := []bpf.Instruction{
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 2},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 1},
	}
	prog := append(ours(len(body)), body...)
	return append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 0xffff})
}

func be32(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
