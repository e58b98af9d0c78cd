package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

const (
	// interval between solicitations and between advertisements: what FRR does on interfaces with an unnumbered session.
	interval = 10 * time.Second
	// eager is the interval as long as no router is known (RTR_SOLICITATION_INTERVAL is 4 s; ours are few and on one link).
	eager = time.Second
	// retry is the pause before a socket that failed is opened again.
	retry = time.Second
)

// Finder finds routers. Its methods may be called from any goroutine.
type Finder struct {
	log     *slog.Logger
	changed chan struct{}
	wake    chan struct{}

	mu     sync.Mutex
	wanted []string
	heard  map[string]*heard
	// told is what Routers returns.
	told map[string][]netip.Addr
}

// New returns a Finder that does nothing before Run.
func New(log *slog.Logger) *Finder {
	return &Finder{log: log, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), heard: map[string]*heard{}}
}

// Set says on which interfaces to look; they need not exist. What was heard on others is forgotten.
func (f *Finder) Set(interfaces []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Equal(f.wanted, interfaces) {
		return
	}
	f.wanted = slices.Clone(interfaces)
	maps.DeleteFunc(f.heard, func(name string, _ *heard) bool { return !slices.Contains(interfaces, name) })
	f.tell(time.Now())
	notify(f.wake)
}

// Routers returns the link-local addresses, without zone, of the routers on each interface: one, or several if it is not clear
// which. The map must not be changed.
func (f *Finder) Routers() map[string][]netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told
}

// Changed is signalled when Routers returns something new. It holds one signal; it is for one reader.
func (f *Finder) Changed() <-chan struct{} { return f.changed }

// Run looks for routers until ctx ends, and returns its error then. It works in the network namespace of the thread it is
// called on, and of all threads made later.
func (f *Finder) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]context.CancelFunc{}
	for {
		wanted := f.interfaces()
		for _, name := range wanted {
			if running[name] == nil {
				ictx, cancel := context.WithCancel(ctx)
				running[name] = cancel
				wg.Go(func() { f.watch(ictx, name) })
			}
		}
		maps.DeleteFunc(running, func(name string, cancel context.CancelFunc) bool {
			gone := !slices.Contains(wanted, name)
			if gone {
				cancel()
			}
			return gone
		})
		select {
		case <-ctx.Done():
			for _, cancel := range running {
				cancel()
			}
			return ctx.Err()
		case <-f.wake:
		}
	}
}

func (f *Finder) interfaces() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted
}

// watch works on one interface until ctx ends.
func (f *Finder) watch(ctx context.Context, name string) {
	last := ""
	for ctx.Err() == nil {
		err := f.talk(ctx, name)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			last = err.Error()
			f.log.Info("cannot look for a router", "interface", name, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// talk asks, listens and answers on one socket, as long as that works.
func (f *Finder) talk(ctx context.Context, name string) error {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	conn, own, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer conn.Close()
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := errors.Join(conn.SetICMPFilter(&filter), conn.SetControlMessage(ipv6.FlagHopLimit, true),
		conn.JoinGroup(netip.IPv6LinkLocalAllNodes()), conn.JoinGroup(netip.IPv6LinkLocalAllRouters())); err != nil {
		return fmt.Errorf("prepare the socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) }) // ends the read below
	defer stop()
	for ctx.Err() == nil {
		if err := announce(conn, ifi); err != nil {
			return err
		}
		known := f.hear(name, netip.Addr{})
		pause := interval
		if !known {
			pause = eager
		}
		if err := f.listen(ctx, conn, own, ifi, time.Now().Add(pause)); err != nil {
			return err
		}
	}
	return nil
}

// announce sends an advertisement and a solicitation.
func announce(conn *ndp.Conn, ifi *net.Interface) error {
	if err := conn.WriteTo(advertisement(ifi), nil, netip.IPv6LinkLocalAllNodes()); err != nil {
		return fmt.Errorf("send a router advertisement: %w", err)
	}
	if err := conn.WriteTo(&ndp.RouterSolicitation{Options: source(ifi)}, nil, netip.IPv6LinkLocalAllRouters()); err != nil {
		return fmt.Errorf("send a router solicitation: %w", err)
	}
	return nil
}

func advertisement(ifi *net.Interface) *ndp.RouterAdvertisement {
	return &ndp.RouterAdvertisement{Options: source(ifi)}
}

func source(ifi *net.Interface) []ndp.Option {
	if len(ifi.HardwareAddr) != 6 {
		return nil
	}
	return []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}}
}

// listen notes advertisements and answers solicitations, but those from this host's own address, until the time is over.
func (f *Finder) listen(ctx context.Context, conn *ndp.Conn, own netip.Addr, ifi *net.Interface, until time.Time) error {
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	answered := false
	buffer := make([]byte, ifi.MTU)
	for ctx.Err() == nil {
		n, cm, from, err := conn.ReadRaw(buffer)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		case cm == nil || from == own:
			continue
		}
		switch parse(buffer[:n], cm.HopLimit, from) {
		case ipv6.ICMPTypeRouterAdvertisement:
			f.hear(ifi.Name, from.WithZone(""))
		case ipv6.ICMPTypeRouterSolicitation:
			if answered { // once an interval: whoever asks again hears the next one
				continue
			}
			answered = true
			if err := conn.WriteTo(advertisement(ifi), nil, netip.IPv6LinkLocalAllNodes()); err != nil {
				return fmt.Errorf("send a router advertisement: %w", err)
			}
		}
	}
	return nil
}

// hear notes a router, if it is valid, and reports whether one is known on the interface.
func (f *Finder) hear(name string, router netip.Addr) (known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.wanted, name) {
		return false
	}
	h := f.heard[name]
	if h == nil {
		h = &heard{}
		f.heard[name] = h
	}
	now := time.Now()
	if router.IsValid() {
		h.hear(router, now)
	}
	f.tell(now)
	return len(f.told[name]) > 0
}

// tell works out what Routers returns.
func (f *Finder) tell(now time.Time) {
	told := map[string][]netip.Addr{}
	for name, h := range f.heard {
		if r := h.routers(now); len(r) > 0 {
			told[name] = r
		}
	}
	if !maps.EqualFunc(told, f.told, slices.Equal[[]netip.Addr]) {
		f.told = told
		notify(f.changed)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
