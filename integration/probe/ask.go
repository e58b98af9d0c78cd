package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
)

// Answer is an ARP reply or a Neighbor Advertisement.
type Answer struct {
	At  time.Time
	MAC [6]byte
}

// Answers are those to one address, in the order in which they came.
type Answers []Answer

// Move is when another station answered than before.
type Move struct {
	At       time.Time
	From, To [6]byte
}

func (m Move) String() string {
	return fmt.Sprintf("%s answers after %s at %s", net.HardwareAddr(m.To[:]), net.HardwareAddr(m.From[:]), m.At.Format("15:04:05.000"))
}

// Moves returns when another station answered than before.
func (a Answers) Moves() (out []Move) {
	for i := 1; i < len(a); i++ {
		if a[i].MAC != a[i-1].MAC {
			out = append(out, Move{a[i].At, a[i-1].MAC, a[i].MAC})
		}
	}
	return out
}

// Changes returns how often another station answered than before. It is as often as the address has moved, and much more
// often if two stations answer at the same time.
func (a Answers) Changes() int { return len(a.Moves()) }

// Asker asks for an address again and again, all stations of the segment each time: by ARP for an IPv4 address, by NDP for
// an IPv6 one.
type Asker struct {
	From      Namespace
	Interface string
	To        netip.Addr
	Every     time.Duration
}

// protocol asks for an address.
type protocol interface {
	ask() error
	// hear returns the station of the next answer; false when the time is over, or something else has come.
	hear(until time.Time) (mac [6]byte, ok bool)
	Close() error
}

// Run asks until ctx ends, and returns all answers, also those that nobody asked for, and how often it has asked: on a busy machine
// that is less often than wanted.
func (a Asker) Run(ctx context.Context) (answers Answers, asked int, err error) {
	p, err := inside(a.From, a.open)
	if err != nil {
		return nil, 0, fmt.Errorf("ask for %s in %s: %w", a.To, a.From, err)
	}
	defer p.Close()
	done := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(a.Every)
		defer ticker.Stop()
		for {
			if err := p.ask(); err != nil {
				done <- err
				return
			}
			asked++
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-ticker.C:
			}
		}
	}()
	for ctx.Err() == nil {
		if mac, ok := p.hear(time.Now().Add(100 * time.Millisecond)); ok {
			answers = append(answers, Answer{time.Now(), mac})
		}
	}
	err = <-done
	return answers, asked, err
}

func (a Asker) open() (protocol, error) {
	ifi, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return nil, err
	}
	if a.To.Is4() {
		c, err := listen(ifi, ethernetARP, arpAnswers(a.To))
		if err != nil {
			return nil, err
		}
		client, err := arp.New(ifi, c)
		return byARP{client, a.To}, err
	}
	group, err := ndp.SolicitedNodeMulticast(a.To)
	if err != nil {
		return nil, err
	}
	// The name is the zone of addresses to write to, which is resolved when it is, outside the namespace: so it is a number.
	zone := *ifi
	zone.Name = strconv.Itoa(ifi.Index)
	asks, _, err := ndp.Listen(&zone, ndp.LinkLocal)
	if err != nil {
		return nil, err
	}
	hears, err := listen(ifi, ethernetIPv6, ndpAnswers(a.To))
	if err != nil {
		return nil, errors.Join(err, asks.Close())
	}
	return byNDP{asks, hears, a.To, group, ifi.HardwareAddr}, nil
}

type byARP struct {
	*arp.Client
	to netip.Addr
}

func (p byARP) ask() error { return p.Request(p.to) }

func (p byARP) hear(until time.Time) (mac [6]byte, ok bool) {
	if p.SetReadDeadline(until) != nil {
		return mac, false
	}
	m, _, err := p.Read()
	if err != nil || m.Operation != arp.OperationReply || m.SenderIP != p.to {
		return mac, false
	}
	return [6]byte(m.SenderHardwareAddr), true
}

type byNDP struct {
	asks      *ndp.Conn
	hears     *packet.Conn
	to, group netip.Addr
	from      net.HardwareAddr
}

func (p byNDP) ask() error {
	return p.asks.WriteTo(&ndp.NeighborSolicitation{
		TargetAddress: p.to,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: p.from}},
	}, nil, p.group)
}

func (p byNDP) hear(until time.Time) (mac [6]byte, ok bool) {
	if p.hears.SetReadDeadline(until) != nil {
		return mac, false
	}
	frame := make([]byte, 1514)
	n, _, err := p.hears.ReadFrom(frame)
	if err != nil || n < icmpOffset {
		return mac, false
	}
	m, err := ndp.ParseMessage(frame[icmpOffset:n])
	if err != nil {
		return mac, false
	}
	na, is := m.(*ndp.NeighborAdvertisement)
	if !is || na.TargetAddress != p.to {
		return mac, false
	}
	for _, o := range na.Options {
		if ll, is := o.(*ndp.LinkLayerAddress); is && ll.Direction == ndp.Target && len(ll.Addr) == 6 {
			return [6]byte(ll.Addr), true
		}
	}
	return mac, false
}

func (p byNDP) Close() error { return errors.Join(p.asks.Close(), p.hears.Close()) }
