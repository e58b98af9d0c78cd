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
	Set(inForce []*ruleset.Table, snap *cluster.Snapshot) (more bool)
	Pending() bool
	Delete(ctx context.Context) error
}

// flows has stale flows deleted, at a pace of its own: the kernel walks through all of its table each time, which may take
// it longer than everything else that a change of a Service causes (26 ms with the 262,144 buckets that it has on a machine
// of 24 GiB). Rules do not wait because of that, nor are they less as wanted because of flows that cannot be deleted.
type flows struct {
	driver flowDriver
	pacer  *pace.Pacer
	// next is when the driver may be called again, because of what it has used, and again when it is to try anew what it
	// could not do; retry is how long after the next failure that is.
	next, again time.Time
	retry       time.Duration
	// due receives when the driver is to be called; nil: nothing was put off.
	due <-chan time.Time
	// used is the processor time of the last call.
	used time.Duration
}

// flowShare and flowBurst are more than what other loops may use: as long as a flow is stale its client is not answered. It
// concerns UDP only.
const (
	flowShare = 0.1
	flowBurst = 2 * pace.Burst
)

func newFlows(d flowDriver) *flows {
	return &flows{driver: d, pacer: pace.New(flowShare, flowBurst), retry: retryMin}
}

// set says which tables are in force, made of snap. What contradicts them delete deletes.
func (f *flows) set(inForce []*ruleset.Table, snap *cluster.Snapshot) {
	if f.driver.Set(inForce, snap) {
		// What is new does not wait because of what could not be done before.
		f.again = time.Time{}
	}
}

// delete deletes stale flows, or has due receive when that is to be done.
func (f *flows) delete(ctx context.Context) (err error) {
	f.used, f.due = 0, nil
	if !f.driver.Pending() || f.putOff() {
		return nil
	}
	f.used = cputime.Of(func() { err = f.driver.Delete(ctx) })
	now := time.Now()
	f.next = now.Add(f.pacer.Rest(now, f.used))
	if err == nil {
		f.again, f.retry = time.Time{}, retryMin
		return nil
	}
	f.again = now.Add(f.retry)
	f.retry = min(2*f.retry, retryMax)
	f.putOff()
	return err
}

// putOff has due receive once the driver may be called, and returns false if that is now.
func (f *flows) putOff() bool {
	wait := max(time.Until(f.next), time.Until(f.again))
	if wait <= 0 {
		return false
	}
	f.due = time.After(wait)
	return true
}
