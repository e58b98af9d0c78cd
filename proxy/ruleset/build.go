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
	tables [2]tableBuilder
}

// NewBuilder returns a Builder that has built nothing yet.
func NewBuilder(cfg Config) *Builder {
	b := &Builder{cfg: cfg}
	b.tables[0].family, b.tables[1].family = cluster.IPv4, cluster.IPv6
	return b
}

// Build is the same as the function Build.
func (b *Builder) Build(snap *cluster.Snapshot) (Ruleset, []Problem) {
	var problems []Problem
	node := snap.Nodes[b.cfg.Node]
	if node == nil {
		node = &cluster.Node{Name: b.cfg.Node}
		problems = append(problems, Problem{
			Reason: ReasonNodeUnknown, Message: fmt.Sprintf("there is no Node %q: set --node-name to the name of this node's Node object", b.cfg.Node),
		})
	} else if len(node.PodCIDRs) == 0 && len(b.cfg.ClusterCIDRs) == 0 {
		problems = append(problems, Problem{
			Reason: ReasonNoPodCIDR, Message: "the Node has no pod CIDR: set --cluster-cidr, or traffic from outside to cluster IPs is not masqueraded and pods cannot use Services with externalTrafficPolicy Local on other nodes",
		})
	}
	var r Ruleset
	for i, table := range r.Tables() {
		t := &b.tables[i]
		*table = t.build(snap, b.cfg.resolve(snap, node, t.family))
		problems = append(problems, t.problems...)
	}
	slices.SortFunc(problems, compareProblems)
	return r, problems
}

// tableBuilder builds the table of one family.
type tableBuilder struct {
	family cluster.Family
	cfg    resolved
	// table is what was built last; it is nil at first and after a change of cfg.
	table *Table
	// built is what each Service was built from, and in which round that was last seen.
	built map[cluster.Name]*built
	round int
	// classes counts the frontends of each class.
	classes map[class]int
	claims  claims
	// lost is what Services want in vain, since the last Build.
	lost map[cluster.Name][]frontendID
	// problems of the last Build.
	problems []Problem
}

// built is what was built for a Service, and from what.
type built struct {
	svc      *cluster.Service
	slices   []*cluster.Slice
	vips     []netip.Addr
	out      *Service
	problems []Problem
	round    int
}

func (b *tableBuilder) build(snap *cluster.Snapshot, cfg resolved) Table {
	if b.table == nil || !cfg.equal(b.cfg) {
		b.cfg, b.table = cfg, &Table{}
		b.built, b.classes, b.claims, b.lost = map[cluster.Name]*built{}, map[class]int{}, newClaims(), nil
	}
	b.cfg.node = cfg.node
	b.round++

	changed := map[cluster.Name]*Service{}
	seen := 0
	for name, svc := range snap.Services {
		if svc.ForeignProxy || svc.Headless || svc.Type == cluster.ExternalName {
			continue
		}
		seen++
		old, vips := b.built[name], b.vips(snap, svc)
		if old != nil && old.svc == svc && slices.Equal(old.slices, snap.Slices[name]) && slices.Equal(old.vips, vips) {
			old.round = b.round
			continue
		}
		now := &built{svc: svc, slices: snap.Slices[name], vips: vips, round: b.round}
		now.out, now.problems = b.service(snap, svc, vips)
		b.replace(name, old, now)
		changed[name] = now.out
	}
	if seen != len(b.built) {
		for name, old := range b.built {
			if old.round != b.round {
				b.replace(name, old, nil)
				changed[name] = nil
			}
		}
	}
	if len(changed) > 0 || b.table.Services == nil {
		b.table = b.assemble(changed)
	}
	return *b.table
}

// replace notes what is built for a Service; now is nil if it is gone.
func (b *tableBuilder) replace(name cluster.Name, old, now *built) {
	if old != nil && old.out != nil {
		b.claims.remove(name, old.out)
		for i := range old.out.Frontends {
			if c := old.out.Frontends[i].class(); b.classes[c] == 1 {
				delete(b.classes, c)
			} else {
				b.classes[c]--
			}
		}
	}
	if now == nil {
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

// assemble returns the table after some Services have changed; nil stands for those that are gone.
func (b *tableBuilder) assemble(changed map[cluster.Name]*Service) *Table {
	t := &Table{Family: b.family, Services: maps.Clone(b.table.Services), NodePortAddresses: b.cfg.nodePorts}
	if t.Services == nil {
		t.Services = make(map[cluster.Name]*Service, len(changed))
	}
	// Those that lost something may have it now.
	for name := range b.lost {
		if now := b.built[name]; now != nil {
			changed[name] = now.out
		}
	}
	for name, svc := range changed {
		if svc == nil {
			delete(t.Services, name)
		} else {
			t.Services[name] = svc
		}
	}
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
	t.Shared = shared(b.family, b.cfg, t.Services)
	return t
}

// vips returns the VIPs of the Service in this family.
func (b *tableBuilder) vips(snap *cluster.Snapshot, svc *cluster.Service) []netip.Addr {
	return slices.DeleteFunc(snap.VIPsOf(svc), func(a netip.Addr) bool { return cluster.FamilyOf(a) != b.family })
}

// service returns what the table has because of one Service, nil if nothing.
func (b *tableBuilder) service(snap *cluster.Snapshot, svc *cluster.Service, vips []netip.Addr) (*Service, []Problem) {
	ip := svc.ClusterIPOf(b.family)
	if !ip.IsValid() {
		return nil, nil
	}
	out := &Service{ClusterIP: ip, VIPs: vips}
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
func (b *tableBuilder) port(snap *cluster.Snapshot, svc *cluster.Service, port cluster.ServicePort, ip netip.Addr, vips []netip.Addr, out *Service) (bad int) {
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
		if len(eps.Local) == 0 && eps.Any {
			internal.Closed = Drop
		}
	}
	// The DNS port of the node's own server is accepted by an element that is always there; see shared.
	if ownDNS := slices.Contains(b.cfg.localDNS, ip) && port.Port == dnsPort && port.Protocol != cluster.SCTP; !ownDNS {
		out.Frontends = append(out.Frontends, internal)
	}

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
		fr := external
		fr.Addr, fr.Sources = vip, b.sources(svc, vip)
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
			chains = append(chains, c.chains(f, cfg.pods)...)
		}
	}
	slices.SortFunc(chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(chains, func(a, b Chain) bool { return a.Name == b.Name })
}

// shared returns the elements that do not belong to one Service alone.
func shared(f cluster.Family, cfg resolved, services map[cluster.Name]*Service) []Element {
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
	for _, a := range cfg.localDNS {
		for _, p := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
			out = append(out, Element{Set: Closed, Key: string(appendFrontend(nil, a, p, dnsPort)), Value: string(Accept)})
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
