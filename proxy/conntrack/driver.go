package conntrack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// few is up to how many changed frontends are looked for one by one. The kernel walks through all of its table each time,
// but a flow that it passes by takes a quarter of the time of one that it tells of, or less.
const few = 4

// Driver deletes stale flows. It works on the network namespace in which New was called and must not be used
// concurrently.
type Driver struct {
	conn     *nfnl.Conn
	families map[cluster.Family]*family
	// deleteFlow asks the kernel to delete a flow; tests have others.
	deleteFlow func(cluster.Family, flow) error
	deleted    uint64
	// told counts the flows that the kernel has told of.
	told uint64
}

// family is what the driver knows of the frontends of one family.
type family struct {
	// have are those in force, pending the changes since flows were last deleted.
	have    frontends
	pending changes
	// followed is true as long as every flow that was made since the last look at all of them was made by rules that were
	// set.
	followed bool
}

// New returns a Driver that knows of no frontends: its first Delete looks at the flows of all.
func New() (*Driver, error) {
	conn, err := nfnl.Dial()
	if err != nil {
		return nil, err
	}
	d := &Driver{conn: conn, families: map[cluster.Family]*family{}}
	d.deleteFlow = func(name cluster.Family, fl flow) error {
		var w nfnl.Writer
		writeDelete(&w, name, fl)
		return conn.Commit(&w)
	}
	return d, nil
}

// Probe returns an error if the kernel does not tell of flows.
func Probe() error {
	conn, err := nfnl.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	var w nfnl.Writer
	writeDump(&w, cluster.IPv4, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	if err := conn.Dump(&w, func([]byte) {}); err != nil {
		return fmt.Errorf("list the flows of connection tracking: %w: the kernel needs CONFIG_NF_CT_NETLINK", err)
	}
	return nil
}

// Close ends the driver.
func (d *Driver) Close() error { return d.conn.Close() }

// Deleted returns how many flows the driver has deleted.
func (d *Driver) Deleted() uint64 { return d.deleted }

// Set says which tables are in force, made of snap. Flows that contradict them are deleted by Delete, which costs far more.
// A family without a table has nothing new for Delete: nobody knows by which rules its flows are made. Once it has one again
// all of them are looked at, as at the start. more says that there may be flows for Delete that there were not before.
func (d *Driver) Set(inForce []*ruleset.Table, snap *cluster.Snapshot) (more bool) {
	for name, f := range d.families {
		f.followed = f.followed && slices.ContainsFunc(inForce, func(t *ruleset.Table) bool { return t.Family == name })
	}
	for _, t := range inForce {
		f := d.families[t.Family]
		if f == nil {
			f = &family{}
			d.families[t.Family] = f
		}
		more = f.follow(t, snap) || more
	}
	return more
}

// follow takes over a table that is in force, and returns whether that makes more flows stale.
func (f *family) follow(t *ruleset.Table, snap *cluster.Snapshot) (more bool) {
	want := udpFrontends(t)
	changed := diff(f.have, want)
	more = !f.followed || len(changed) > 0
	f.pending.add(slices.Values(changed))
	if !f.followed {
		f.pending.add(maps.Keys(want))
		f.pending.add(maps.Keys(f.have))
	}
	if !f.followed || f.pending.unserved != nil {
		f.pending.unserved = unserved(t, snap, f.pending.unserved)
	}
	f.have, f.followed = want, true
	return more
}

// stale reports whether a flow must end.
func (f *family) stale(fl flow) bool {
	return f.pending.include(fl) && f.have.contradicts(fl.destination, fl.answers)
}

// Pending reports whether there may be flows for Delete.
func (d *Driver) Pending() bool {
	for _, f := range d.families {
		if !f.pending.empty() {
			return true
		}
	}
	return false
}

// Delete deletes the flows that contradict what was set since the last time. What could not be deleted is tried again by
// the next Delete.
func (d *Driver) Delete(ctx context.Context) error {
	var errs []error
	for _, name := range []cluster.Family{cluster.IPv4, cluster.IPv6} {
		if f := d.families[name]; f != nil && !f.pending.empty() {
			errs = append(errs, d.deleteStale(ctx, name, f))
		}
	}
	return errors.Join(errs...)
}

// deleteStale deletes the stale flows of a family. If the kernel refuses some of them, those are all that stays pending.
func (d *Driver) deleteStale(ctx context.Context, name cluster.Family, f *family) error {
	stale, err := d.find(ctx, name, f)
	if err != nil {
		return err
	}
	left := changes{}
	var refused error
	for _, fl := range stale {
		if err := ctx.Err(); err != nil {
			return err
		}
		var errno syscall.Errno
		switch err := d.deleteFlow(name, fl); {
		case err == nil:
			d.deleted++
		case errors.Is(err, unix.ENOENT): // it has ended by itself
		case errors.As(err, &errno):
			if left.leave(fl); refused == nil {
				refused = fmt.Errorf("delete UDP flows, the first to %s by %s: %w", fl.destination, fl.answers, err)
			}
		default:
			return err
		}
	}
	f.pending = left
	return refused
}

// find returns the stale flows of a family.
func (d *Driver) find(ctx context.Context, name cluster.Family, f *family) (stale []flow, err error) {
	for _, to := range f.pending.destinations(few) {
		var w nfnl.Writer
		writeDump(&w, name, to)
		err := d.conn.Dump(&w, func(payload []byte) {
			d.told++
			if fl, ok := parseFlow(payload, f.pending.concern); ok && f.stale(fl) {
				stale = append(stale, fl.clone())
			}
		})
		// Flows come and go all the time. One that was missed because of that is newer than the rules.
		if err != nil && !errors.Is(err, nfnl.ErrInterrupted) {
			return nil, fmt.Errorf("list the %s flows: %w", name, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return stale, nil
}
