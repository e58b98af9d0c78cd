package conntrack

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// frontends are those of UDP.
type frontends map[netip.AddrPort]frontend

type frontend struct {
	// serving endpoints, sorted.
	serving []netip.AddrPort
	// translates is false for a frontend without an endpoint for new flows: a policy may exclude all that serve.
	translates bool
}

// udpFrontends returns the UDP frontends of a table.
func udpFrontends(t *ruleset.Table) frontends {
	out := frontends{}
	for _, svc := range t.Services {
		for i := range svc.Frontends {
			if fr := &svc.Frontends[i]; fr.Protocol == cluster.UDP {
				out[netip.AddrPortFrom(fr.Addr, fr.Port)] = frontend{fr.Serving, len(fr.Endpoints) > 0}
			}
		}
	}
	return out
}

// unserved returns the addresses at which nothing but Services is to be found: cluster IPs and VIPs, also those that no
// Service has any more, and what was unserved before.
func unserved(t *ruleset.Table, snap *cluster.Snapshot, before *netipx.IPSet) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(before)
	for _, p := range snap.ServiceCIDRs {
		b.AddPrefix(p)
	}
	for _, pool := range snap.Pools {
		for _, r := range pool.Ranges {
			b.AddRange(r)
		}
	}
	for _, svc := range t.Services {
		if svc.ClusterIP.IsValid() {
			b.Add(svc.ClusterIP)
		}
		for _, vip := range svc.VIPs {
			b.Add(vip)
		}
	}
	for _, a := range otherUses(t, snap) {
		b.Remove(a)
	}
	set, _ := b.IPSet() // an error says that there was an address that is none
	return set
}

// otherUses returns addresses whose flows somebody else may translate: a pod's hostPort is at those of the nodes, and other
// proxies have Services of theirs.
func otherUses(t *ruleset.Table, snap *cluster.Snapshot) []netip.Addr {
	out := slices.Clone(t.NodePortAddresses)
	for _, n := range snap.Nodes {
		out = append(out, n.InternalIPs...)
	}
	for _, svc := range snap.Services {
		if svc.ForeignProxy {
			out = append(append(out, svc.ClusterIPs...), svc.IngressIPs...)
		}
	}
	return out
}

// contradicts reports whether a flow is not on the way on which the rules for these frontends would send it. The flow goes
// to the destination of its first packet, and its answers come from the source of the reply direction.
func (f frontends) contradicts(destination, answers netip.AddrPort) bool {
	if fr, ok := f[destination]; ok {
		return !contains(fr.serving, answers)
	}
	// A flow that was not translated was none of ours: the address may be the node's own.
	return answers != destination
}

// changes say where flows may contradict the frontends. Whether one does is asked of the frontends of now: the changes may
// have waited while more came.
type changes struct {
	frontends map[netip.AddrPort]struct{}
	// unserved are addresses at which flows are stale that go to none of the frontends. It is for a look at all flows: an
	// earlier process, or rules of somebody else, may have had frontends of which nobody knows any more. It is nil for
	// every other look.
	unserved *netipx.IPSet
	// left are flows that the kernel did not delete, by destination and id. Those it is asked for again, but not others to
	// the same destinations: it may take hours, and somebody else may have a use for a node port by then.
	left map[netip.AddrPort]map[string]struct{}
}

func (c *changes) empty() bool { return len(c.frontends)+len(c.left) == 0 && c.unserved == nil }

// diff returns the frontends that are new, gone, or lead elsewhere. One that translates from now on counts because flows to
// its address may have been let through untranslated before.
func diff(have, want frontends) []netip.AddrPort {
	var out []netip.AddrPort
	for at, now := range want {
		if old, ok := have[at]; !ok || !containsAll(now.serving, old.serving) || now.translates && !old.translates {
			out = append(out, at)
		}
	}
	for at := range have {
		if _, ok := want[at]; !ok {
			out = append(out, at)
		}
	}
	return out
}

// containsAll reports whether a sorted list has all of the other's.
func containsAll(list, other []netip.AddrPort) bool {
	return !slices.ContainsFunc(other, func(ep netip.AddrPort) bool { return !contains(list, ep) })
}

func contains(sorted []netip.AddrPort, ep netip.AddrPort) bool {
	_, ok := slices.BinarySearchFunc(sorted, ep, netip.AddrPort.Compare)
	return ok
}

// add adds frontends.
func (c *changes) add(changed iter.Seq[netip.AddrPort]) {
	if c.frontends == nil {
		c.frontends = map[netip.AddrPort]struct{}{}
	}
	for fr := range changed {
		c.frontends[fr] = struct{}{}
	}
}

// leave adds a flow that the kernel did not delete.
func (c *changes) leave(fl flow) {
	if c.left == nil {
		c.left = map[netip.AddrPort]map[string]struct{}{}
	}
	if c.left[fl.destination] == nil {
		c.left[fl.destination] = map[string]struct{}{}
	}
	c.left[fl.destination][string(fl.id)] = struct{}{}
}

// destinations returns what to look for: each destination, or the zero AddrPort for all flows if those are more than most.
func (c *changes) destinations(most int) []netip.AddrPort {
	out := slices.Collect(maps.Keys(c.frontends))
	for to := range c.left {
		if _, ok := c.frontends[to]; !ok {
			out = append(out, to)
		}
	}
	if c.unserved != nil || len(out) > most {
		return []netip.AddrPort{{}}
	}
	return out
}

// concern reports whether flows to a destination may be stale.
func (c *changes) concern(destination netip.AddrPort) bool {
	return c.anyTo(destination) || c.left[destination] != nil
}

// include reports whether a flow may be stale.
func (c *changes) include(fl flow) bool {
	_, left := c.left[fl.destination][string(fl.id)]
	return left || c.anyTo(fl.destination)
}

func (c *changes) anyTo(destination netip.AddrPort) bool {
	_, ok := c.frontends[destination]
	return ok || c.unserved != nil && c.unserved.Contains(destination.Addr())
}
