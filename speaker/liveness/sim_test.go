package liveness

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/seamark-io/seamark/speaker/elect"
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
	// cut says from whom to whom nothing gets through.
	cut [][]bool
	// loss of frames, between 0 and 1, and whether some come twice or late.
	loss     float64
	disorder bool
	// lock is the segment's, nil if there is none.
	lock *lock

	// version is that of the members in the API.
	version int

	// mutant changes what is called production code here, to see that it would be noticed.
	mutant mutant
	// violations are what must not happen, in words.
	violations []string
	// starved: the violation is that nobody answers.
	starved bool
	// calm is when nodes with the policy Serve have heard of each other after parts of the segment were joined.
	calm int64
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

// lock is a Lease object: one node has it until a time that all see on their own clocks.
type lock struct {
	holder int
	until  int64
	term   time.Duration
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
	wanted []netip.Addr
	config Config
	// let is until when a mutant's reply path answers for an address that was let go, held what it held at the last look.
	let  map[netip.Addr]int64
	held map[netip.Addr]bool
	// knew are the electorates that the process ever reckoned with.
	knew map[uint64]bool
}

func (n *node) clock() Time { return Time(n.offset + int64(float64(n.w.now)*n.rate)) }

func (n *node) real(t Time) int64 { return int64(float64(int64(t)-n.offset)/n.rate) + 1 }

func newWorld(seed uint64, nodes, vips int, policy Policy) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 7)), log: func(string, ...any) {}}
	a := netip.MustParseAddr("192.0.2.1")
	for range vips {
		w.vips, a = append(w.vips, a), a.Next()
	}
	for i := range nodes {
		w.nodes = append(w.nodes, &node{
			w: w, index: i, name: fmt.Sprintf("node%d", i), rate: 1, policy: policy,
			offset: w.rand.Int64N(1e15), let: map[netip.Addr]int64{}, held: map[netip.Addr]bool{},
		})
		w.cut = append(w.cut, make([]bool, nodes))
	}
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
	n.knew = map[uint64]bool{}
	n.m.SetMembers(n.clock(), n.members)
	n.turn()
}

func (n *node) crash() {
	n.w.log("%v %s crashes", time.Duration(n.w.now), n.name)
	n.m, n.inbox, n.steady, n.paused = nil, nil, nil, false
	clear(n.let)
	clear(n.held)
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
		n.paused = false
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
	for _, to := range w.nodes {
		if to == from || w.cut[from.index][to.index] || w.rand.Float64() < w.loss {
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

// decide is the node's owner decision: elect among the living, and let go of what a better node waits for.
func (n *node) decide() {
	if !n.m.Changed() {
		return
	}
	v := n.m.View()
	n.checkHolders(v)
	alive := v.Alive()
	var wanted []netip.Addr
	for _, vip := range n.w.vips {
		want := slices.Contains(n.fixed, vip)
		if n.fixed == nil {
			av, _ := v.Address(vip)
			want = elect.Owner(vip, alive) == n.name ||
				av.State == Holding && (av.Contender == "" || !slices.Contains(alive, av.Contender))
		}
		if want {
			wanted = append(wanted, vip)
		}
	}
	if slices.Equal(wanted, n.wanted) {
		return
	}
	for _, vip := range n.wanted {
		if n.w.mutant.slowRelease > 0 && !slices.Contains(wanted, vip) && n.m.Leases().MayAnswer(vip, n.clock()) {
			n.let[vip] = n.w.now + int64(n.w.mutant.slowRelease)
		}
	}
	n.wanted = wanted
	n.w.log("%v %s wants %v, alive %v", time.Duration(n.w.now), n.name, wanted, alive)
	var wants []Want
	for _, a := range wanted {
		wants = append(wants, Want{a, n.policy})
	}
	n.step()
	n.m.SetWanted(n.clock(), wants)
}

// checkHolders compares the View, which has its holders from earlier ones where nothing has changed, with the seats.
func (n *node) checkHolders(v *View) {
	want := map[AddressID]string{}
	for id, s := range n.m.seats.at {
		if s.holder != 0 && n.m.selfSlot >= 0 {
			want[id] = n.m.names[s.holder]
		}
	}
	if !maps.Equal(v.Holders, want) {
		n.w.violations = append(n.w.violations, fmt.Sprintf("%v: the View of %s has the holders %v, which are %v", time.Duration(n.w.now), n.name, v.Holders, want))
	}
}

// answers says whether the node's reply path would answer at this moment.
func (n *node) answers(vip netip.Addr) bool {
	if n.m == nil || n.paused {
		return false
	}
	now := n.m.Leases().MayAnswer(vip, n.clock())
	if n.w.mutant.noDeadline {
		// It trusts what the core thought when it ran last.
		o := n.m.own[AddressOf(vip)]
		return o != nil && o.held
	}
	return now || n.let[vip] > n.w.now
}

// owners are the indices of the nodes that answer.
func (w *world) owners(vip netip.Addr) []int {
	var out []int
	for i, n := range w.nodes {
		if n.answers(vip) {
			out = append(out, i)
		}
	}
	return out
}

// check is the invariant: at most one node answers for an address.
func (w *world) check() {
	for _, n := range w.nodes {
		if n.m != nil && n.m.view != nil && !n.m.changed && n.m.view.Majority != n.m.base.held {
			w.violations = append(w.violations, fmt.Sprintf("%v: %s does not know that it has a majority, or that it has none", time.Duration(w.now), n.name))
			return
		}
	}
	for _, vip := range w.vips {
		first := -1
		for i, n := range w.nodes {
			if !n.answers(vip) {
				continue
			}
			if first < 0 {
				first = i
				continue
			}
			if n.policy == Serve && (!w.connected(first, i) || w.now < w.calm) {
				continue
			}
			if w.strangers(w.nodes[first], n) {
				w.gaps++
				continue
			}
			w.violations = append(w.violations, fmt.Sprintf("%v: %s and %s both answer for %s", time.Duration(w.now), w.nodes[first].name, n.name, vip))
			return
		}
	}
}

// strangers says whether two owners are in the one situation that the protocol does not cover: they go by different
// members, the processes on one side have never heard of the members that the other side goes by, and neither side hears
// the other. New nodes came, or all old ones restarted, while those who stayed neither heard of it from the API nor hear
// them on the segment.
func (w *world) strangers(a, b *node) bool {
	if a.m.elect.current.Hash == b.m.elect.current.Hash {
		return false
	}
	sides := [2][]*node{w.company(a), w.company(b)}
	for _, x := range sides[0] {
		for _, y := range sides[1] {
			if x == y || x.m.hears(y.m.self) || y.m.hears(x.m.self) {
				return false
			}
		}
	}
	never := func(side []*node, hash uint64) bool {
		return !slices.ContainsFunc(side, func(n *node) bool { return n.knew[hash] })
	}
	return never(sides[0], b.m.elect.current.Hash) || never(sides[1], a.m.elect.current.Hash)
}

// company is a node and those that it hears.
func (w *world) company(a *node) []*node {
	out := []*node{a}
	for _, n := range w.nodes {
		if n.m != nil && n != a && a.m.hears(n.m.self) {
			out = append(out, n)
		}
	}
	return out
}

// connected says whether there is any way from one node to the other, over nodes and in whatever direction, so that a
// client may hear both.
func (w *world) connected(a, b int) bool {
	seen := make([]bool, len(w.nodes))
	seen[a] = true
	for stack := []int{a}; len(stack) > 0; {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for y := range w.nodes {
			if !seen[y] && (!w.cut[x][y] || !w.cut[y][x]) {
				seen[y] = true
				stack = append(stack, y)
			}
		}
	}
	return seen[b]
}

// renewLock has one node that runs hold the lock, and another take it when it has expired.
func (w *world) renewLock(every time.Duration) {
	l := w.lock
	if w.now >= l.until || w.nodes[l.holder].m == nil || w.nodes[l.holder].paused {
		if w.now >= l.until {
			l.holder = w.rand.IntN(len(w.nodes))
		}
	}
	if n := w.nodes[l.holder]; n.m != nil && !n.paused {
		l.until = w.now + int64(l.term)
		n.step()
		n.m.LockedUntil(n.clock(), n.clock().Add(l.term*97/100))
		n.decide()
		n.turn()
	}
	w.after(every, func() { w.renewLock(every) })
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
