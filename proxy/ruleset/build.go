package ruleset

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

// Ruleset is the wanted content of our tables. It is immutable.
type Ruleset struct {
	IPv4, IPv6 Table
}

// Tables returns both tables.
func (r *Ruleset) Tables() []*Table { return []*Table{&r.IPv4, &r.IPv6} }

// Table is the wanted content of the table of one family.
type Table struct {
	Family cluster.Family
	// Chains are sorted by name.
	Chains []Chain
	// Services has the frontends of each Service that has any in this family. Unchanged Services keep their pointer
	// from one Build of a Builder to the next.
	Services map[cluster.Name]*Service
	// Shared are the elements that several Services may ask for, sorted and without duplicates.
	Shared []Element
	// NodePortAddresses are this node's addresses that serve node ports.
	NodePortAddresses []netip.Addr
}

// Build returns the wanted tables of the node. Problems are returned with every Build as long as they last. Without
// the Node object there are no node ports, no pods are known to be local, and topology hints do not count.
func Build(snap *cluster.Snapshot, cfg Config) (Ruleset, []Problem) {
	return NewBuilder(cfg).Build(snap)
}

// Builder builds one Ruleset after the other and does again only what depends on changed Services and EndpointSlices,
// which it tells by their pointers. It must not be used concurrently.
type Builder struct {
	cfg    Config
	tables [2]*tableBuilder
	// known is what each Service was built from; round is the number of the Build.
	known map[cluster.Name]*known
	round int
}

// known is what a Service was built from, and in which round it was last seen.
type known struct {
	svc    *cluster.Service
	slices []*cluster.Slice
	vips   []*cluster.VIP
	round  int
}

// NewBuilder returns a Builder that has built nothing yet.
func NewBuilder(cfg Config) *Builder {
	return &Builder{cfg: cfg, tables: [2]*tableBuilder{{family: cluster.IPv4}, {family: cluster.IPv6}}}
}

// SetLocalAddresses says which addresses are on the node's interfaces from now on, sorted.
func (b *Builder) SetLocalAddresses(addrs []netip.Addr) { b.cfg.LocalAddresses = addrs }

// Build is the same as the function Build.
func (b *Builder) Build(snap *cluster.Snapshot) (Ruleset, []Problem) {
	node, problems := b.node(snap)
	anew := b.known == nil
	for _, t := range b.tables {
		cfg := b.cfg.resolve(snap, node, t.family)
		anew = anew || !cfg.equal(t.cfg)
		t.cfg = cfg
	}
	if anew {
		b.known = make(map[cluster.Name]*known, len(snap.Services))
		for _, t := range b.tables {
			t.reset()
		}
	}
	b.update(snap)

	var r Ruleset
	for i, table := range r.Tables() {
		t := b.tables[i]
		t.assemble()
		*table = *t.table
		problems = append(problems, t.problems...)
		if len(t.cfg.pods) == 0 && len(table.Services) > 0 && snap.Nodes[b.cfg.Node] != nil {
			problems = append(problems, Problem{
				Reason: ReasonNoPodCIDR, Message: fmt.Sprintf("the Node has no %s pod CIDR: set --cluster-cidr, or traffic from outside to %[1]s cluster IPs is not masqueraded and pods cannot use Services with externalTrafficPolicy Local on other nodes", t.family),
			})
		}
	}
	slices.SortFunc(problems, compareProblems)
	return r, problems
}

// node returns the node's object, or what takes its place.
func (b *Builder) node(snap *cluster.Snapshot) (*cluster.Node, []Problem) {
	if node := snap.Nodes[b.cfg.Node]; node != nil {
		return node, nil
	}
	return &cluster.Node{Name: b.cfg.Node}, []Problem{{
		Reason: ReasonNodeUnknown, Message: fmt.Sprintf("there is no Node %q: set --node-name to the name of this node's Node object", b.cfg.Node),
	}}
}

// update builds the Services that are new or have changed, and drops those that are gone.
func (b *Builder) update(snap *cluster.Snapshot) {
	b.round++
	seen := 0
	for name, svc := range snap.Services {
		if svc.ForeignProxy || svc.Headless || svc.Type == cluster.ExternalName {
			continue
		}
		seen++
		list, vips := snap.Slices[name], snap.GrantsOf(svc)
		old := b.known[name]
		if old != nil && old.svc == svc && slices.Equal(old.slices, list) && slices.EqualFunc(old.vips, vips, (*cluster.VIP).SameGrants) {
			old.round = b.round
			continue
		}
		b.known[name] = &known{svc, list, vips, b.round}
		for _, t := range b.tables {
			t.update(snap, svc, vips)
		}
	}
	if seen == len(b.known) {
		return
	}
	for name, old := range b.known {
		if old.round != b.round {
			delete(b.known, name)
			for _, t := range b.tables {
				t.replace(name, built{})
			}
		}
	}
}

// tableBuilder builds the table of one family.
type tableBuilder struct {
	family cluster.Family
	cfg    resolved
	// table is what was assembled last.
	table *Table
	// built are the Services; changed are those that are not in table as they are now.
	built   map[cluster.Name]built
	changed map[cluster.Name]struct{}
	// classes counts the frontends of each class.
	classes map[class]int
	claims  claims
	// lost is what Services want in vain.
	lost map[cluster.Name][]frontendID
	// problems of the last Build.
	problems []Problem
}

// built is what the table gets for a Service; the zero value is nothing.
type built struct {
	out      *Service
	problems []Problem
}

func (b *tableBuilder) reset() {
	b.table = nil
	b.built, b.changed = map[cluster.Name]built{}, map[cluster.Name]struct{}{}
	b.classes, b.claims, b.lost = map[class]int{}, newClaims(), nil
}

// update builds a Service.
func (b *tableBuilder) update(snap *cluster.Snapshot, svc *cluster.Service, vips []*cluster.VIP) {
	vips = slices.DeleteFunc(slices.Clone(vips), func(v *cluster.VIP) bool { return cluster.FamilyOf(v.Address) != b.family })
	out, problems := b.service(snap, svc, vips)
	old := b.built[svc.Name]
	if old.out.equal(out) && slices.Equal(old.problems, problems) {
		return
	}
	b.replace(svc.Name, built{out, problems})
}

// replace notes what is built for a Service.
func (b *tableBuilder) replace(name cluster.Name, now built) {
	old := b.built[name]
	if old.out == nil && now.out == nil && len(old.problems)+len(now.problems) == 0 {
		return
	}
	b.changed[name] = struct{}{}
	if old.out != nil {
		b.claims.remove(name, old.out)
		for i := range old.out.Frontends {
			if c := old.out.Frontends[i].class(); b.classes[c] == 1 {
				delete(b.classes, c)
			} else {
				b.classes[c]--
			}
		}
	}
	if now.out == nil && len(now.problems) == 0 {
		delete(b.built, name)
		return
	}
	b.built[name] = now
	if now.out != nil {
		b.claims.add(name, now.out)
		for i := range now.out.Frontends {
			b.classes[now.out.Frontends[i].class()]++
		}
	}
}

// assemble makes the table anew if anything has changed.
func (b *tableBuilder) assemble() {
	if b.table != nil && len(b.changed) == 0 {
		return
	}
	t := &Table{Family: b.family, NodePortAddresses: b.cfg.nodePorts}
	if b.table != nil {
		t.Services = maps.Clone(b.table.Services)
	} else {
		t.Services = make(map[cluster.Name]*Service, len(b.built))
	}
	// Those that lost something may have it now.
	for name := range b.lost {
		b.changed[name] = struct{}{}
	}
	for name := range b.changed {
		if svc := b.built[name].out; svc != nil {
			t.Services[name] = svc
		} else {
			delete(t.Services, name)
		}
	}
	clear(b.changed)
	b.problems = nil
	for _, built := range b.built {
		b.problems = append(b.problems, built.problems...)
	}
	b.lost = b.claims.losers()
	for name, ids := range b.lost {
		kept, problems := b.claims.without(name, t.Services[name], ids)
		t.Services[name] = kept
		b.problems = append(b.problems, problems...)
	}
	t.Chains = chainsFor(b.family, b.cfg, b.classes)
	t.Shared = shared(b.family, t.Services)
	b.table = t
}

// service returns what the table has because of one Service, nil if nothing.
func (b *tableBuilder) service(snap *cluster.Snapshot, svc *cluster.Service, vips []*cluster.VIP) (*Service, []Problem) {
	ip := svc.ClusterIPOf(b.family)
	if !ip.IsValid() {
		return nil, nil
	}
	out := &Service{ClusterIP: ip}
	for _, v := range vips {
		out.VIPs = append(out.VIPs, v.Address)
	}
	if slices.Contains(b.cfg.localDNS, ip) {
		// An address of this node like any other: the kernel refuses what nobody listens for, and replies to the node's own
		// queries, which no connection vouches for, must get in.
		out.ClusterIP = netip.Addr{}
	}
	var problems []Problem
	for _, port := range svc.Ports {
		if port.Port == 0 || port.Protocol.String() == "unknown" {
			problems = append(problems, Problem{svc.Name, ReasonInvalid, fmt.Sprintf("port %q is not proxied: it needs a number and one of the protocols TCP, UDP, SCTP", port.Name)})
			continue
		}
		if bad := b.port(snap, svc, port, ip, vips, out); bad > 0 {
			problems = append(problems, Problem{svc.Name, ReasonInvalid, fmt.Sprintf("%d %s endpoints of port %q are left out: their addresses are not of the family that their EndpointSlice has", bad, b.family, port.Name)})
		}
	}
	slices.SortFunc(out.Pods, netip.Addr.Compare)
	out.Pods = slices.Compact(out.Pods)
	return out, problems
}

// port adds the frontends of one port. It returns how many endpoints cannot be used.
func (b *tableBuilder) port(snap *cluster.Snapshot, svc *cluster.Service, port cluster.ServicePort, ip netip.Addr, vips []*cluster.VIP, out *Service) (bad int) {
	eps := snap.EligibleEndpoints(svc, port, b.family, b.cfg.node)
	bad = b.dropForeign(&eps.Cluster)
	b.dropForeign(&eps.Local)
	eps.Any = len(eps.Cluster) > 0
	base := Frontend{Protocol: port.Protocol, Port: port.Port, Affinity: svc.Affinity}
	if port.Protocol == cluster.UDP {
		base.Serving = snap.ServingEndpoints(svc.Name, port, b.family)
	}
	for _, list := range [][]netip.AddrPort{eps.Cluster, eps.Local} {
		for _, ep := range list {
			_, local := slices.BinarySearchFunc(eps.Local, ep, netip.AddrPort.Compare)
			if local || b.cfg.isLocalPod(ep.Addr()) {
				out.Pods = append(out.Pods, ep.Addr())
			}
		}
	}

	internal := base
	internal.Addr, internal.Kind, internal.Endpoints = ip, Internal, eps.Cluster
	if svc.InternalLocal {
		internal.Endpoints = eps.Local
		// What the node's own DNS server gets, and its replies to the node itself, no policy may close.
		if len(eps.Local) == 0 && eps.Any && !slices.Contains(b.cfg.localDNS, ip) {
			internal.Closed = Drop
		}
	}
	out.Frontends = append(out.Frontends, internal)

	if !svc.HasNodePorts() {
		return bad
	}
	external := base
	external.Kind, external.Endpoints = External, eps.Cluster
	if svc.ExternalLocal {
		external.Kind, external.Local = ExternalLocal, eps.Local
		if len(eps.Local) == 0 && eps.Any {
			external.Closed = Drop
		}
	}
	for _, vip := range vips {
		if !vip.Serves(svc.Name, cluster.Port{Protocol: port.Protocol, Number: port.Port}) {
			continue // another Service has it
		}
		fr := external
		fr.Addr, fr.Sources = vip.Address, b.sources(svc, vip.Address)
		out.Frontends = append(out.Frontends, fr)
	}
	if port.NodePort == 0 {
		return bad
	}
	for _, a := range b.cfg.nodePorts {
		fr := external
		fr.Addr, fr.Port, fr.NodePort = a, port.NodePort, true
		if !eps.Any {
			// The address has other uses, so nothing but this says what its unserved ports get.
			fr.Closed = Goto(chainRefuse)
		}
		out.Frontends = append(out.Frontends, fr)
	}
	return bad
}

// dropForeign removes endpoints of the other family, which nothing but a hand-made Snapshot or a broken API can have.
func (b *tableBuilder) dropForeign(eps *[]netip.AddrPort) (dropped int) {
	foreign := func(ep netip.AddrPort) bool { return cluster.FamilyOf(ep.Addr()) != b.family }
	if !slices.ContainsFunc(*eps, foreign) {
		return 0
	}
	n := len(*eps)
	*eps = slices.DeleteFunc(slices.Clone(*eps), foreign)
	return n - len(*eps)
}

// sources returns who may use a VIP of the Service: nil for everybody. As in kube-proxy, ranges of the other family do
// not count, a list without ranges of this family limits nothing, and the zero range anywhere lifts all limits.
func (b *tableBuilder) sources(svc *cluster.Service, vip netip.Addr) []netipx.IPRange {
	var set netipx.IPSetBuilder
	limited := false
	for _, p := range svc.SourceRanges {
		if p.Bits() == 0 {
			return nil
		}
		if cluster.FamilyOf(p.Addr()) != b.family {
			continue
		}
		limited = true
		set.AddPrefix(p)
		if slices.ContainsFunc(b.cfg.internal, p.Contains) {
			// The node may use the VIP itself as its source when it is one of its addresses.
			set.Add(vip)
		}
	}
	if !limited {
		return nil
	}
	s, err := set.IPSet()
	if err != nil {
		return []netipx.IPRange{}
	}
	return s.Ranges()
}

// chainsFor returns all chains of a table, sorted by name.
func chainsFor(f cluster.Family, cfg resolved, classes map[class]int) []Chain {
	chains := staticChains(f, cfg)
	for c := range classes {
		if c.cluster > 0 {
			chains = append(chains, c.chains(cfg.pods)...)
		}
	}
	slices.SortFunc(chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(chains, func(a, b Chain) bool { return a.Name == b.Name })
}

// shared returns the elements that do not belong to one Service alone.
func shared(f cluster.Family, services map[cluster.Name]*Service) []Element {
	var vips, pods []netip.Addr
	for _, svc := range services {
		vips = append(vips, svc.VIPs...)
		pods = append(pods, svc.Pods...)
	}
	width := f.Bits() / 8
	var out []Element
	for _, s := range []struct {
		set    SetID
		addrs  []netip.Addr
		repeat int
	}{{VIPs, vips, 1}, {Hairpin, pods, 2}} {
		slices.SortFunc(s.addrs, netip.Addr.Compare)
		for _, a := range slices.Compact(s.addrs) {
			key := make([]byte, 0, 2*width)
			for range s.repeat {
				key = appendAddr(key, a)
			}
			out = append(out, Element{Set: s.set, Key: string(key)})
		}
	}
	slices.SortFunc(out, compareElements)
	return slices.Compact(out)
}

func compareElements(a, b Element) int {
	return cmp.Or(cmp.Compare(a.Set, b.Set), cmp.Compare(a.Key, b.Key), cmp.Compare(a.End, b.End), cmp.Compare(a.Value, b.Value))
}

// NodePortAddresses returns the addresses that serve node ports.
func (r *Ruleset) NodePortAddresses() []netip.Addr {
	return slices.Concat(r.IPv4.NodePortAddresses, r.IPv6.NodePortAddresses)
}

// Stats counts what a Ruleset holds.
type Stats struct {
	Services, Frontends, Endpoints int
}

// Stats counts Services once, and frontends and their endpoints in both families.
func (r *Ruleset) Stats() Stats {
	var s Stats
	for _, t := range r.Tables() {
		for name, svc := range t.Services {
			if _, both := r.IPv4.Services[name]; t == &r.IPv4 || !both {
				s.Services++
			}
			s.Frontends += len(svc.Frontends)
			for i := range svc.Frontends {
				s.Endpoints += len(svc.Frontends[i].Endpoints)
			}
		}
	}
	return s
}
