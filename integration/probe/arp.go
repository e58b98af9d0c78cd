package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
)

// Answer is a reply to an ARP request.
type Answer struct {
	At  time.Time
	MAC [6]byte
}

// Answers are those to one address, in the order in which they came.
type Answers []Answer

// Changes returns how often another station answered than before. It is as often as the address has moved, and much more
// often if two stations answer at the same time.
func (a Answers) Changes() int {
	n := 0
	for i := 1; i < len(a); i++ {
		if a[i].MAC != a[i-1].MAC {
			n++
		}
	}
	return n
}

// Asker asks for an address by ARP again and again, all stations of the segment each time.
type Asker struct {
	From      Namespace
	Interface string
	To        netip.Addr
	Every     time.Duration
}

// Run asks until ctx ends, and returns all answers, also those that nobody asked for.
func (a Asker) Run(ctx context.Context) (Answers, error) {
	client, err := inside(a.From, func() (*arp.Client, error) {
		ifi, err := net.InterfaceByName(a.Interface)
		if err != nil {
			return nil, err
		}
		return arp.Dial(ifi)
	})
	if err != nil {
		return nil, fmt.Errorf("ask by ARP in %s: %w", a.From, err)
	}
	defer client.Close()
	asked := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(a.Every)
		defer ticker.Stop()
		for {
			if err := client.Request(a.To); err != nil {
				asked <- err
				return
			}
			select {
			case <-ctx.Done():
				asked <- nil
				return
			case <-ticker.C:
			}
		}
	}()
	var out Answers
	for ctx.Err() == nil {
		if err := client.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return out, err
		}
		p, _, err := client.Read()
		if err != nil {
			continue // the deadline, or a frame of another kind
		}
		if p.Operation == arp.OperationReply && p.SenderIP == a.To {
			out = append(out, Answer{time.Now(), [6]byte(p.SenderHardwareAddr)})
		}
	}
	return out, <-asked
}
