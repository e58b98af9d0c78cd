package liveness

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// changing makes a world in which the members change while other things go wrong: nodes join, several at once, and leave.
// Each node hears of it when it does, some not before everything is healed.
func changing(seed uint64, mutant mutant, log func(string, ...any)) *world {
	w := newWorld(seed, 0, 0, Fence)
	total, vips := 3+w.rand.IntN(5), 1+w.rand.IntN(3)
	w = newWorld(w.rand.Uint64(), total, vips, Fence)
	w.mutant = mutant
	if log != nil {
		w.log = log
	}
	r := w.rand
	w.loss = []float64{0, 0.01, 0.05}[r.IntN(3)]
	w.disorder = r.IntN(2) == 0
	member := make([]bool, total)
	for i := range 1 + r.IntN(total) {
		member[i] = true
	}
	for i, n := range w.nodes {
		n.rate = []float64{1, 1, 0.99, 1.01}[r.IntN(4)]
		n.config.RetireAfter = time.Second
		n.members = w.membersOf(member)
		if member[i] || r.IntN(2) == 0 { // an agent may run before it is one of the segment's
			w.after(time.Duration(r.IntN(200))*time.Millisecond, n.start)
		}
	}
	w.log("%d nodes, %v members, %d addresses, loss %v, disorder %v", total, member, vips, w.loss, w.disorder)
	end := time.Duration(1500+r.IntN(1500)) * time.Millisecond
	for range 1 + r.IntN(3) {
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), func() { w.changeMembers(member) })
	}
	for range r.IntN(5) {
		kind := 1 + r.IntN(faults-1)
		if r.IntN(3) == 0 {
			kind = partition
		}
		w.at(int64(400*time.Millisecond)+r.Int64N(int64(end-400*time.Millisecond)), w.fault(kind))
	}
	w.run(end)
	// Whoever is no member any more is off by now.
	for i, n := range w.nodes {
		if !member[i] && n.m != nil {
			n.crash()
		}
	}
	final := w.membersOf(member)
	for _, n := range w.nodes {
		n.stale, n.paused = false, n.paused && n.m != nil
		if n.m == nil {
			n.members = final
		}
	}
	w.healMembers(member, final)
	return w
}

func (w *world) membersOf(member []bool) []string {
	var out []string
	for i, n := range w.nodes {
		if member[i] {
			out = append(out, n.name)
		}
	}
	return out
}

// changeMembers has nodes join, with processes that start with the new members, or leave, after they were switched off.
func (w *world) changeMembers(member []bool) {
	r := w.rand
	join := r.IntN(2) == 0
	var changed []int
	for i := range member {
		if member[i] != join && r.IntN(2) == 0 {
			changed = append(changed, i)
		}
	}
	if left := len(w.membersOf(member)); !join && len(changed) >= left {
		changed = changed[:left-1]
	}
	for _, i := range changed {
		member[i] = join
		if !join && w.nodes[i].m != nil {
			w.nodes[i].crash()
		}
	}
	names := w.membersOf(member)
	w.version++
	version := w.version
	w.log("%v members are %v", time.Duration(w.now), names)
	for i, n := range w.nodes {
		if !member[i] {
			continue
		}
		if join && slices.Contains(changed, i) && n.m == nil {
			n.members, n.version = names, version
			w.after(time.Duration(r.IntN(300))*time.Millisecond, func() {
				if n.m == nil {
					n.start()
				}
			})
			continue
		}
		n.stale = n.stale || r.IntN(4) == 0
		w.after(time.Duration(r.IntN(300))*time.Millisecond, func() { n.api(names, version) })
	}
}

func (w *world) healMembers(member []bool, final []string) {
	if len(w.violations) > 0 {
		return
	}
	w.log("%v everything is healed, members are %v", time.Duration(w.now), final)
	w.loss, w.lossSince, w.disorder = 0, w.now, false
	w.join()
	for i, n := range w.nodes {
		n.fixed = nil
		if !member[i] {
			continue
		}
		n.members = final
		n.version = w.version
		switch {
		case n.m == nil:
			n.start()
		case n.paused:
			n.thaw()
			fallthrough
		default:
			n.m.changed = true
			n.api(final, w.version)
		}
	}
	w.run(time.Duration(w.now) + settleBound + 2*time.Second)
	if len(w.violations) > 0 {
		return
	}
	for _, vip := range w.vips {
		if o := w.owners(vip); len(o) != 1 {
			w.starved = true
			w.violations = append(w.violations, fmt.Sprintf("%v: %s is answered for by %v after the last fault", time.Duration(w.now), vip, o))
		}
	}
}

// TestChangingMembers: neither do two answer while nodes differ about who the members are.
func TestChangingMembers(t *testing.T) {
	var gaps, some atomic.Int64
	simulate(t, *simSeeds/3, func(seed uint64, log func(string, ...any)) *world {
		w := changing(seed, mutant{}, log)
		if w.gaps > 0 {
			gaps.Add(1)
			some.Store(int64(seed))
		}
		return w
	})
	t.Logf("%d seeds had strangers, such as %d", gaps.Load(), some.Load())
	if int(gaps.Load()) > 1+*simSeeds/3/200 {
		t.Error("that is more than one in 200")
	}
}

// TestChangingMembersMutants: forgetting that others may go by other members must be noticed.
func TestChangingMembersMutants(t *testing.T) {
	for _, mu := range []mutant{
		{name: "only the current members count", stepped: func(m *Member) { m.elect.others = nil }},
		{name: "old members are retired at once", stepped: func(m *Member) {
			m.elect.retired = append(m.elect.retired, m.elect.others...)
			m.elect.others = nil
		}},
	} {
		t.Run(mu.name, func(t *testing.T) {
			for seed := uint64(1); seed <= 10000; seed++ {
				if w := changing(seed, mu, nil); len(w.violations) > 0 && !w.starved {
					t.Logf("found with seed %d: %s", seed, w.violations[0])
					return
				}
			}
			t.Error("nothing was noticed: the simulator is blind to it")
		})
	}
}
