package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// world is a random sequence of all that can happen to an Index, told to the oracle as well.
type world struct {
	oracle
	x          *Index
	rnd        *rand.Rand
	clock      int64
	namespaces map[string]map[string]string // their labels
	counts     map[string]int
}

var (
	poolNames = []string{"a", "b", "c", "d", "e", "f"}
	// blocks are where the addresses of a world lie; the first holds some that end in .0 and .255.
	blocks = []netipx.IPRange{
		netipx.MustParseIPRange("198.51.100.250-198.51.101.5"), netipx.MustParseIPRange("192.0.2.0-192.0.2.19"),
		netipx.MustParseIPRange("2001:db8::-2001:db8::b"), netipx.MustParseIPRange("2001:db8:0:1:ffff:ffff:ffff:fffc-2001:db8:0:2::5"),
	}
)

func newWorld(seed uint64) *world {
	w := &world{
		oracle:     oracle{claims: map[netip.Addr]Claim{}, services: map[cluster.Name]Request{}},
		x:          NewIndex(),
		rnd:        rand.New(rand.NewPCG(seed, 2)),
		namespaces: map[string]map[string]string{"shop": {"team": "a"}, "bar": {}},
		counts:     map[string]int{},
	}
	w.x.SetPools(nil, nil)
	return w
}

// String shows all that an answer depends on.
func (w *world) String() string {
	var b strings.Builder
	for _, p := range w.pools {
		fmt.Fprintf(&b, "pool %+v\n", p)
	}
	fmt.Fprintf(&b, "foreign %v\n", w.foreign)
	for a, c := range w.claims {
		fmt.Fprintf(&b, "claim %s %+v\n", a, c)
	}
	for _, r := range w.services {
		fmt.Fprintf(&b, "service %+v\n", r)
	}
	return b.String()
}

func (w *world) oneOf(n int) bool           { return w.rnd.IntN(n) == 0 }
func (w *world) hold(a netip.Addr, c Claim) { w.claims[a] = c; w.x.Hold(a, &c) }

func pick[T any](w *world, from ...T) T { return from[w.rnd.IntN(len(from))] }

func (w *world) anyAddr() netip.Addr {
	if len(w.places) > 0 && !w.oneOf(6) {
		return pick(w, w.places...).addr
	}
	return w.within(pick(w, blocks...))
}

func (w *world) within(block netipx.IPRange) netip.Addr {
	a := block.From()
	for a != block.To() && !w.oneOf(10) {
		a = a.Next()
	}
	return a
}

func (w *world) service() cluster.Name {
	s := service(fmt.Sprint(w.rnd.IntN(20)))
	if w.oneOf(4) {
		s.Namespace = "bar"
	}
	return s
}

// ranges returns a few that do not overlap.
func (w *world) ranges() (out []netipx.IPRange) {
	for range 1 + w.rnd.IntN(5) {
		r := w.someRange()
		if !slices.ContainsFunc(out, r.Overlaps) {
			out = append(out, r)
		}
	}
	return out
}

func (w *world) someRange() netipx.IPRange {
	block := pick(w, blocks...)
	from := w.within(block)
	to := from
	for to != block.To() && !w.oneOf(5) {
		to = to.Next()
	}
	return netipx.IPRangeFrom(from, to)
}

func (w *world) selector(key, value string) cluster.Selector {
	if !w.oneOf(3) {
		return nil
	}
	s := cluster.Selector{{Key: key, Operator: pick(w, cluster.In, cluster.In, cluster.NotIn, cluster.Exists, cluster.DoesNotExist)}}
	if s[0].Operator <= cluster.NotIn {
		s[0].Values = []string{value}
	}
	return s
}

func (w *world) newPool(name string) writtenPool {
	p := writtenPool{created: time.Unix(int64(w.rnd.IntN(8)), 0)}
	p.Name, p.Ranges = name, w.ranges()
	for range 20 {
		w.editPool(&p)
	}
	return p
}

// editPool changes one thing about a pool.
func (w *world) editPool(p *writtenPool) {
	switch w.rnd.IntN(11) {
	case 0:
		p.Ranges = w.ranges()
	case 1:
		if r := w.someRange(); !slices.ContainsFunc(p.Ranges, r.Overlaps) {
			p.Ranges = append(slices.Clone(p.Ranges), r)
		}
	case 2:
		if n := len(p.Ranges); n > 1 {
			p.Ranges = p.Ranges[: n-1 : n-1]
		}
	case 3: // grow or shrink one, in place
		p.Ranges = slices.Clone(p.Ranges)
		i := w.rnd.IntN(len(p.Ranges))
		r := p.Ranges[i]
		p.Ranges[i] = netipx.IPRangeFrom(r.From(), r.From())
		if longer := netipx.IPRangeFrom(r.From(), r.To().Next()); w.oneOf(2) && longer.IsValid() {
			p.Ranges[i] = longer
		}
		for j, other := range p.Ranges {
			if j != i && other.Overlaps(p.Ranges[i]) {
				p.Ranges[i] = r
			}
		}
	case 4:
		p.Priority = pick[int32](w, -1, 0, 0, 0, 1)
	case 5:
		p.AutoAssign = !w.oneOf(6)
	case 6:
		p.AvoidBuggyIPs = w.oneOf(3)
	case 7:
		p.Draining = w.oneOf(6)
	case 8:
		p.Retain = w.oneOf(3)
	case 9:
		p.ServiceSelector = w.selector("tier", "gold")
	case 10:
		p.NamespaceSelector = w.selector("team", "a")
	}
}

// editPools changes one thing about the pools, or what others have of them.
func (w *world) editPools() error {
	w.counts["pool edited"]++
	name := pick(w, poolNames...)
	i := slices.IndexFunc(w.pools, func(p writtenPool) bool { return p.Name == name })
	switch {
	case w.oneOf(8):
		w.foreign = nil
		for range w.rnd.IntN(3) {
			w.foreign = append(w.foreign, w.someRange())
		}
	case w.oneOf(10):
		pick(w, w.namespaces["shop"], w.namespaces["bar"])["team"] = pick(w, "a", "b")
	case w.oneOf(60):
		w.pools = nil
	case i < 0:
		w.pools = append(w.pools, w.newPool(name))
	case w.oneOf(8):
		w.pools = slices.Delete(w.pools, i, i+1)
	case w.oneOf(6):
		w.pools[i].deleted, w.pools[i].broken = w.oneOf(3), w.oneOf(3)
	default:
		w.editPool(&w.pools[i])
	}
	w.arrange()
	pools, refused, err := w.judge()
	if err != nil {
		return err
	}
	w.x.SetPools(pools, refused)
	return nil
}

// judge has the pools judged as they are written; the oracle has its own opinion of which give out anything.
func (w *world) judge() (pools []Pool, refused map[string]Refused, err error) {
	var candidates []Candidate
	for _, p := range w.pools {
		c := Candidate{Pool: p.Pool, Created: p.created, Deleted: p.deleted}
		c.Ranges = nil
		for _, r := range p.Ranges {
			text := r.String()
			if prefix, ok := r.Prefix(); ok {
				text = prefix.String()
			}
			c.Addresses = append(c.Addresses, text)
		}
		if p.broken {
			c.Problem = errors.New("it is broken")
		}
		candidates = append(candidates, c)
	}
	var foreign []Foreign
	for _, r := range w.foreign {
		foreign = append(foreign, Foreign{r, "somebody's"})
	}
	w.rnd.Shuffle(len(candidates), func(i, j int) { candidates[i], candidates[j] = candidates[j], candidates[i] })
	pools, verdicts := Judge(candidates, foreign)
	refused = map[string]Refused{}
	for _, p := range w.pools {
		v, ok := verdicts[p.Name]
		if !ok || (v.Refused == "") != w.gives(p.Name) || v.Deleted != p.deleted {
			return nil, nil, fmt.Errorf("the verdict on pool %s is %+v; does it give out addresses: %t", p.Name, v, w.gives(p.Name))
		}
		if v.Refused != "" {
			refused[p.Name] = Refused{Why: v.Refused, Retain: p.Retain, Deleted: p.deleted}
		}
	}
	w.rnd.Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
	return pools, refused, nil
}

// reserve keeps an address for a Service or from everybody, as a person does.
func (w *world) reserve() {
	a := w.anyAddr()
	if c := w.claims[a]; len(c.Users) > 0 && !w.oneOf(4) {
		return
	}
	c := w.claims[a]
	c.ReservedFor = cluster.Name{}
	if !w.oneOf(5) {
		c.ReservedFor = w.service()
	}
	if len(c.Users) == 0 {
		c.Since = time.Unix(w.clock, 0)
		c.Pool = pick(w, "", "", pick(w, poolNames...))
	}
	w.hold(a, c)
}

// restore gives a Service an address that nobody has, wherever it lies: as a backup does that is set back.
func (w *world) restore() {
	a := w.anyAddr()
	if _, claimed := w.claims[a]; claimed {
		return
	}
	c := Claim{Users: []User{{Service: w.service()}}, Pool: pick(w, poolNames...)}
	if !w.oneOf(3) {
		c.Since = time.Unix(w.rnd.Int64N(w.clock+1), 0)
	}
	w.hold(a, c)
}

// describe tells what a Service wants, and checks what that is to others.
func (w *world) describe(r Request) error {
	before := seenByOthers(w.services[r.Service])
	if r.Invalid != nil {
		delete(w.services, r.Service)
	} else {
		w.services[r.Service] = r
	}
	after := seenByOthers(w.services[r.Service])
	if news := w.x.Describe(r); news != (before != after) {
		return fmt.Errorf("news to others: %t; of %+v they saw %q, now %q", news, r, before, after)
	}
	for s, r := range w.services {
		if counts := seenByOthers(r) != ""; counts != slices.Contains(w.x.Described(), s) || w.x.Shares(s) != (r.Sharing.Key != "") {
			return fmt.Errorf("described are %v; does %s count for others: %t; does it share: %t", w.x.Described(), s, counts, w.x.Shares(s))
		}
	}
	return nil
}

// seenByOthers is what of a request matters to others, as text.
func seenByOthers(r Request) (text string) {
	if r.Sharing.Key != "" {
		text = fmt.Sprintf("shares %q %q %v", r.Sharing.Terms, r.Sharing.Namespaces, r.Ports)
	}
	if len(r.Ask.Addresses) > 0 {
		text += fmt.Sprintf(" asks for %v of %q %v %v %v", r.Ask.Addresses, r.Ask.Pool, r.Families, r.Labels, r.NamespaceLabels)
	}
	return text
}

// request is what a Service could want: something new, or what it wants already with one thing changed.
func (w *world) request() Request {
	r, known := w.services[w.service()]
	if known && !w.oneOf(4) {
		w.editRequest(&r)
	} else {
		r = Request{Service: w.service(), Families: only4}
		for range 12 {
			w.editRequest(&r)
		}
	}
	r.NamespaceLabels = map[string]string{"team": w.namespaces[r.Service.Namespace]["team"]}
	if r.NamespaceLabels["team"] == "" {
		r.NamespaceLabels = nil
	}
	return r
}

// editRequest changes one thing about a request.
func (w *world) editRequest(r *Request) {
	switch w.rnd.IntN(9) {
	case 0:
		r.Families = pick(w, only4, only6, dual, dual6)
		r.AnyFamily = len(r.Families) == 2 && w.oneOf(2)
		if !w.oneOf(6) { // who takes a family away mostly thinks of the addresses
			r.Ask.Addresses = slices.DeleteFunc(slices.Clone(r.Ask.Addresses), func(a netip.Addr) bool { return !slices.Contains(r.Families, cluster.FamilyOf(a)) })
		}
	case 1:
		r.Labels = pick(w, nil, nil, map[string]string{"tier": "gold"}, map[string]string{"tier": "lead"})
	case 2:
		r.Ports = nil
		for p := range 5 {
			if w.oneOf(2) {
				r.Ports = append(r.Ports, cluster.Port{Protocol: pick(w, cluster.TCP, cluster.TCP, cluster.UDP), Number: uint16(p + 1)})
			}
		}
		slices.SortFunc(r.Ports, cluster.Port.Compare)
	case 3:
		r.Sharing.Terms = Terms{}
		if w.oneOf(2) {
			r.Sharing.Key = pick(w, "k", "k", "l")
			r.Sharing.Selector = pick(w, "", "", "", "app=web")
		}
	case 4:
		r.Sharing.Namespaces = pick(w, nil, []string{"bar"}, []string{"shop"}, []string{"bar", "shop"})
	case 5:
		r.Ask.Pool = ""
		if w.oneOf(4) {
			r.Ask.Pool = pick(w, append(poolNames, "gone")...)
		}
	case 6:
		w.askFor(r)
	case 7:
		r.Ask.Reassign = w.oneOf(5)
		r.Invalid = nil
		if w.oneOf(8) {
			r.Invalid = &Problem{Reason: InvalidRequest, Message: "it cannot be read"}
		}
	case 8:
		r.Prefer = nil
		for range pick(w, 0, 0, 1, 2) {
			r.Prefer = append(r.Prefer, w.anyAddr())
		}
	}
}

// askFor has a request name no address, one or two.
func (w *world) askFor(r *Request) {
	r.Ask.Addresses = nil
	if !w.oneOf(3) {
		return
	}
	for range pick(w, 1, 9, 9) {
		a := w.anyAddr()
		if _, claimed := w.claims[a]; claimed && !w.oneOf(4) {
			continue
		}
		if slices.Contains(r.Families, cluster.FamilyOf(a)) && !r.Ask.Address(cluster.FamilyOf(a)).IsValid() {
			r.Ask.Addresses = append(r.Ask.Addresses, a)
		}
	}
	slices.SortFunc(r.Ask.Addresses, netip.Addr.Compare)
}
