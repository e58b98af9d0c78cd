package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/speaker/plan"
)

// resubscribe is the pause before the kernel is asked again after a subscription failed.
const resubscribe = time.Second

// Watcher knows the interfaces that have addresses, and the default gateways. Its methods may be called from any goroutine.
type Watcher struct {
	log     *slog.Logger
	changed chan struct{}

	mu       sync.Mutex
	ifaces   []plan.Interface
	gateways []netip.Addr

	// up and ups belong to Run: whether each interface, by index, was last seen up, and how often it came up. lost counts how
	// often events were lost: each may have been an interface that went down and came up.
	lost uint32
	up   map[int]bool
	ups  map[int]uint32
}

// New returns a Watcher that knows nothing until Run.
func New(log *slog.Logger) *Watcher {
	return &Watcher{log: log, changed: make(chan struct{}, 1), up: map[int]bool{}, ups: map[int]uint32{}}
}

// Interfaces returns the interfaces by index, nil before the first look. The slice must not be changed.
func (w *Watcher) Interfaces() []plan.Interface {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ifaces
}

// Gateways returns the next hops of the default routes, sorted. The slice must not be changed.
func (w *Watcher) Gateways() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gateways
}

// Changed is signalled when Interfaces or Gateways returns something new. It holds one signal; it is for one reader.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Run watches until ctx ends, and returns its error then. It watches the network namespace of the thread it is called on.
func (w *Watcher) Run(ctx context.Context) error {
	for {
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.log.Warn("watching network interfaces failed: trying again", "err", err)
		// Events were lost, perhaps of a link that went down and came up: announce everything anew.
		w.lost++
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(resubscribe):
		}
	}
}

// watch subscribes first and reads after, so that no change falls between the two.
func (w *Watcher) watch(ctx context.Context) error {
	done := make(chan struct{})
	links, addrs, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64)
	defer func() {
		close(done)
		go drain(links) // the senders block until they see that their socket is closed
		go drain(addrs)
		go drain(routes)
	}()
	var failure error
	failed := make(chan struct{})
	var once sync.Once
	onError := func(err error) { once.Do(func() { failure = err; close(failed) }) }
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: onError}); err != nil {
		close(links)
		close(addrs)
		close(routes)
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: onError}); err != nil {
		close(addrs)
		close(routes)
		return fmt.Errorf("subscribe to address events: %w", err)
	}
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: onError}); err != nil {
		close(routes)
		return fmt.Errorf("subscribe to route events: %w", err)
	}
	for fresh := false; ; {
		if !fresh {
			if err := w.refresh(); err != nil {
				return err
			}
		}
		fresh = false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-failed:
			return failure
		case u, ok := <-links:
			if !ok {
				return errors.New("link events ended")
			}
			w.note(u)
		case _, ok := <-addrs:
			if !ok {
				return errors.New("address events ended")
			}
		case u, ok := <-routes:
			switch {
			case !ok:
				return errors.New("route events ended")
			case !isDefault(&u.Route):
				fresh = true // the many routes of pods do not matter
				continue
			}
		}
		w.catchUp(links, addrs)
	}
}

// catchUp takes all events that wait, one by one: a link that went down and up again must count.
func (w *Watcher) catchUp(links <-chan netlink.LinkUpdate, addrs <-chan netlink.AddrUpdate) {
	for {
		select {
		case u, ok := <-links:
			if !ok {
				return // the next receive reports it
			}
			w.note(u)
		case <-addrs:
		default:
			return
		}
	}
}

func isDefault(r *netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// defaultGateways returns the next hops of the default routes, sorted.
func defaultGateways() ([]netip.Addr, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Addr
	for i := range routes {
		if !isDefault(&routes[i]) {
			continue
		}
		hops := []net.IP{routes[i].Gw}
		for _, hop := range routes[i].MultiPath {
			hops = append(hops, hop.Gw)
		}
		for _, gw := range hops {
			if a, ok := netip.AddrFromSlice(gw); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

func (w *Watcher) note(u netlink.LinkUpdate) {
	if u.Header.Type == unix.RTM_DELLINK && u.Family == unix.AF_UNSPEC { // with a family: it left a bridge
		// Nothing of it comes back: an index is not used again before all others have been. Pods come and go all the time.
		delete(w.up, int(u.Index))
		delete(w.ups, int(u.Index))
		return
	}
	w.saw(u.Attrs())
}

func (w *Watcher) saw(l *netlink.LinkAttrs) {
	up := isUp(l)
	if up && !w.up[l.Index] {
		w.ups[l.Index]++
	}
	w.up[l.Index] = up
}

func isUp(l *netlink.LinkAttrs) bool {
	return l.RawFlags&unix.IFF_UP != 0 && l.RawFlags&unix.IFF_RUNNING != 0
}

func (w *Watcher) refresh() error {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // interrupted: an event of the change follows
		return fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list addresses: %w", err)
	}
	gateways, err := defaultGateways()
	if err != nil {
		return err
	}
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := netipx.FromStdIPNet(a.IPNet); ok && a.Flags&unix.IFA_F_DADFAILED == 0 {
			// FromStdIPNet keeps the host bits: this is the address with its subnet's length.
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	ifaces := []plan.Interface{}
	for _, l := range links {
		a := l.Attrs()
		w.saw(a)
		if len(prefixes[a.Index]) == 0 {
			continue // the many interfaces of pods
		}
		i := plan.Interface{
			Link:     plan.Link{Index: a.Index, Name: a.Name, Ups: w.ups[a.Index] + w.lost},
			Prefixes: prefixes[a.Index],
			Up:       w.up[a.Index],
		}
		if a.RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP|unix.IFF_POINTOPOINT) == 0 && len(a.HardwareAddr) == len(i.MAC) {
			i.MAC = plan.MAC(a.HardwareAddr)
		}
		ifaces = append(ifaces, i)
	}
	slices.SortFunc(ifaces, func(a, b plan.Interface) int { return cmp.Compare(a.Index, b.Index) })

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ifaces == nil || !slices.EqualFunc(w.ifaces, ifaces, equal) || !slices.Equal(w.gateways, gateways) {
		w.ifaces, w.gateways = ifaces, gateways
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	return nil
}

func equal(a, b plan.Interface) bool {
	return a.Link == b.Link && a.Up == b.Up && slices.Equal(a.Prefixes, b.Prefixes)
}

func drain[T any](ch <-chan T) {
	for range ch { //nolint:revive // until it is closed
	}
}
