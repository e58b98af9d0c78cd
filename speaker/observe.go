package speaker

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/speaker/bfd"
	"github.com/seamark-io/seamark/speaker/bgp"
	"github.com/seamark-io/seamark/speaker/l2"
	"github.com/seamark-io/seamark/speaker/plan"
	"github.com/seamark-io/seamark/speaker/segments"
)

// observation is what there is to report at one moment.
type observation struct {
	// vips sorted by address.
	vips []vipReport
	// duplicates are the strangers that use addresses of this node.
	duplicates map[netip.Addr]l2.Duplicate
	// services by name, for Events.
	services map[cluster.Name]*cluster.Service
	peers    map[string]peerReport
	// own are the pools that have addresses which this node uses itself, by name.
	own map[string]poolReport
	// ready are the nodes that are.
	ready map[string]bool
}

// vipReport is what this node does about a VIP. There are as many as VIPs, so it has no more than it needs.
type vipReport struct {
	addr netip.Addr
	// uid of the object that the report is for.
	uid      string
	services []cluster.Name
	ways     []wayReport
	// nobody says why no node announces the VIP, on the one node that tells.
	nobody plan.Reason
}

// wayReport is what became of one way of announcing.
type wayReport struct {
	via plan.Via
	// where this node announces the VIP: an interface, or routers.
	where string
	// why not: its code is empty where it does.
	why plan.Reason
}

func (w *wayReport) announced() bool { return w.why.Code == "" }

// way returns the report on a way, nil if the pool does not allow it.
func (v *vipReport) way(via plan.Via) *wayReport {
	for i := range v.ways {
		if v.ways[i].via == via {
			return &v.ways[i]
		}
	}
	return nil
}

// announces reports whether this node announces the VIP in that way.
func (v *vipReport) announces(via plan.Via) bool {
	w := v.way(via)
	return w != nil && w.announced()
}

// vip returns the report on an address; nil if there is none.
func (o *observation) vip(a netip.Addr) *vipReport {
	i, found := slices.BinarySearchFunc(o.vips, a, func(v vipReport, a netip.Addr) int { return v.addr.Compare(a) })
	if !found {
		return nil
	}
	return &o.vips[i]
}

// duplicate returns the MAC of a stranger that uses the address, as text; empty: there is none.
func (o *observation) duplicate(a netip.Addr) string {
	if d, ok := o.duplicates[a]; ok {
		return d.MAC.String()
	}
	return ""
}

// peerReport is the state of a session.
type peerReport struct {
	uid          string
	state        string
	since        time.Time
	lastError    string
	bfd          string
	prefixesSent int
}

// poolReport are the addresses of a pool that this node uses itself.
type poolReport struct {
	uid       string
	addresses []v1alpha1.NodeAddress
}

func (p poolReport) equal(o poolReport) bool {
	return p.uid == o.uid && slices.Equal(p.addresses, o.addresses)
}

func (p peerReport) established() bool { return p.state == "Established" }

// made is what became of a plan.
type made struct {
	sessions   []bgp.Status
	paths      []bfd.Status
	grants     map[netip.Addr]segments.Grant
	duplicates []l2.Duplicate
}

// observe puts together what the plan wants and what became of it. A route counts as announced when a router has it, an address
// on a segment when the other nodes have granted it.
func observe(node string, snap *cluster.Snapshot, p plan.Plan, m made) observation {
	o := observation{
		vips: make([]vipReport, 0, len(p.Decisions)), duplicates: map[netip.Addr]l2.Duplicate{}, services: snap.Services,
		peers: map[string]peerReport{}, own: map[string]poolReport{}, ready: map[string]bool{},
	}
	for name, n := range snap.Nodes {
		o.ready[name] = n.Ready
	}
	byPeer := map[string]*bgp.Status{}
	paths, routers := map[netip.Addr]string{}, map[string]netip.Addr{}
	for i := range p.BGP.Peers {
		if peer := &p.BGP.Peers[i]; peer.BFD.Enabled {
			routers[peer.Name] = peer.Session.Address.Addr()
		}
	}
	for _, st := range m.paths {
		paths[routerOf(st.Session)] = bfdWords(st)
	}
	for i, s := range m.sessions {
		byPeer[s.Peer] = &m.sessions[i]
		o.peers[s.Peer] = peerReport{uid: peerUID(snap, s.Peer), state: s.State, since: s.Since, lastError: s.LastError, prefixesSent: s.PrefixesSent, bfd: paths[routers[s.Peer]]}
	}
	for _, r := range p.BGP.Refused {
		o.peers[r.Peer] = peerReport{uid: peerUID(snap, r.Peer), state: "Idle", lastError: r.Reason.Text}
	}
	for _, a := range p.Own {
		use := [...]v1alpha1.NodeAddressUse{plan.OwnInterface: v1alpha1.UseInterface, plan.OwnGateway: v1alpha1.UseGateway, plan.OwnSubnet: v1alpha1.UseSubnet}[a.Use]
		report := o.own[a.Pool]
		if p := snap.Pools[a.Pool]; p != nil {
			report.uid = p.UID
		}
		report.addresses = append(report.addresses, v1alpha1.NodeAddress{Node: node, Address: a.Addr.String(), Use: use})
		o.own[a.Pool] = report
	}
	n := 0
	for i := range p.Decisions {
		n += len(p.Decisions[i].Ways)
	}
	ways := make([]wayReport, 0, n) // of all
	for i := range p.Decisions {
		d := &p.Decisions[i]
		v := vipReport{addr: d.VIP, services: d.Services}
		if vip := snap.VIPs[d.VIP]; vip != nil {
			v.uid = vip.UID
		}
		first, announced, fenced := len(ways), false, false
		for _, w := range d.Ways {
			where, why := reached(w, cluster.FamilyOf(d.VIP), byPeer)
			if w.Announced && w.Via != plan.BGPRoute {
				if g := m.grants[d.VIP]; !g.Held {
					why = plan.Reason{Code: plan.NotGranted, Text: cmp.Or(g.Why, "this node does not take part on the segment yet")}
					fenced = g.Holder == ""
				}
			}
			ways = append(ways, wayReport{w.Via, where, why})
			announced = announced || why.Code == ""
		}
		v.ways = ways[first:len(ways):len(ways)]
		switch {
		case d.Reporter:
			v.nobody = nobody(node, *d)
		case fenced && !announced:
			v.nobody = fencedReason(node, v.ways)
		}
		o.vips = append(o.vips, v)
	}
	for _, d := range m.duplicates {
		if o.vip(d.Addr) != nil {
			o.duplicates[d.Addr] = d
		}
	}
	return o
}

// peerUID returns the UID of a BGPPeer; empty: it is gone.
func peerUID(snap *cluster.Snapshot, name string) string {
	if p := snap.Peers[name]; p != nil {
		return p.UID
	}
	return ""
}

// reached returns where a way leads, or why it leads nowhere.
func reached(w plan.Way, f cluster.Family, sessions map[string]*bgp.Status) (string, plan.Reason) {
	if !w.Announced || w.Via != plan.BGPRoute {
		return w.Interface, w.Reason
	}
	var up, down []string
	for _, name := range w.Peers {
		switch s := sessions[name]; {
		case s == nil:
			down = append(down, name)
		case s.Speaks(f):
			up = append(up, name)
		case s.Established():
			down = append(down, fmt.Sprintf("%s (it does not speak %s)", name, f))
		default:
			down = append(down, fmt.Sprintf("%s (%s)", name, s.State))
		}
	}
	if len(up) > 0 {
		return strings.Join(up, ", "), plan.Reason{}
	}
	return "", plan.Reason{Code: plan.NoSession, Text: "no session for it is established: " + strings.Join(down, ", ")}
}

// fencedReason tells of an address that this node should answer for and may not.
func fencedReason(node string, ways []wayReport) plan.Reason {
	var texts []string
	for _, w := range ways {
		texts = append(texts, fmt.Sprintf("%s: %s", w.via, w.why.Text))
	}
	slices.Sort(texts)
	return plan.Reason{Code: plan.NotGranted, Text: fmt.Sprintf("not by node %s, which should (%s)", node, strings.Join(texts, "; "))}
}

// nobody returns why the VIP is announced by no node, as far as the reporting one knows.
func nobody(node string, d plan.Decision) plan.Reason {
	if d.Reason.Code != "" || len(d.Ways) == 0 {
		return d.Reason
	}
	var texts []string
	for _, w := range d.Ways {
		texts = append(texts, fmt.Sprintf("%s: %s", w.Via, w.Reason.Text))
	}
	slices.Sort(texts)
	return plan.Reason{Code: d.Ways[0].Reason.Code, Text: fmt.Sprintf("not by node %s (%s)", node, strings.Join(texts, "; "))}
}
