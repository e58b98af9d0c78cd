package proxy

import (
	"context"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/cluster/pace"
	"github.com/seamark-io/seamark/cluster/pace/cputime"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// flowDriver deletes stale flows (package conntrack).
type flowDriver interface {
	Set(inForce []*ruleset.Table, snap *cluster.Snapshot)
	Pending() bool
	Delete(ctx context.Context) error
}

// flows has stale flows deleted, at a pace of its own: the kernel walks through all of its table each time, which may take it longer than
// everything else that a change of a Service causes (26 ms with the 262,144 buckets that it has on a machine of 24 GiB). Rules
// do not wait because of that.
type flows struct {
	driver flowDriver
	pacer  *pace.Pacer
	// next is when the driver may be called again, due receives when it is to be; nil: nothing was put off.
	next time.Time
	due  <-chan time.Time
	// used is the processor time of the last call.
	used time.Duration
}

// flowShare and flowBurst are more than what other loops may use: as long as a flow is stale its client is not answered. It concerns
// UDP only.
const (
	flowShare = 0.1
	flowBurst = 2 * pace.Burst
)

func newFlows(d flowDriver) *flows { return &flows{driver: d, pacer: pace.New(flowShare, flowBurst)} }

// set says which tables are in force, and deletes what contradicts them, now or when due receives.
func (f *flows) set(ctx context.Context, inForce []*ruleset.Table, snap *cluster.Snapshot) error {
	f.driver.Set(inForce, snap)
	return f.delete(ctx)
}

func (f *flows) delete(ctx context.Context) (err error) {
	f.used, f.due = 0, nil
	if !f.driver.Pending() {
		return nil
	}
	if wait := time.Until(f.next); wait > 0 {
		f.due = time.After(wait)
		return nil
	}
	f.used = cputime.Of(func() { err = f.driver.Delete(ctx) })
	now := time.Now()
	f.next = now.Add(f.pacer.Rest(now, f.used))
	return err
}
