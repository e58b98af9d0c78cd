package ipam

import (
	"cmp"
	"flag"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

var (
	seedFlag  = flag.Uint64("ipam.seed", 0, "seed of TestAgainstOracle; 0: several, one after the other")
	stepsFlag = flag.Int("ipam.steps", 100_000, "steps of TestAgainstOracle, over all its seeds")
)

// seeds is how many there are by default, 1 and up.
const seeds = 10

// tally counts what came up, so that the test can tell whether it tests anything.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(from map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range from {
		c.counts[what] += n
	}
}

// Random pools, requests, reservations, releases and edits of all of them: at every step the Index decides as the oracle
// does, for the reasons that the oracle finds, and leaves the claims that the oracle expects.
func TestAgainstOracle(t *testing.T) {
	var list []uint64
	for seed := uint64(1); seed <= seeds; seed++ {
		list = append(list, seed)
	}
	if *seedFlag != 0 {
		list = []uint64{*seedFlag}
	}
	steps := *stepsFlag / len(list)
	all := tally{counts: map[string]int{}}
	t.Run("seeds", func(t *testing.T) {
		for _, seed := range list {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(seed)
				for range 15 {
					if err := w.editPools(); err != nil {
						t.Fatal(err)
					}
				}
				defer func() { all.add(w.counts) }()
				for step := range steps {
					if err := w.step(); err != nil {
						t.Fatalf("step %d: %v\n%s\nagain: go test ./provider/ipam -run TestAgainstOracle -ipam.seed %d -ipam.steps %d", step, err, w, seed, step+1)
					}
				}
			})
		}
	})
	var came []string
	for _, what := range slices.Sorted(maps.Keys(all.counts)) {
		came = append(came, fmt.Sprintf("%s %d", what, all.counts[what]))
	}
	t.Logf("seeds %v, %d steps each, %d in all: %s", list, steps, all.counts["step"], strings.Join(came, ", "))
	if t.Failed() || *seedFlag != 0 {
		return
	}
	if want := seeds * steps; all.counts["step"] != want {
		t.Errorf("%d steps, want %d", all.counts["step"], want)
	}
	for _, what := range append(Reasons(), "granted", "family missing", "shared", "left one for another", "left", "retained", "two asked for", "reserved", "moved out of a conflict", "came back to no pool", "kept without a pool", "pool edited") {
		if all.counts[string(what)] < all.counts["step"]/2000 {
			t.Errorf("%q came up only %d times: the test does not test it", what, all.counts[string(what)])
		}
	}
}

// step lets something happen and has a Service ask.
func (w *world) step() error {
	w.counts["step"]++
	w.clock++
	if w.oneOf(25) {
		if err := w.editPools(); err != nil {
			return err
		}
	}
	if w.oneOf(20) {
		w.reserve()
	}
	if w.oneOf(40) {
		w.restore()
	}
	if w.oneOf(15) {
		a := w.anyAddr()
		delete(w.claims, a)
		w.x.Release(a)
	}
	if w.oneOf(4) {
		if err := w.leave(w.service()); err != nil {
			return err
		}
	}
	if err := w.ask(w.request()); err != nil {
		return err
	}
	if w.clock%10 == 0 {
		if err := w.checkCounts(); err != nil {
			return err
		}
		if err := w.checkGives(); err != nil {
			return err
		}
	}
	if w.clock%500 == 0 {
		return w.checkRebuilt()
	}
	return nil
}

// ask has a Service tell what it wants, and checks what it is answered.
func (w *world) ask(r Request) error {
	if err := w.describe(r); err != nil {
		return err
	}
	want := w.decide(r)
	got := w.x.Decide(r)
	if err := w.compare(r, got, want); err != nil {
		return fmt.Errorf("%w\nrequest %+v\ndecided %+v (%s)\nmissing %s\noracle %+v", err, r, got, textOf(got.Problem), textOf(got.Missing), want)
	}
	w.count(r, got)
	for _, c := range got.Changes {
		w.set(c)
	}
	if again := w.x.Decide(r); len(again.Changes) > 0 {
		return fmt.Errorf("%+v: a second time is no no-op: %+v", r, again)
	}
	return nil
}

func textOf(p *Problem) string {
	if p == nil {
		return "no problem"
	}
	return string(p.Reason) + ": " + p.Message
}

func (w *world) count(r Request, d Decision) {
	what := cmp.Or(string(reasonOf(d.Problem)), "granted")
	w.counts[what]++
	w.counts["family missing"] += number(d.Missing != nil)
	w.counts["two asked for"] += number(d.Problem == nil && len(r.Ask.Addresses) == 2)
	for _, a := range d.Addresses {
		_, inPool := w.at(a)
		w.counts["kept without a pool"] += number(!inPool)
	}
	for _, c := range d.Changes {
		w.counts["shared"] += number(c.Claim != nil && len(c.Claim.Users) > 1)
		w.counts["left one for another"] += number(c.Claim == nil)
		before := w.claims[c.Addr]
		leaves := before.uses(r.Service) && (c.Claim == nil || !c.Claim.uses(r.Service))
		w.counts["moved out of a conflict"] += number(leaves && r.Ask.Reassign && w.quarrels(r, c.Addr))
		_, inPool := w.at(c.Addr)
		takes := c.Claim != nil && c.Claim.uses(r.Service) && !before.uses(r.Service)
		w.counts["came back to no pool"] += number(takes && !inPool)
		w.counts["reserved"] += number(c.Claim != nil && c.Claim.ReservedFor == r.Service)
	}
}

// compare holds a decision against the oracle's.
func (w *world) compare(r Request, d Decision, want answer) error {
	if err := w.compareProblem(r, d.Problem, want.refused); err != nil {
		return err
	}
	if err := w.compareProblem(r, d.Missing, want.missing); err != nil {
		return fmt.Errorf("missing: %w", err)
	}
	order := w.heldBy(r.Service)
	if d.Problem == nil {
		order = nil
		for _, f := range r.Families {
			if a, ok := want.addrs[f]; ok {
				order = append(order, a)
			}
		}
	} else {
		slices.SortStableFunc(order, func(a, b netip.Addr) int {
			rank := func(a netip.Addr) int {
				if i := slices.Index(r.Families, cluster.FamilyOf(a)); i >= 0 {
					return i
				}
				return len(r.Families)
			}
			return cmp.Compare(rank(a), rank(b))
		})
	}
	if !slices.Equal(d.Addresses, order) {
		return fmt.Errorf("it has the addresses %v, want %v", d.Addresses, order)
	}
	after := maps.Clone(w.claims)
	gaveUp := false
	for _, c := range d.Changes {
		before, held := after[c.Addr]
		if c.Claim != nil && held && before.Equal(c.Claim) {
			return fmt.Errorf("%s does not change: %+v", c.Addr, c.Claim)
		}
		keeps := c.Claim != nil && c.Claim.uses(r.Service)
		if gaveUp && keeps {
			return fmt.Errorf("it takes %s after it gave something up", c.Addr)
		}
		gaveUp = gaveUp || !keeps
		apply(after, c)
	}
	if err := consistent(w.claims, after, r.Service); err != nil {
		return err
	}
	return sameClaims(after, w.claimsAfter(r, want))
}

func (w *world) compareProblem(r Request, p *Problem, want *refusal) error {
	switch {
	case p == nil && want == nil:
		return nil
	case p == nil:
		return fmt.Errorf("granted, want refused for %v", want.reasons)
	case want == nil:
		return fmt.Errorf("refused (%w), want granted", p)
	case !slices.Contains(want.reasons, p.Reason):
		return fmt.Errorf("refused for %s (%w), want one of %v", p.Reason, p, want.reasons)
	case p.Message == "":
		return fmt.Errorf("refused for %s without a word", p.Reason)
	}
	if named := slices.Sorted(slices.Values(p.Pools)); want.pools != nil && !slices.Equal(named, slices.Sorted(slices.Values(want.pools))) {
		return fmt.Errorf("refused for %s of the pools %v, want %v", p.Reason, named, want.pools)
	}
	if p.By == (cluster.Name{}) {
		return nil
	}
	for _, a := range want.about {
		if c := w.claims[a]; p.By != r.Service && (c.uses(p.By) || c.ReservedFor == p.By) {
			return nil
		}
	}
	return fmt.Errorf("refused because of %s, who has nothing to do with %v", p.By, want.about)
}

func apply(claims map[netip.Addr]Claim, c Change) {
	if c.Claim == nil {
		delete(claims, c.Addr)
	} else {
		claims[c.Addr] = *c.Claim
	}
}

func sameClaims(got, want map[netip.Addr]Claim) error {
	for a, c := range want {
		if have, ok := got[a]; !ok || !have.Equal(&c) {
			return fmt.Errorf("the claim on %s is %+v, want %+v", a, have, c)
		}
	}
	for a, c := range got {
		if _, ok := want[a]; !ok {
			return fmt.Errorf("%s is claimed: %+v", a, c)
		}
	}
	return nil
}

// consistent checks what must be so after every decision about a Service, whatever it was.
func consistent(before, after map[netip.Addr]Claim, s cluster.Name) error {
	for a, c := range after {
		seen := map[cluster.Port]cluster.Name{}
		for _, u := range c.Users {
			for _, p := range u.Ports {
				if other, taken := seen[p]; taken {
					return fmt.Errorf("port %s of %s belongs to %s and to %s", p, a, other, u.Service)
				}
				seen[p] = u.Service
			}
		}
	}
	for a, c := range before {
		now := after[a]
		for _, u := range c.Users {
			if u.Service != s && !now.uses(u.Service) {
				return fmt.Errorf("%s lost %s", u.Service, a)
			}
			i := slices.IndexFunc(now.Users, func(v User) bool { return v.Service == u.Service })
			if u.Service != s && len(c.Users) > 1 && len(now.Users) > 1 && !slices.Equal(now.Users[i].Ports, u.Ports) {
				return fmt.Errorf("%s had the ports %v of %s and now has %v", u.Service, u.Ports, a, now.Users[i].Ports)
			}
		}
	}
	return nil
}

// leave takes a Service away.
func (w *world) leave(s cluster.Name) error {
	delete(w.services, s)
	w.x.Forget(s)
	want := maps.Clone(w.claims)
	for _, a := range w.heldBy(s) {
		apply(want, Change{a, w.given(s, a, true)})
	}
	got := maps.Clone(w.claims)
	changes := w.x.Leave(s)
	for _, c := range changes {
		apply(got, c)
	}
	if err := sameClaims(got, want); err != nil {
		return fmt.Errorf("%s leaves: %w", s, err)
	}
	for _, c := range changes {
		w.counts["left"]++
		w.counts["retained"] += number(c.Claim != nil && c.Claim.ReservedFor == s)
		w.set(c)
	}
	return nil
}

func claimsOf(x *Index) iter.Seq2[netip.Addr, Claim] {
	return func(yield func(netip.Addr, Claim) bool) {
		for a, c := range x.Claims() {
			if !yield(a, *c) {
				return
			}
		}
	}
}

// checkCounts compares all claims, and the counts of every pool.
func (w *world) checkCounts() error {
	if err := sameClaims(maps.Collect(claimsOf(w.x)), w.claims); err != nil {
		return err
	}
	for _, name := range poolNames {
		var want [2]Counts
		var all [2]map[netip.Addr]bool // what counts as the pool's
		for i := range all {
			all[i] = map[netip.Addr]bool{}
		}
		for a, c := range w.claims {
			of := c.Pool
			if at, inPool := w.at(a); of == "" && inPool {
				of = at.pool.Name
			}
			i := slot(cluster.FamilyOf(a))
			if of != name {
				continue
			}
			all[i][a] = true
			want[i].Used += int64(number(len(c.Users) > 0))
			want[i].Reserved += int64(number(len(c.Users) == 0))
		}
		for _, at := range w.places {
			if at.pool.Name != name || at.leftOut() {
				continue
			}
			if _, claimed := w.claims[at.addr]; !claimed {
				i := slot(cluster.FamilyOf(at.addr))
				all[i][at.addr] = true
				want[i].Free++
			}
		}
		for i := range want {
			want[i].Total = int64(len(all[i]))
		}
		if v4, v6 := w.x.CountsOf(name); v4 != want[0] || v6 != want[1] {
			return fmt.Errorf("pool %s counts %+v %+v; want %+v %+v", name, v4, v6, want[0], want[1])
		}
	}
	return nil
}

// checkRebuilt tells the same objects to another Index in another order: it must answer the same.
func (w *world) checkRebuilt() error {
	x := NewIndex()
	pools, refused, _ := w.judge()
	tell := []func(){func() { x.SetPools(pools, refused) }}
	for a, c := range w.claims {
		tell = append(tell, func() { x.Hold(a, &c) })
	}
	for _, r := range w.services {
		tell = append(tell, func() { x.Describe(r) })
	}
	w.rnd.Shuffle(len(tell), func(i, j int) { tell[i], tell[j] = tell[j], tell[i] })
	for _, f := range tell {
		f()
	}
	for range 50 {
		r := w.request()
		a, b := w.x.Decide(r), x.Decide(r)
		if !slices.Equal(a.Addresses, b.Addresses) || reasonOf(a.Problem) != reasonOf(b.Problem) || len(a.Changes) != len(b.Changes) {
			return fmt.Errorf("%+v:\n%+v (%s)\nrebuilt in another order:\n%+v (%s)", r, a, textOf(a.Problem), b, textOf(b.Problem))
		}
	}
	return nil
}

// checkGives asks of every address which pool gives it out.
func (w *world) checkGives() error {
	for _, block := range blocks {
		for a := block.From(); block.Contains(a); a = a.Next() {
			at, inPool := w.at(a)
			for _, name := range poolNames {
				if want := inPool && at.pool.Name == name && !at.leftOut(); w.x.Gives(name, a) != want {
					return fmt.Errorf("pool %s gives %s: %t; want %t", name, a, !want, want)
				}
			}
		}
	}
	return nil
}

func (w *world) set(c Change) {
	if c.Claim == nil {
		delete(w.claims, c.Addr)
		w.x.Release(c.Addr)
		return
	}
	claim := *c.Claim
	if claim.Since.IsZero() && !w.oneOf(5) {
		claim.Since = time.Unix(w.clock, 0)
	}
	w.hold(c.Addr, claim)
}
