package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// Driver deletes stale flows. It works on the network namespace in which New was called and must not be used
// concurrently.
type Driver struct {
	have frontends
	// pending are changes whose flows could not be deleted yet.
	pending changes
	conn    *conntrack.Conn
	deleted uint64
}

// New returns a Driver that knows of no frontends: its first Set looks at the flows of all.
func New() (*Driver, error) {
	conn, err := conntrack.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for conntrack: %w", err)
	}
	return &Driver{conn: conn, have: frontends{}, pending: changes{}}, nil
}

// Close ends the driver.
func (d *Driver) Close() error { return d.conn.Close() }

// Deleted returns how many flows the driver has deleted.
func (d *Driver) Deleted() uint64 { return d.deleted }

// Set deletes the flows that contradict the Ruleset, which must be in force already. What could not be deleted is tried
// again by the next Set.
func (d *Driver) Set(ctx context.Context, r ruleset.Ruleset) error {
	want := udpFrontends(r)
	d.pending.add(diff(d.have, want))
	d.have = want
	if len(d.pending) == 0 {
		return nil
	}
	if err := d.deleteStale(ctx); err != nil {
		return err
	}
	d.pending = changes{}
	return nil
}

func (d *Driver) deleteStale(ctx context.Context) error {
	flows, err := d.conn.Dump(nil)
	if err != nil {
		return fmt.Errorf("list the flows: %w", err)
	}
	var errs []error
	for _, f := range flows {
		// Zones are made by others, for their own purposes.
		if f.Zone != 0 || f.TupleOrig.Proto.Protocol != uint8(cluster.UDP) {
			continue
		}
		destination := netip.AddrPortFrom(f.TupleOrig.IP.DestinationAddress, f.TupleOrig.Proto.DestinationPort)
		answers := netip.AddrPortFrom(f.TupleReply.IP.SourceAddress, f.TupleReply.Proto.SourcePort)
		if !d.pending.stale(destination, answers) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch err := d.conn.Delete(conntrack.Flow{TupleOrig: f.TupleOrig, TupleReply: f.TupleReply}); {
		case err == nil:
			d.deleted++
		case !errors.Is(err, unix.ENOENT): // it has ended by itself
			errs = append(errs, fmt.Errorf("delete the UDP flow to %s by %s: %w", destination, answers, err))
		}
	}
	return errors.Join(errs...)
}

// BeLiberal tells the kernel to translate TCP packets outside of the window as well. If it does not, such a packet
// passes as it is, and its receiver ends the connection with a reset (kubernetes/kubernetes#74839). The sysctl is
// found under root, "/proc/sys" as a rule.
func BeLiberal(root string) error {
	name := filepath.Join(root, "net/netfilter/nf_conntrack_tcp_be_liberal")
	if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	if err := os.WriteFile(name, []byte("1\n"), 0); err != nil {
		return fmt.Errorf("make connection tracking liberal: %w", err)
	}
	return nil
}
