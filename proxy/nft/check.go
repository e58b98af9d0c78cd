package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/proxy/ruleset"
)

// Check looks whether somebody has changed our tables since the last Set, and names those that the next Set will put
// right. It costs next to nothing as long as nobody changes nf_tables at all, so it may be called every second. It
// also deletes chains that are not used any more.
func (d *Driver) Check(ctx context.Context) (changed []string, err error) {
	gen, err := d.sock.generation()
	if err != nil {
		return nil, err
	}
	if gen != d.generation {
		for _, t := range d.tables {
			if t.have == nil {
				continue
			}
			same, err := d.same(ctx, t)
			if err != nil {
				return changed, err
			}
			if !same {
				t.have = nil
				changed = append(changed, tableText(t.family))
			}
		}
		d.generation = gen
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

// same reports whether the kernel has the table as the last Set left it.
func (d *Driver) same(ctx context.Context, t *table) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	st, err := d.sock.readStructure(t.family)
	if err != nil {
		return false, err
	}
	if st.fingerprint != t.fingerprint || st.flags != 0 {
		return false, nil
	}
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
