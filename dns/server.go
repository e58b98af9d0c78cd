package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/dns/zone"
)

// How often the loop runs: at once after a change, then not again before minInterval, nor more than a share of one
// processor (with a burst free) allows, however large the cluster; after an error with back-off; and without any reason every
// resync, which also finds a changed resolv.conf.
const (
	minInterval = 50 * time.Millisecond
	firstRetry  = time.Second
	lastRetry   = 30 * time.Second
	resync      = 30 * time.Second
)

// Server is the node's DNS server.
type Server struct {
	cfg     Config
	handler *handler

	// snapshot that the zone was built from.
	snapshot *cluster.Snapshot
	// adopted are the addresses that an earlier process left.
	adopted []netip.Addr
	// served are the addresses of the last full pass, and checked is when it was.
	served    []netip.Addr
	checked   time.Time
	listeners map[netip.AddrPort]*listener
	failures  chan struct{}
	state     atomic.Pointer[state]
	pulse     pace.Pulse
}

// state is what Ready reports.
type state struct{ err error }

// New makes a Server, which does nothing before Run. It fails if the configuration is wrong, naming everything that is.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("registering DNS metrics: %w", err)
	}
	s := &Server{
		cfg:       cfg,
		handler:   &handler{slots: make(chan struct{}, cfg.MaxForwards), metrics: m},
		listeners: map[netip.AddrPort]*listener{},
		failures:  make(chan struct{}, 1),
	}
	s.handler.zone.Store(zone.Build(cfg.Zone, nil, nil))
	s.handler.forward.Store(&forwarder{})
	s.state.Store(&state{errors.New("DNS has not started")})
	return s, nil
}

// Ready returns nil while the Server answers at all its addresses from a synced Snapshot, and otherwise what is
// missing. It may be called at any time.
func (s *Server) Ready() error { return s.state.Load().err }

// Alive returns an error if the Server hangs. It may be called at any time.
func (s *Server) Alive() error { return s.pulse.Stuck(time.Now(), pace.Hang) }

// Run serves until ctx is done. The addresses stay: see the package comment. What cannot be done is logged and tried again,
// but for the very first step: after an error Run may be called again.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Addresses != nil {
		var err error
		if s.adopted, err = s.cfg.Addresses.Get(ctx); err != nil {
			return fmt.Errorf("looking for DNS addresses of an earlier run: %w", err)
		}
	}
	defer s.end()
	retry, logged := firstRetry, ""
	pacer := pace.New(pace.Share, pace.Burst)
	for {
		next := resync
		end := s.pulse.Begin(time.Now())
		var err error
		used := cputime.Of(func() { err = s.RunOnce(ctx) })
		end()
		rest := pacer.Rest(time.Now(), used)
		if err != nil {
			next, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		// What stays wrong is said once.
		if text := fmt.Sprint(err); err != nil && text != logged {
			s.cfg.Log.LogAttrs(ctx, slog.LevelError, "DNS", slog.Any("error", err))
			logged = text
		} else if err == nil && logged != "" {
			s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "DNS: no error any more")
			logged = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(minInterval, rest)):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Source.Changed():
		case <-s.failures:
		case <-time.After(next):
		}
	}
}

// RunOnce brings the zone, the addresses and the upstream servers up to date.
func (s *Server) RunOnce(ctx context.Context) error {
	s.updateZone()
	addrs := s.addresses()
	if s.settled(addrs) {
		return nil
	}
	err := errors.Join(s.updateListeners(ctx, addrs, s.cfg.Listen), s.updateForwarder(ctx))
	s.served, s.checked = addrs, time.Now()
	s.handler.metrics.listeners.Set(float64(len(s.listeners)))
	switch {
	case err != nil:
	case s.snapshot == nil:
		s.state.Store(&state{errors.New("DNS waits for the first sync with the API server")})
		return nil
	case s.cfg.Addresses != nil && len(addrs) == 0:
		err = fmt.Errorf("the DNS Service %s does not exist or has no cluster IP: nothing to listen at", s.cfg.Zone.Service)
	}
	s.state.Store(&state{err})
	return err
}

// settled reports whether a change was one of the zone alone, as nearly all are.
func (s *Server) settled(addrs []netip.Addr) bool {
	for _, l := range s.listeners {
		if !l.alive() {
			return false
		}
	}
	return s.Ready() == nil && slices.Equal(addrs, s.served) && time.Since(s.checked) < resync
}

func (s *Server) updateZone() {
	snap := s.cfg.Source.Snapshot()
	if snap == nil || snap == s.snapshot {
		return
	}
	begin := time.Now()
	z := zone.Build(s.cfg.Zone, snap, s.handler.zone.Load())
	s.handler.zone.Store(z)
	s.snapshot = snap
	s.handler.metrics.zoneBuild.Observe(time.Since(begin).Seconds())
	s.handler.metrics.zoneRecords.Set(float64(z.Records()))
}

// addresses returns the cluster IPs to serve at: before the first sync those of an earlier process.
func (s *Server) addresses() []netip.Addr {
	switch {
	case s.cfg.Addresses == nil:
		return nil
	case s.snapshot == nil:
		return s.adopted
	}
	svc := s.snapshot.Services[s.cfg.Zone.Service]
	if svc == nil {
		return nil
	}
	return svc.ClusterIPs
}

// updateListeners listens at exactly these addresses, at port 53, and at those in more. Packets for an address bypass
// the service proxy only while somebody listens: before and after, and if the port is taken, the proxy sends them to the
// Service's endpoints, if there are any.
func (s *Server) updateListeners(ctx context.Context, addrs []netip.Addr, more []netip.AddrPort) error {
	var errs []error
	want := slices.Clone(more)
	for _, a := range addrs {
		want = append(want, netip.AddrPortFrom(a, Port))
	}
	errs = append(errs, s.stopListening(ctx, addrs, want))
	if s.cfg.Addresses != nil {
		errs = append(errs, s.cfg.Addresses.Set(ctx, addrs))
	}
	for _, addr := range want {
		if s.listeners[addr] != nil {
			continue
		}
		l, err := listen(addr, s.handler, s.cfg.MaxTCP)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.start(s.failures)
		s.listeners[addr] = l
	}
	now := s.listening(addrs)
	return errors.Join(append(errs, s.setNotrack(ctx, addrs, now, now))...)
}

// stopListening closes all but the wanted listeners. It takes no more queries for what goes, and then closes it; the caller
// ends the replies' exemption: see notrack.Driver.Set for why they come last.
func (s *Server) stopListening(ctx context.Context, ours []netip.Addr, want []netip.AddrPort) error {
	var stay []netip.Addr
	for _, a := range s.listening(ours) {
		if slices.Contains(want, netip.AddrPortFrom(a, Port)) {
			stay = append(stay, a)
		}
	}
	return errors.Join(s.setNotrack(ctx, ours, stay, s.listening(s.served)), s.closeListeners(want))
}

func (s *Server) setNotrack(ctx context.Context, ours, queries, replies []netip.Addr) error {
	if s.cfg.Notrack == nil {
		return nil
	}
	return s.cfg.Notrack.Set(ctx, ours, queries, replies)
}

// listening returns those of the addresses at whose port 53 somebody listens.
func (s *Server) listening(addrs []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for addr, l := range s.listeners {
		if slices.Contains(addrs, addr.Addr()) && addr.Port() == Port && l.alive() {
			out = append(out, addr.Addr())
		}
	}
	return out
}

// closeListeners closes those that are not wanted, and clears away those that failed.
func (s *Server) closeListeners(want []netip.AddrPort) error {
	var (
		errs    []error
		closing sync.WaitGroup
	)
	for addr, l := range s.listeners {
		if !l.alive() {
			errs = append(errs, l.failed)
		} else if slices.Contains(want, addr) {
			continue
		}
		delete(s.listeners, addr)
		closing.Go(l.close)
	}
	closing.Wait()
	return errors.Join(errs...)
}

// updateForwarder makes a new forwarder, with an empty cache, if the upstream servers changed. One that is an address
// of ours is left out.
func (s *Server) updateForwarder(ctx context.Context) error {
	upstreams := s.cfg.Upstreams
	var skipped []string
	var errs []error
	if len(upstreams) == 0 && s.cfg.ResolvConf != "" {
		var err error
		if upstreams, skipped, err = readResolvConf(s.cfg.ResolvConf); err != nil {
			// Keep what there is.
			return err
		}
	}
	own := make([]netip.AddrPort, 0, len(s.listeners))
	for addr := range s.listeners {
		own = append(own, addr)
	}
	for _, u := range ownAmong(upstreams, own) {
		errs = append(errs, fmt.Errorf("upstream DNS server %s is an address that we listen at, and not asked: name a server outside the cluster", u))
		upstreams = slices.DeleteFunc(slices.Clone(upstreams), func(a netip.AddrPort) bool { return a == u })
	}
	old := s.handler.forward.Load()
	if slices.Equal(upstreams, old.upstreams) {
		return errors.Join(errs...)
	}
	f, err := newForwarder(upstreams, s.cfg.MaxForwards)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	s.handler.forward.Store(f)
	old.stop()
	s.handler.metrics.upstreams.Set(float64(len(upstreams)))
	s.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "DNS upstream servers", slog.Any("servers", upstreams))
	if len(skipped) > 0 {
		s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "DNS upstream servers that are not asked: each must be an address without a zone",
			slog.String("file", s.cfg.ResolvConf), slog.Any("servers", skipped))
	}
	return errors.Join(errs...)
}

// end stops answering, and leaves the addresses to the next start.
func (s *Server) end() {
	s.state.Store(&state{errors.New("DNS has ended")})
	ctx, cancel := context.WithTimeout(context.Background(), 2*drain)
	defer cancel()
	ours := s.addresses()
	if err := errors.Join(s.stopListening(ctx, ours, nil), s.setNotrack(ctx, ours, nil, nil)); err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelError, "DNS: stopping", slog.Any("error", err))
	}
	s.handler.forward.Load().stop()
}
