package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// maxTransaction limits one transaction. The kernel needs it in one piece of memory, and holds up everybody else who
// changes nf_tables meanwhile.
const maxTransaction = 16 << 20

// Driver keeps our tables as wanted. It works on the network namespace in which New was called and must not be used
// concurrently.
type Driver struct {
	sock   *socket
	tables []*table
	// limit is maxTransaction; tests have less.
	limit int
	// structure and elements are what Check looks at.
	structure, elements look
	// transactions of ours that have succeeded: each adds one to the generation.
	transactions uint32
	// now is the clock, and rested the constant; tests have others.
	now    func() time.Time
	rested time.Duration
}

// table is the driver's knowledge of the table of one family.
type table struct {
	family cluster.Family
	// have is what the kernel has: nil until it was read.
	have *ruleset.Table
	// stale are chains that nothing goes to any more. Check deletes them: before Linux 6.2 that cannot be done in the
	// transaction that deletes the last element that goes there.
	stale []string
	// fingerprint of the structure as we left it.
	fingerprint uint64
	// refused are Services that the kernel does not take, as they were then.
	refused map[cluster.Name]refusal
	w       *tableWriter
}

type refusal struct {
	svc *ruleset.Service
	err error
}

// New opens the driver for the tables of some families, of both if none are given; nothing is read or changed yet.
func New(families ...cluster.Family) (*Driver, error) {
	if len(families) == 0 {
		families = []cluster.Family{cluster.IPv4, cluster.IPv6}
	}
	conn, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	d := &Driver{sock: &socket{conn}, limit: maxTransaction, now: time.Now, rested: rested}
	for _, f := range families {
		d.tables = append(d.tables, &table{family: f, refused: map[cluster.Name]refusal{}, w: newTableWriter(f)})
	}
	return d, nil
}

// Close ends the driver. The tables stay.
func (d *Driver) Close() error { return d.sock.Close() }

// Set makes the tables as wanted. Each changes on its own: if one cannot be changed, the error says so and the other
// is done. A *ruleset.RefusedError says which Services are left out: those are tried again when they change, and by a
// Set that has nothing else to do.
func (d *Driver) Set(ctx context.Context, want ruleset.Ruleset) error {
	var errs []error
	refused := &ruleset.RefusedError{}
	for _, t := range d.tables {
		w := &want.IPv4
		if t.family == cluster.IPv6 {
			w = &want.IPv6
		}
		if err := d.set(ctx, t, w); err != nil {
			errs = append(errs, fmt.Errorf("table %s: %w", tableText(t.family), err))
			t.have = nil // unknown now
		}
		for name, r := range t.refused {
			refused.Problems = append(refused.Problems, ruleset.Problem{
				Service: name, Reason: ruleset.ReasonRefused, Message: fmt.Sprintf("not programmed for %s: %v", t.family, r.err),
			})
		}
	}
	return errors.Join(append(errs, refused.OrNil())...)
}

// InForce returns the tables that the kernel has as the last Set left them, with the old state of what it refused. A
// family whose table could not be changed, or that somebody else has changed since, is not among them.
func (d *Driver) InForce() []*ruleset.Table {
	var out []*ruleset.Table
	for _, t := range d.tables {
		if t.have != nil {
			out = append(out, t.have)
		}
	}
	return out
}

func (d *Driver) set(ctx context.Context, t *table, want *ruleset.Table) error {
	if t.have == nil {
		return d.adopt(ctx, t, want)
	}
	for name, r := range t.refused {
		if svc := want.Services[name]; svc != r.svc {
			delete(t.refused, name)
		}
	}
	changes := ruleset.Diff(t.have, want)
	again := map[cluster.Name]ruleset.Delta{}
	for name := range t.refused {
		again[name] = changes.Services[name]
		delete(changes.Services, name)
	}
	if changes.Empty() {
		changes.Services = again
		clear(t.refused)
	}
	t.stale = append(t.stale, changes.Stale...)
	t.stale = slices.DeleteFunc(t.stale, func(name string) bool {
		return slices.ContainsFunc(want.Chains, func(c ruleset.Chain) bool { return c.Name == name })
	})
	if changes.Empty() {
		t.have = withServices(want, t.have, t.refused)
		return nil
	}
	return d.apply(ctx, t, want, plan{changes: changes})
}

// adopt makes the table as wanted, starting from what the kernel has.
func (d *Driver) adopt(ctx context.Context, t *table, want *ruleset.Table) error {
	clear(t.refused)
	t.stale = nil
	st, err := d.sock.readStructure(t.family)
	if err != nil {
		return err
	}
	p := plan{create: !st.fits(want), exists: st.exists}
	var found []ruleset.Element
	if !p.create {
		if found, err = d.sock.readElements(t.family); err != nil {
			return err
		}
		for name := range st.chains {
			if !slices.ContainsFunc(want.Chains, func(c ruleset.Chain) bool { return c.Name == name }) {
				t.stale = append(t.stale, name)
			}
		}
	}
	p.changes = ruleset.Adopt(found, want)
	t.have = &ruleset.Table{Family: t.family, Services: map[cluster.Name]*ruleset.Service{}}
	return d.apply(ctx, t, want, p)
}

// plan is what apply has to do.
type plan struct {
	// create makes the table anew, in place of the one that exists.
	create, exists bool
	changes        ruleset.Changes
}

// apply makes the changes, if possible in one transaction.
func (d *Driver) apply(ctx context.Context, t *table, want *ruleset.Table, p plan) error {
	names := order(p.changes.Services)
	structural := p.create || len(p.changes.Chains) > 0
	before := d.transactions
	whole, err := d.transaction(ctx, t, &p, p.changes.Services, names)
	if err == nil && whole {
		t.have = withServices(want, t.have, t.refused)
		return d.settle(t, structural, d.transactions-before)
	}
	if err != nil && !divisible(err) {
		return err
	}
	// Too large, or something is wrong: first what all depend on, then the Services in as few transactions as it
	// takes to find those that are.
	if _, err := d.transaction(ctx, t, &p, nil, nil); err != nil {
		return err
	}
	failed := map[cluster.Name]error{}
	if err := d.divide(ctx, t, p.changes.Services, names, failed); err != nil {
		return err
	}
	// One may have failed only because it came before another that had to make room.
	again := order(p.changes.Services)
	again = slices.DeleteFunc(again, func(n cluster.Name) bool { _, ok := failed[n]; return !ok })
	for _, name := range again {
		delete(failed, name)
		if err := d.divide(ctx, t, p.changes.Services, []cluster.Name{name}, failed); err != nil {
			return err
		}
	}
	for name, err := range failed {
		t.refused[name] = refusal{want.Services[name], err}
	}
	t.have = withServices(want, t.have, t.refused)
	return d.settle(t, structural, d.transactions-before)
}

// order returns the names with those first that only delete.
func order(services map[cluster.Name]ruleset.Delta) []cluster.Name {
	names := make([]cluster.Name, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b cluster.Name) int {
		if x, y := len(services[a].Add) == 0, len(services[b].Add) == 0; x != y {
			if x {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	})
	return names
}

// divide makes the changes of the Services in one transaction, or else of each half.
func (d *Driver) divide(ctx context.Context, t *table, services map[cluster.Name]ruleset.Delta, names []cluster.Name, failed map[cluster.Name]error) error {
	if len(names) == 0 {
		return nil
	}
	whole, err := d.transaction(ctx, t, nil, services, names)
	switch {
	case err == nil && whole:
		return nil
	case err != nil && !divisible(err):
		return err
	case len(names) == 1:
		if err == nil {
			err = fmt.Errorf("its endpoints take more than %d MiB", d.limit>>20)
		}
		failed[names[0]] = err
		return nil
	}
	half := len(names) / 2
	if err := d.divide(ctx, t, services, names[:half], failed); err != nil {
		return err
	}
	return d.divide(ctx, t, services, names[half:], failed)
}

// divisible reports whether a refused transaction may work with less in it.
func divisible(err error) bool {
	return !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded)
}

// transaction makes the base changes, if there are any, and those of the named Services. It does nothing and returns
// whole = false if that is too much at once.
func (d *Driver) transaction(ctx context.Context, t *table, base *plan, services map[cluster.Name]ruleset.Delta, names []cluster.Name) (whole bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	w := t.w
	w.BeginBatch()
	if base != nil {
		if err := w.base(base); err != nil {
			return false, err
		}
	}
	// Nobody's place is taken before it is free: all deletions come first.
	if base != nil {
		w.deleteElements(base.changes.Shared.Del)
	}
	for _, name := range names {
		w.deleteElements(services[name].Del)
	}
	if base != nil {
		w.addElements(base.changes.Shared.Add)
	}
	for _, name := range names {
		w.addElements(services[name].Add)
		if w.Len() > d.limit {
			return false, nil
		}
	}
	return true, d.commit(w)
}

func (d *Driver) commit(w *tableWriter) error {
	w.EndBatch()
	if err := d.sock.Commit(&w.Writer); err != nil {
		return err
	}
	d.transactions++
	return nil
}

// base writes the table, its sets and its chains.
func (w *tableWriter) base(p *plan) error {
	if p.create {
		if p.exists {
			w.deleteTable()
		}
		w.addTable()
		for _, id := range ruleset.AllSets() {
			w.addSet(id)
		}
	} else {
		w.addTable()
	}
	for _, c := range p.changes.Chains {
		w.addChain(c)
	}
	for _, c := range p.changes.Chains {
		if err := w.setRules(c); err != nil {
			return err
		}
	}
	return nil
}

// settle notes what our transactions left. If the structure did not change, only their count is looked at.
func (d *Driver) settle(t *table, structural bool, transactions uint32) error {
	if structural {
		st, err := d.sock.readStructure(t.family)
		if err != nil {
			return err
		}
		t.fingerprint = st.fingerprint
	}
	gen, err := d.sock.generation()
	if err != nil {
		return err
	}
	for _, l := range []*look{&d.structure, &d.elements} {
		if gen == l.generation+transactions {
			l.generation = gen
		}
		// Otherwise somebody else has changed something, and a Check must look for it.
	}
	return nil
}

// withServices returns the wanted table as the kernel has it: with the old state of refused Services.
func withServices(want, have *ruleset.Table, refused map[cluster.Name]refusal) *ruleset.Table {
	if len(refused) == 0 {
		return want
	}
	t := *want
	t.Services = make(map[cluster.Name]*ruleset.Service, len(want.Services))
	for name, svc := range want.Services {
		t.Services[name] = svc
	}
	for name := range refused {
		if old := have.Services[name]; old != nil {
			t.Services[name] = old
		} else {
			delete(t.Services, name)
		}
	}
	return &t
}
