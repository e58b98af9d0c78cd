package liveness

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/plan"
)

// segmentSubnet is what all addresses of a world are in.
var segmentSubnet = netip.MustParsePrefix("192.0.2.0/24")

// snapshot is what the API has: all nodes, and one Service with all addresses that every node can serve.
func (w *world) snapshot(policy Policy) *cluster.Snapshot {
	svc := cluster.Name{Namespace: "default", Name: "web"}
	s := &cluster.Snapshot{
		Services: map[cluster.Name]*cluster.Service{svc: {Name: svc, Type: cluster.LoadBalancer, IngressIPs: w.vips}},
		Nodes:    map[string]*cluster.Node{}, VIPs: map[netip.Addr]*cluster.VIP{},
		Pools: map[string]*cluster.Pool{"pool": {
			Name: "pool", Ranges: []netipx.IPRange{netipx.RangeOfPrefix(segmentSubnet)}, ARP: &cluster.ARPAnnounce{Serve: policy == Serve},
		}},
	}
	slice := &cluster.Slice{Service: svc, Family: cluster.IPv4}
	for _, n := range w.nodes {
		s.Nodes[n.name] = &cluster.Node{Name: n.name, Ready: true}
		slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{Addr: netip.MustParseAddr("10.244.0.1"), Node: n.name, Ready: true, Serving: true})
	}
	s.Slices = map[cluster.Name][]*cluster.Slice{svc: {slice}}
	for _, a := range w.vips {
		s.VIPs[a] = &cluster.VIP{Address: a, Pool: "pool", Services: []cluster.Name{svc}}
	}
	return s
}

// decide has the node decide anew what it wants, when something has changed: at once, or after what its loop takes.
func (n *node) decide() {
	if !n.m.Changed() || n.deciding {
		return
	}
	if n.w.lag == 0 {
		n.decideNow()
		return
	}
	n.deciding = true
	life := n.lives
	n.w.after(time.Duration(n.w.rand.Int64N(int64(n.w.lag))), func() { n.decideLater(life) })
}

func (n *node) decideLater(life int) {
	switch {
	case n.lives != life || n.m == nil:
	case n.paused:
		n.w.after(time.Millisecond, func() { n.decideLater(life) })
	default:
		n.deciding = false
		n.decideNow()
		n.schedule()
	}
}

// decideNow is what the node's loop does with a new View: a plan, and what the plan says is wanted.
func (n *node) decideNow() {
	v := n.m.View()
	n.checkHolders()
	wants := n.plan(v)
	if n.fixed != nil {
		wants = nil
		for _, a := range n.fixed {
			wants = append(wants, Want{a, n.policy})
		}
	}
	if v.Tie != n.tie {
		n.tie = v.Tie
		n.guard()
	}
	if slices.Equal(wants, n.wanted) {
		return
	}
	for _, old := range n.wanted {
		if n.w.mutant.slowRelease > 0 && !slices.Contains(wants, old) && n.m.Leases().MayAnswer(old.Addr, n.clock) {
			n.let[old.Addr] = n.w.now + int64(n.w.mutant.slowRelease)
		}
	}
	n.wanted = wants
	n.w.log("%v %s wants %v, alive %v", time.Duration(n.w.now), n.name, wants, v.Alive())
	n.step()
	n.m.SetWanted(n.clock(), wants)
}

// plans are what plan.Build has a node want, by all that it follows from: it takes as long as the rest of the simulation together,
// and finds the same again and again.
var plans struct {
	sync.RWMutex
	made map[string][]Want
}

// plan returns what plan.Build has the node want.
func (n *node) plan(v *View) []Want {
	key := append(n.key[:0], byte(n.policy), byte(len(n.w.nodes)), byte(len(n.w.vips)), byte(n.index))
	for i := range v.Nodes {
		alive := byte(0)
		if v.Nodes[i].Alive && !v.Nodes[i].Draining {
			alive = 1
		}
		key = append(append(key, v.Nodes[i].Name...), alive)
	}
	for i, a := range n.w.vips {
		av, _ := v.Address(a)
		held := byte(0)
		if av.State == Holding {
			held = 1
		}
		key = append(append(key, n.m.Holders()[n.w.ids[i]]...), held)
		key = append(append(key, av.Contender...), ';')
	}
	n.key = key
	plans.RLock()
	wants, known := plans.made[string(key)]
	plans.RUnlock()
	if known {
		return wants
	}
	if n.w.snap == nil {
		n.w.snap = n.w.snapshot(n.policy)
	}
	for _, l := range plan.Build(n.w.snap, n.facts(v)).L2 {
		policy := Fence
		if l.Serve {
			policy = Serve
		}
		wants = append(wants, Want{l.Addr, policy})
	}
	plans.Lock()
	defer plans.Unlock()
	if len(plans.made) > 1<<16 || plans.made == nil {
		plans.made = map[string][]Want{}
	}
	plans.made[string(key)] = wants
	return wants
}

// facts are what segments.Driver.Facts makes of a View; that package cannot be imported here, since it imports this one.
func (n *node) facts(v *View) plan.Facts {
	s := plan.Segment{
		Members: map[string]plan.Member{}, Holders: map[netip.Addr]string{}, Contenders: map[netip.Addr]string{},
		Blind: len(v.Nodes) > MaxAcceptors,
	}
	for _, o := range v.Nodes {
		s.Members[o.Name] = plan.Member{Alive: o.Alive && !o.Draining, Interface: "eth0"}
	}
	for i, a := range n.w.vips {
		if h, ok := n.m.Holders()[n.w.ids[i]]; ok && !s.Blind {
			s.Holders[a] = h
		}
	}
	for i := range v.Addresses {
		a := &v.Addresses[i]
		if a.State == Holding {
			s.Holders[a.Addr] = n.name
		}
		if a.Contender != "" {
			s.Contenders[a.Addr] = a.Contender
		}
	}
	eth0 := plan.Link{Index: 2, Name: "eth0", MAC: plan.MAC{2, 0, 0, 0, 0, byte(n.index)}, Ups: 1}
	return plan.Facts{
		Node:       n.name,
		Interfaces: []plan.Interface{{Link: eth0, Prefixes: []netip.Prefix{netip.PrefixFrom(segmentSubnet.Addr().Next(), 24)}, Up: true}},
		Segments:   map[netip.Prefix]plan.Segment{segmentSubnet: s},
	}
}

// checkHolders compares the holders, which are those of earlier where nothing has changed, with the seats.
func (n *node) checkHolders() {
	holders := n.m.Holders()
	count := 0
	ok := true
	for id, s := range n.m.seats.at {
		if s.holder != 0 && n.m.selfSlot >= 0 {
			count++
			h, known := holders[id]
			ok = ok && known && h == n.m.names[s.holder]
		}
	}
	if !ok || count != len(holders) {
		n.w.violate("%s knows of the holders %v, which is not what it granted", n.name, holders)
	}
}

func (w *world) violate(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf("%v: ", time.Duration(w.now))+fmt.Sprintf(format, args...))
}
