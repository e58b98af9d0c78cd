package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/proxy/ruleset"
)

// look is one of the ways to find out whether the kernel still has what we left.
type look struct {
	// generation of nf_tables at which that was last known to be so.
	generation uint32
	// next is the earliest time for another look.
	next time.Time
}

// due reports whether to look: something has changed, ours or not, and the last look is long enough ago. A look at all
// elements of a large table takes seconds, and others may change tables of theirs all the time.
func (l *look) due(gen uint32, now time.Time) bool { return gen != l.generation && !now.Before(l.next) }

// rested is how many times longer than a look the rest behind it is.
const rested = 40

// Check looks whether somebody has changed our tables since the last Set, and names those that the next Set will put
// right. It costs next to nothing as long as nobody changes nf_tables at all, and a small share of the time when somebody
// does, so it may be called every second: first it looks at chains, rules and sets as such, then, in large tables less
// often, at their elements. It also deletes chains that are not used any more.
func (d *Driver) Check(ctx context.Context) (changed []string, err error) {
	gen, err := d.sock.generation()
	if err != nil {
		return nil, err
	}
	for _, way := range []struct {
		*look
		same func(*table) (bool, error)
	}{{&d.structure, d.sameStructure}, {&d.elements, d.sameElements}} {
		start := d.now()
		if !way.due(gen, start) {
			continue
		}
		for _, t := range d.tables {
			if t.have == nil {
				continue
			}
			if err := ctx.Err(); err != nil {
				return changed, err
			}
			same, err := way.same(t)
			if err != nil {
				return changed, err
			}
			if !same {
				t.have = nil
				changed = append(changed, tableText(t.family))
			}
		}
		end := d.now()
		way.generation, way.next = gen, end.Add(d.rested*end.Sub(start))
	}
	for _, t := range d.tables {
		if t.have != nil && len(t.stale) > 0 {
			if err := d.deleteStale(ctx, t); err != nil {
				return changed, err
			}
		}
	}
	return changed, nil
}

func (d *Driver) sameStructure(t *table) (bool, error) {
	st, err := d.sock.readStructure(t.family)
	return st.fingerprint == t.fingerprint && st.flags == 0, err
}

func (d *Driver) sameElements(t *table) (bool, error) {
	found, err := d.sock.readElements(t.family)
	if err != nil {
		return false, err
	}
	c := ruleset.Adopt(found, t.have)
	return len(c.Services) == 0 && len(c.Shared.Add) == 0 && len(c.Shared.Del) == 0, nil
}

// deleteStale deletes unused chains. One that still is in use, for a refused Service, stays.
func (d *Driver) deleteStale(ctx context.Context, t *table) error {
	before := d.transactions
	try := func(names []string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.w.BeginBatch()
		// First the rules of all: they may go from one to the other.
		for _, name := range names {
			t.w.flushChain(name)
		}
		for _, name := range names {
			t.w.deleteChain(name)
		}
		return d.commit(t.w)
	}
	err := try(t.stale)
	switch {
	case err == nil:
		t.stale = nil
	case divisible(err):
		// Those with the long names go to those with the short ones.
		slices.SortFunc(t.stale, func(a, b string) int { return len(b) - len(a) })
		t.stale = slices.DeleteFunc(t.stale, func(name string) bool {
			err := try([]string{name})
			return err == nil || errors.Is(err, unix.ENOENT)
		})
	default:
		return fmt.Errorf("delete unused chains of table %s: %w", tableText(t.family), err)
	}
	return d.settle(t, true, d.transactions-before)
}

// Cleanup deletes our tables, whether this driver made them or not. Established connections lose their translation.
func (d *Driver) Cleanup(ctx context.Context) error {
	var errs []error
	for _, t := range d.tables {
		t.have, t.stale = nil, nil
		clear(t.refused)
		if err := ctx.Err(); err != nil {
			return err
		}
		t.w.BeginBatch()
		t.w.deleteTable()
		if err := d.commit(t.w); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("delete table %s: %w", tableText(t.family), err))
		}
	}
	return errors.Join(errs...)
}
