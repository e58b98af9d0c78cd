package segments

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/liveness"
	"github.com/seamark-io/seamark/speaker/liveness/segment"
	"github.com/seamark-io/seamark/speaker/plan"
)

// Facts returns what the nodes of each segment know of each other. Holders are looked up for the given VIPs. A segment
// that this node is on by two interfaces is that of the first.
func (d *Driver) Facts(vips map[netip.Addr]*cluster.VIP) map[netip.Prefix]plan.Segment {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[netip.Prefix]plan.Segment{}
	for _, p := range d.sorted() {
		if _, twice := out[p.subnet]; !twice {
			out[p.subnet] = p.facts(d.cfg.Node, vips)
		}
	}
	return out
}

func (p *part) facts(self string, vips map[netip.Addr]*cluster.VIP) plan.Segment {
	v, holders := p.segment.Holders()
	out := plan.Segment{
		Members: make(map[string]plan.Member, len(v.Nodes)), Holders: make(map[netip.Addr]string, len(holders)), Contenders: map[netip.Addr]string{},
		Blind: len(v.Nodes) > liveness.MaxAcceptors,
	}
	for _, n := range v.Nodes {
		m := plan.Member{Alive: n.Alive && !n.Draining, Interface: p.interfaces[n.Name]}
		if mac, ok := p.segment.Station(n.Name); ok {
			m.MAC = mac
		}
		out.Members[n.Name] = m
	}
	if !out.Blind {
		for a := range vips {
			if !p.subnet.Contains(a) {
				continue
			}
			if h, ok := holders[liveness.AddressOf(a)]; ok {
				out.Holders[a] = h
			}
		}
	}
	for i := range v.Addresses {
		a := &v.Addresses[i]
		if a.State == liveness.Holding {
			out.Holders[a.Addr] = self
		}
		if a.Contender != "" {
			out.Contenders[a.Addr] = a.Contender
		}
	}
	return out
}

// Policy is how the kernel schedules the thread of heartbeats, such as SCHED_RR; empty before Run.
func (d *Driver) Policy() string { return string(d.loop.Policy()) }

// Grant is what became of an address that this node wants.
type Grant struct {
	// Held: this node may answer.
	Held bool
	// Holder is the node that has it instead; empty if none is known.
	Holder string
	// Why not, in words; empty if it is held.
	Why string
}

// Grants returns what became of the addresses that this node wants.
func (d *Driver) Grants() map[netip.Addr]Grant {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, p := range d.parts {
		n += len(p.segment.View().Addresses)
	}
	out := make(map[netip.Addr]Grant, n)
	for _, p := range d.sorted() {
		v := p.segment.View()
		lacks := lacking(v)
		for i := range v.Addresses {
			a := &v.Addresses[i]
			switch {
			case a.State == liveness.Holding:
				out[a.Addr] = Grant{Held: true}
			case out[a.Addr].Held:
			case a.Holder != "":
				out[a.Addr] = Grant{Holder: a.Holder, Why: fmt.Sprintf("node %s has it", a.Holder)}
			default:
				out[a.Addr] = Grant{Why: lacks}
			}
		}
	}
	return out
}

// lacking says why a segment grants nothing.
func lacking(v *liveness.View) string {
	if v.Majority || len(v.Problems) == 0 {
		return "the other nodes have not granted it yet"
	}
	var texts []string
	for _, p := range v.Problems {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, "; ")
}

// Holds returns the addresses that this node may answer for, in no order.
func (d *Driver) Holds() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []netip.Addr
	for _, p := range d.parts {
		v := p.segment.View()
		for i := range v.Addresses {
			if v.Addresses[i].State == liveness.Holding {
				out = append(out, v.Addresses[i].Addr)
			}
		}
	}
	return out
}

// Status is that of one segment.
type Status struct {
	Subnet    netip.Prefix
	Interface string
	View      *liveness.View
	Stats     segment.Stats
}

// Status returns that of each segment, by subnet.
func (d *Driver) Status() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Status
	for _, p := range d.sorted() {
		out = append(out, Status{Subnet: p.subnet, Interface: p.name, View: p.segment.View(), Stats: p.segment.Stats()})
	}
	return out
}
