package liveness

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// The simulator runs Members, the code of production, over a network and clocks of its own. All that happens follows from
// a seed.

// world is a segment: nodes, what is on the way between them, and what goes wrong.
type world struct {
	rand  *rand.Rand
	now   int64 // nanoseconds
	queue queue
	count int
	nodes []*node
	vips  []netip.Addr
	ids   []AddressID // of vips
	// cut says from whom to whom nothing gets through, since when that is so or not.
	cut   [][]bool
	since [][]int64
	// loss of frames, between 0 and 1, and whether some come twice or late.
	loss     float64
	disorder bool
	// lossSince is since when the loss is what it is.
	lossSince int64
	// lock is the segment's, nil if there is none.
	lock *lock

	// snap is what the API has besides the members.
	snap *cluster.Snapshot
	// lag is how long a node takes to decide anew at most.
	lag time.Duration

	// version is that of the members in the API.
	version int

	// mutant changes what is called production code here, to see that it would be noticed.
	mutant mutant
	// violations are what must not happen, in words.
	violations []string
	// starved: the violation is that nobody answers.
	starved bool
	// touched are the nodes whose state this event may have changed; stirred: links, so that all count.
	touched []*node
	stirred bool
	// served is until when each address is or was answered for, lookAt when it is to be looked whether one is for too long.
	served []int64
	lookAt int64
	// both is since when two nodes have both answered for an address, with the policy Serve: address, node, node.
	both map[[3]int]int64
	// meet is for how long they may when they hear each other.
	meet time.Duration
	// trace is a hash of all that has happened.
	trace uint64
	// gaps counts moments in which two nodes answered that belong to strangers.
	gaps int
	log  func(format string, args ...any)
}

// mutant breaks the protocol in one way.
type mutant struct {
	name string
	// born is called for each new Member, stepped before each call of one, received after each heartbeat.
	born     func(*Member)
	stepped  func(*Member)
	received func(m *Member, h *Heartbeat)
	// sent may change a heartbeat on its way out.
	sent func(*Heartbeat)
	// deaf to deadlines: the reply path answers for what it held when it looked last.
	noDeadline bool
	// slow release: the reply path answers for that long after the address was let go.
	slowRelease time.Duration
}

type node struct {
	w      *world
	index  int
	name   string
	m      *Member
	rate   float64
	offset int64
	lives  int
	paused bool
	// inbox are frames that came while the process was stopped, steady those that wait until it has something to do.
	inbox, steady []arrival
	due           int64
	// members is what this node's view of the API says, stale if it does not follow.
	members []string
	version int
	stale   bool
	// fixed is a set of addresses that this node wants whatever the others do; nil: it goes by elect.
	fixed  []netip.Addr
	policy Policy
	wanted []Want
	config Config
	// deciding: a decision is on its way. tie is what the last one was told. key is reused.
	deciding, tie bool
	key           []byte
	// since is when the node was last disturbed: it started, woke up, or the members changed for it.
	since      int64
	electorate uint64
	// served is until when the node answers or answered for each address.
	served []int64
	client client
	// let is until when a mutant's reply path answers for an address that was let go.
	let map[netip.Addr]int64
	// knew are the electorates that the process ever reckoned with.
	knew map[uint64]bool
}

// complete is what production makes of the node's Config.
func (n *node) complete() (Config, error) {
	c := n.config
	c.Segment, c.Node, c.Incarnation = "10.0.0.0/24", n.name, 1
	return c.complete()
}

func (n *node) clock() Time { return Time(n.offset + int64(float64(n.w.now)*n.rate)) }

func (n *node) real(t Time) int64 { return int64(float64(int64(t)-n.offset)/n.rate) + 1 }

func newWorld(seed uint64, nodes, vips int, policy Policy) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 7)), log: func(string, ...any) {}}
	a := netip.MustParseAddr("192.0.2.1")
	for range vips {
		w.vips, w.ids, a = append(w.vips, a), append(w.ids, AddressOf(a)), a.Next()
	}
	for i := range nodes {
		w.nodes = append(w.nodes, &node{
			w: w, index: i, name: fmt.Sprintf("node%d", i), rate: 1, policy: policy,
			offset: w.rand.Int64N(1e15), let: map[netip.Addr]int64{}, served: make([]int64, vips),
		})
		w.cut, w.since = append(w.cut, make([]bool, nodes)), append(w.since, make([]int64, nodes))
	}
	w.served = make([]int64, vips)
	return w
}

func (w *world) all() []string {
	var out []string
	for _, n := range w.nodes {
		out = append(out, n.name)
	}
	return out
}

// at has something happen later.
func (w *world) at(t int64, f func()) {
	w.count++
	w.queue.push(event{max(t, w.now), w.count, f})
}

func (w *world) after(d time.Duration, f func()) { w.at(w.now+int64(d), f) }

// run lets time pass until the given instant.
func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= int64(until) && len(w.violations) == 0 {
		e := w.queue.pop()
		w.now = e.at
		w.note(uint64(e.at) ^ uint64(e.order)<<48)
		e.do()
		w.check()
	}
	w.now = max(w.now, int64(until))
}

// start has a node's process begin, with what the API says of the members.
func (n *node) start() {
	n.lives++
	cfg := n.config
	cfg.Segment, cfg.Node, cfg.Incarnation = "10.0.0.0/24", n.name, n.w.rand.Uint64()|1
	m, err := New(n.clock(), cfg)
	if err != nil {
		panic(err)
	}
	if n.w.mutant.born != nil {
		n.w.mutant.born(m)
	}
	n.m, n.wanted, n.inbox, n.steady, n.paused, n.due = m, nil, nil, nil, false, 0
	n.deciding, n.tie, n.client, n.since = false, false, client{}, n.w.now
	n.knew = map[uint64]bool{}
	n.m.SetMembers(n.clock(), n.members)
	n.turn()
}

// thaw ends a pause before its time.
func (n *node) thaw() {
	n.lives++ // what waits for its waking up finds another life
	n.paused, n.deciding, n.inbox, n.due, n.since = false, false, nil, 0, n.w.now
	n.client = client{}
	n.w.touch(n)
	n.w.check()
	n.m.changed = true
}

func (n *node) crash() {
	n.w.log("%v %s crashes", time.Duration(n.w.now), n.name)
	n.m, n.inbox, n.steady, n.paused = nil, nil, nil, false
	clear(n.let)
}

// pause stops the process, or the machine, for a while. Frames wait, as many as the socket takes.
func (n *node) pause(d time.Duration) {
	if n.m == nil || n.paused {
		return
	}
	n.w.log("%v %s pauses for %v", time.Duration(n.w.now), n.name, d)
	n.paused = true
	life := n.lives
	n.w.after(d, func() {
		if n.lives != life || !n.paused {
			return
		}
		n.w.log("%v %s wakes up", time.Duration(n.w.now), n.name)
		n.paused, n.since = false, n.w.now
		n.w.touch(n)
		n.w.check() // before it has noticed anything
		// The timer or the socket may come first.
		if n.w.rand.IntN(2) == 0 {
			n.turn()
		}
		inbox := n.inbox
		n.inbox = nil
		for _, a := range inbox {
			n.arrive(a)
		}
		n.turn()
	})
}

// api tells the node the members of a version of the API, unless it does not hear of them, or knows newer ones.
func (n *node) api(members []string, version int) {
	if n.stale || version < n.version {
		return
	}
	n.members, n.version = members, version
	if n.m != nil && !n.paused {
		n.step()
		n.m.SetMembers(n.clock(), members)
		n.turn()
	}
}

func (n *node) step() {
	n.w.touch(n)
	if n.w.mutant.stepped != nil {
		n.w.mutant.stepped(n.m)
	}
}

func (n *node) receive(o *Outgoing) {
	if n.m == nil {
		return
	}
	a := arrival{o, n.clock()}
	if n.paused {
		if len(n.inbox) < 256 {
			n.inbox = append(n.inbox, a)
		}
		return
	}
	n.arrive(a)
}

// arrival is a frame and when it came.
type arrival struct {
	*Outgoing
	at Time
}

// arrive has a frame looked at, if it is prompt, with all that have waited for that.
func (n *node) arrive(a arrival) {
	if a.To == ToAcceptors && n.m.selfSlot < 0 {
		return
	}
	if !a.Prompt {
		if len(n.steady) < 256 {
			n.steady = append(n.steady, a)
		}
		return
	}
	n.take(a)
	n.drain()
	if n.m.Next() <= n.clock() {
		n.turn()
	} else {
		n.schedule()
	}
}

func (n *node) take(a arrival) {
	n.step()
	n.m.ReceiveAt(n.clock(), a.at, &a.Heartbeat)
	if n.w.mutant.received != nil {
		n.w.mutant.received(n.m, &a.Heartbeat)
	}
	n.decide()
}

// drain looks at the frames that waited.
func (n *node) drain() {
	steady := n.steady
	n.steady = nil
	for _, a := range steady {
		n.take(a)
	}
}

// turn calls Tick and sends what comes of it.
func (n *node) turn() {
	if n.m == nil || n.paused {
		return
	}
	n.drain()
	n.step()
	n.decide()
	for _, o := range n.m.Tick(n.clock()) {
		n.w.send(n, &o)
	}
	n.decide()
	n.schedule()
}

func (n *node) schedule() {
	electorate := n.m.elect.current.Hash ^ uint64(len(n.m.elect.others))
	if electorate != n.electorate {
		n.electorate, n.since = electorate, n.w.now
	}
	n.knew[n.m.elect.current.Hash] = true
	for _, o := range n.m.elect.others {
		n.knew[o.Hash] = true
	}
	at := max(n.real(n.m.Next()), n.w.now+1)
	if n.due > n.w.now && n.due <= at {
		return
	}
	n.due = at
	life := n.lives
	n.w.at(at, func() {
		if n.lives == life && n.due == at {
			n.due = 0
			n.turn()
		}
	})
}

// send gives a heartbeat to the network.
func (w *world) send(from *node, o *Outgoing) {
	if w.mutant.sent != nil {
		w.mutant.sent(&o.Heartbeat)
	}
	w.note(uint64(o.From) ^ uint64(o.Seq))
	for _, to := range w.nodes {
		if to == from || o.To == ToAcceptors && to.m != nil && to.m.selfSlot < 0 || w.cut[from.index][to.index] || w.rand.Float64() < w.loss {
			continue
		}
		copies := 1
		if w.disorder && w.rand.IntN(20) == 0 {
			copies = 2
		}
		for range copies {
			delay := 50*time.Microsecond + time.Duration(w.rand.IntN(300))*time.Microsecond
			if w.disorder && w.rand.IntN(10) == 0 {
				delay += time.Duration(w.rand.IntN(60)) * time.Millisecond
			}
			w.after(delay, func() { to.receive(o) })
		}
	}
}

// event is something that happens at a time.
type event struct {
	at    int64
	order int
	do    func()
}

// queue is a heap of events.
type queue []event

func (q queue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		p := (i - 1) / 2
		if !h.less(i, p) {
			break
		}
		h[i], h[p] = h[p], h[i]
		i = p
	}
}

func (q *queue) pop() event {
	h := *q
	top := h[0]
	last := len(h) - 1
	h[0] = h[last]
	h[last] = event{}
	*q = h[:last]
	h = *q
	for i := 0; ; {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h.less(c+1, c) {
			c++
		}
		if !h.less(c, i) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	return top
}
