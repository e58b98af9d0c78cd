package segments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/liveness/wire"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Config of a Driver.
type Config struct {
	// Node is the name of this node's Node object.
	Node string
	// Interval and Multiplier are those of liveness.Config; zero: the defaults.
	Interval   time.Duration
	Multiplier int
	Log        *slog.Logger
	// Locker decides between two halves of a segment; nil: neither half goes on.
	Locker Locker
	// Gained is called with addresses that this node has begun to hold, or that others may have heard of from elsewhere
	// meanwhile: they are to be announced. It must not block.
	Gained func(addrs ...netip.Addr)
	// Settle returns when nothing is being said any more of addresses that MayAnswer let pass before it was called. nil: nothing is.
	Settle func()
}

// The delay before a segment is joined again after a failure doubles from retryMin to retryMax.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

// tellEvery is the least time between two lines of log about a segment.
const tellEvery = time.Second

// Driver takes part on segments. Its methods may be called from any goroutine.
type Driver struct {
	cfg  Config
	loop *segment.Loop
	// phase is common to all segments, so that this node wakes others once for all of them.
	phase         uint64
	changed, lost chan struct{}
	// live and leaving, addresses that are let go of just now, are read by the reply path.
	live    atomic.Pointer[[]*segment.Segment]
	leaving atomic.Pointer[map[netip.Addr]bool]

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before and after
	running  sync.WaitGroup
	parts    map[key]*part
	turns    map[netip.Prefix]*sync.Mutex // by the segment that they are for
	keys     keyring
	renew    *time.Timer // signals changed when there will be other keys; nil if there never were
	draining bool
}

// key is what a segment is: a subnet on an interface.
type key struct {
	subnet  netip.Prefix
	ifindex int
}

// part is this node's part on one segment.
type part struct {
	key
	segment *segment.Segment
	// name is that of the interface, which may be renamed. It is guarded by the Driver's lock.
	name string
	keys *cluster.HeartbeatKeys
	// stop ends it; nil as long as it does not run.
	stop context.CancelFunc
	// members are those that were set last, interfaces what they take part by.
	members    []string
	interfaces map[string]string
	wants      []liveness.Want
	// tied is signalled when whether half of the acceptors are heard has changed.
	tied chan struct{}
	// turn is had by the part of the segment that may ask for the lock.
	turn *sync.Mutex
	// generations are those of the addresses that were held at the last look. They belong to its goroutine.
	generations map[netip.Addr]uint64
}

// New returns a Driver that takes part nowhere.
func New(c Config) (*Driver, error) {
	if c.Gained == nil {
		c.Gained = func(...netip.Addr) {}
	}
	if c.Settle == nil {
		c.Settle = func() {}
	}
	loop, err := segment.NewLoop(c.Log)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg: c, loop: loop, phase: rand.Uint64(), changed: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		parts: map[key]*part{}, turns: map[netip.Prefix]*sync.Mutex{}, keys: keyring{hold: overlap},
	}
	d.live.Store(&[]*segment.Segment{})
	d.leaving.Store(&map[netip.Addr]bool{})
	return d, nil
}

// MayAnswer says whether this node may answer for an address at this moment. It takes no lock and does not allocate.
func (d *Driver) MayAnswer(a netip.Addr) bool {
	if leaving := *d.leaving.Load(); len(leaving) > 0 && leaving[a] {
		return false
	}
	for _, s := range *d.live.Load() {
		if s.MayAnswer(a) {
			return true
		}
	}
	return false
}

// Changed receives when Facts returns something new. It holds one signal; it is for one reader.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Lost receives when other nodes are alive than at the last receive: then Facts must not wait. It holds one signal; it is for
// one reader.
func (d *Driver) Lost() <-chan struct{} { return d.lost }

// Set makes this node take part on the given segments, with these members, and no others, and want these addresses, sorted.
// Without keys, or with one to seal with that cannot be used, it goes on with those that it had last; as long as it had none it
// takes part nowhere. The error says where it does not, and which keys it does not use; calling Set again retries.
func (d *Driver) Set(lans []plan.LAN, wanted []plan.L2, keys *cluster.HeartbeatKeys) error {
	wants := map[key][]liveness.Want{}
	for i := range wanted {
		w := &wanted[i]
		k := key{w.Subnet, w.Link.Index}
		policy := liveness.Fence
		if w.Serve {
			policy = liveness.Serve
		}
		wants[k] = append(wants[k], liveness.Want{Addr: w.Addr, Policy: policy})
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if err := d.keys.give(keys, time.Now()); err != nil {
		errs = append(errs, err)
	}
	goBy := d.goBy()
	if goBy == nil {
		lans = nil
	}
	keep := map[key]bool{}
	for _, lan := range lans {
		k := key{lan.Subnet, lan.Link.Index}
		keep[k] = true
		if err := d.set(k, lan, wants[k], goBy); err != nil {
			errs = append(errs, fmt.Errorf("segment %s on %s: %w", lan.Subnet, lan.Link.Name, err))
		}
	}
	for k, p := range d.parts {
		if !keep[k] {
			d.remove(p)
		}
	}
	return errors.Join(errs...)
}

// goBy returns the keys to go by, and has Set called again when there will be others. The lock is held.
func (d *Driver) goBy() *cluster.HeartbeatKeys {
	keys, again := d.keys.at(time.Now())
	if d.renew != nil {
		d.renew.Stop()
	}
	if again > 0 {
		d.renew = time.AfterFunc(again, func() { signal(d.changed) })
	}
	return keys
}

func (d *Driver) set(k key, lan plan.LAN, wants []liveness.Want, keys *cluster.HeartbeatKeys) error {
	var err error
	p := d.parts[k]
	if p == nil {
		if p, err = d.join(k, lan, keys); err != nil {
			return err
		}
		p.segment.SetDraining(d.draining)
		d.want(p, wants)
		d.parts[k] = p
		d.publish()
		d.start(p)
	}
	if p.keys != keys {
		var wk *wire.Keys
		if wk, err = wire.NewKeys(lan.Subnet.String(), keys.Send, keys.Accept...); err == nil {
			err = p.segment.SetKeys(wk)
		}
		if err == nil {
			p.keys = keys
		}
	}
	p.name = lan.Link.Name
	// Without other keys addresses move all the same.
	var members []string
	p.interfaces = map[string]string{}
	for _, m := range lan.Members {
		members = append(members, m.Node)
		p.interfaces[m.Node] = m.Interface
	}
	if !slices.Equal(members, p.members) {
		p.members = members
		p.segment.SetMembers(members)
	}
	d.want(p, wants)
	return err
}

// want has a part want these addresses, sorted, and no others. Of what it lets go nothing is said any more before others learn of it: an answer
// that had been let pass, and had to wait for a processor, would come when another node answers. The lock is held.
func (d *Driver) want(p *part, wants []liveness.Want) {
	if slices.Equal(wants, p.wants) {
		return
	}
	leaving := map[netip.Addr]bool{}
	for _, w := range p.wants {
		if _, stays := slices.BinarySearchFunc(wants, w.Addr, func(w liveness.Want, a netip.Addr) int { return w.Addr.Compare(a) }); !stays {
			leaving[w.Addr] = true
		}
	}
	if len(leaving) > 0 {
		d.leaving.Store(&leaving)
		d.cfg.Settle()
		defer d.leaving.Store(&map[netip.Addr]bool{})
	}
	p.wants = wants
	p.segment.Set(wants)
}

func (d *Driver) join(k key, lan plan.LAN, keys *cluster.HeartbeatKeys) (*part, error) {
	wk, err := wire.NewKeys(lan.Subnet.String(), keys.Send, keys.Accept...)
	if err != nil {
		return nil, err
	}
	s, err := segment.New(segment.Config{
		Member: liveness.Config{
			Segment: lan.Subnet.String(), Node: d.cfg.Node, Phase: d.phase, Interval: d.cfg.Interval, Multiplier: d.cfg.Multiplier,
		},
		Interface: &net.Interface{Index: lan.Link.Index, Name: lan.Link.Name, HardwareAddr: lan.Link.MAC[:]},
		Keys:      wk,
		Loop:      d.loop,
		Log:       d.cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &part{
		key: k, segment: s, name: lan.Link.Name, keys: keys, tied: make(chan struct{}, 1), turn: d.turn(lan.Subnet),
		generations: map[netip.Addr]uint64{},
	}, nil
}

// turn returns what the parts of a segment have in turn. The lock is held.
func (d *Driver) turn(subnet netip.Prefix) *sync.Mutex {
	if d.turns[subnet] == nil {
		d.turns[subnet] = &sync.Mutex{}
	}
	return d.turns[subnet]
}

// nameOf returns the name of the part's interface.
func (d *Driver) nameOf(p *part) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return p.name
}

func (d *Driver) remove(p *part) {
	d.want(p, nil)
	if p.stop != nil {
		p.stop()
	}
	delete(d.parts, p.key)
	d.publish()
}

func (d *Driver) publish() {
	live := make([]*segment.Segment, 0, len(d.parts))
	for _, p := range d.parts {
		live = append(live, p.segment)
	}
	d.live.Store(&live)
	signal(d.changed)
}

// Run takes part until ctx ends; then it lets go of everything, and says so.
func (d *Driver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	d.mu.Lock()
	d.ctx = ctx
	for _, p := range d.parts {
		d.start(p)
	}
	d.mu.Unlock()
	err := d.loop.Run(ctx)
	cancel()
	d.mu.Lock()
	d.ctx = nil
	d.mu.Unlock()
	d.running.Wait()
	return err
}

// start runs a part if Run runs. The lock is held.
func (d *Driver) start(p *part) {
	if d.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(d.ctx)
	p.stop = stop
	d.running.Go(func() { d.keep(ctx, p) })
	d.running.Go(func() { d.follow(ctx, p) })
	d.running.Go(func() { d.guard(ctx, p) })
}

// keep takes part on a segment until ctx ends, again and again: the interface may come back.
func (d *Driver) keep(ctx context.Context, p *part) {
	for delay := retryMin; ; delay = min(2*delay, retryMax) {
		began := time.Now()
		err := p.segment.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > retryMax {
			delay = retryMin
		}
		d.cfg.Log.Warn("cannot take part on a segment", "segment", p.subnet, "interface", d.nameOf(p), "err", err, "retry", delay)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}

// follow tells of what has changed on a segment until ctx ends.
func (d *Driver) follow(ctx context.Context, p *part) {
	tie := false
	var alive []string
	log := segmentLog{driver: d, part: p}
	for {
		select {
		case <-ctx.Done():
			return
		case <-log.later:
			log.tell()
			continue
		case <-p.segment.Changed():
		}
		view := p.segment.View()
		if gained := p.gained(view); len(gained) > 0 {
			d.cfg.Gained(gained...)
		}
		log.tell()
		if view.Tie != tie {
			tie = view.Tie
			signal(p.tied)
		}
		if now := candidates(view); !slices.Equal(now, alive) {
			alive = now
			signal(d.lost)
		}
		signal(d.changed)
	}
}

// segmentLog writes a line when the problems of a segment have changed, and not too many.
type segmentLog struct {
	driver *Driver
	part   *part
	// told is what was written last, and when; later receives when there is something that was put off.
	told  string
	at    time.Time
	later <-chan time.Time
}

func (l *segmentLog) tell() {
	view := l.part.segment.View()
	text := fmt.Sprint(view.Problems)
	if text == l.told {
		return
	}
	if wait := tellEvery - time.Since(l.at); wait > 0 {
		l.later = time.After(wait)
		return
	}
	l.told, l.at = text, time.Now()
	l.driver.cfg.Log.Info("a segment has changed", "segment", l.part.subnet, "interface", l.driver.nameOf(l.part), "alive", view.Alive(), "majority", view.Majority, "problems", text)
}

// candidates returns the nodes that are alive and do not drain.
func candidates(v *liveness.View) []string {
	var out []string
	for _, n := range v.Nodes {
		if n.Alive && !n.Draining {
			out = append(out, n.Name)
		}
	}
	return out
}

// gained returns the addresses that are held and of another generation than at the last look.
func (p *part) gained(v *liveness.View) []netip.Addr {
	var out []netip.Addr
	held := 0
	for i := range v.Addresses {
		a := &v.Addresses[i]
		if a.State != liveness.Holding {
			continue
		}
		held++
		if g, ok := p.generations[a.Addr]; !ok || g != a.Generation {
			out = append(out, a.Addr)
			p.generations[a.Addr] = a.Generation
		}
	}
	if held == len(p.generations) {
		return out
	}
	clear(p.generations) // some are not held any more
	for i := range v.Addresses {
		if a := &v.Addresses[i]; a.State == liveness.Holding {
			p.generations[a.Addr] = a.Generation
		}
	}
	return out
}

// HasKeys reports whether there were ever keys that could be used.
func (d *Driver) HasKeys() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys.given != nil
}

// SetDraining says whether the other nodes are to take over what this node has.
func (d *Driver) SetDraining(draining bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = draining
	for _, p := range d.parts {
		p.segment.SetDraining(draining)
	}
}

// sorted returns the parts by subnet and interface. The lock is held.
func (d *Driver) sorted() []*part {
	out := make([]*part, 0, len(d.parts))
	for _, p := range d.parts {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *part) int {
		return cmp.Or(a.subnet.Compare(b.subnet), cmp.Compare(a.ifindex, b.ifindex))
	})
	return out
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
