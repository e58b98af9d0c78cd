package conntrack

import (
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// frontends are UDP frontends with their serving endpoints, sorted.
type frontends map[netip.AddrPort][]netip.AddrPort

// udpFrontends returns the UDP frontends of a Ruleset.
func udpFrontends(r ruleset.Ruleset) frontends {
	out := frontends{}
	for _, t := range r.Tables() {
		for _, svc := range t.Services {
			for i := range svc.Frontends {
				if fr := &svc.Frontends[i]; fr.Protocol == cluster.UDP {
					out[netip.AddrPortFrom(fr.Addr, fr.Port)] = fr.Serving
				}
			}
		}
	}
	return out
}

// changes says for which frontends flows may have become stale.
type changes map[netip.AddrPort]change

type change struct {
	// removed frontends translate nothing any more; the others lead to serving.
	removed bool
	serving []netip.AddrPort
}

// diff returns the frontends that are new, gone, or lead elsewhere. A new frontend counts because flows to its address
// may have been let through untranslated before.
func diff(have, want frontends) changes {
	out := changes{}
	for fr, serving := range want {
		if old, ok := have[fr]; !ok || !containsAll(serving, old) || len(old) == 0 && len(serving) > 0 {
			out[fr] = change{serving: serving}
		}
	}
	for fr := range have {
		if _, ok := want[fr]; !ok {
			out[fr] = change{removed: true}
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

// add takes over the changes of newer.
func (c changes) add(newer changes) {
	for fr, ch := range newer {
		c[fr] = ch
	}
}

// stale reports whether a UDP flow must end. The flow goes to the destination of its first packet, and its answers
// come from the source of the reply direction.
func (c changes) stale(destination, answers netip.AddrPort) bool {
	ch, ok := c[destination]
	switch {
	case !ok:
		return false
	case ch.removed:
		// A flow that was not translated was none of ours: the address may be the node's own.
		return answers != destination
	default:
		return !contains(ch.serving, answers)
	}
}
