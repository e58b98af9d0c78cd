package ruleset

import (
	"cmp"
	"fmt"
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
		*table = t.build(snap, b.cfg.resolve(node, t.family))
		problems = append(problems, t.problems...)
	}
	slices.SortFunc(problems, compareProblems)
	return r, problems
}

// tableBuilder builds the table of one family.
type tableBuilder struct {
	family   cluster.Family
	cfg      resolved
	cache    map[cluster.Name]cached
	problems []Problem
}

// cached is what was built for a Service, and from what.
type cached struct {
	svc      *cluster.Service
	slices   []*cluster.Slice
	vips     []netip.Addr
	out      *Service
	problems []Problem
}

func (b *tableBuilder) build(snap *cluster.Snapshot, cfg resolved) Table {
	if b.cache == nil || !cfg.equal(b.cfg) {
		b.cache = map[cluster.Name]cached{}
	}
	b.cfg = cfg
	b.problems = nil

	cache := make(map[cluster.Name]cached, len(snap.Services))
	claims := make(claims, 2*len(snap.Services))
	for name, svc := range snap.Services {
		if svc.ForeignProxy || svc.Headless || svc.Type == cluster.ExternalName {
			continue
		}
		c, known := b.cache[name]
		vips := b.vips(snap, svc)
		if !known || c.svc != svc || !slices.Equal(c.slices, snap.Slices[name]) || !slices.Equal(c.vips, vips) {
			c = cached{svc: svc, slices: snap.Slices[name], vips: vips}
			c.out, c.problems = b.service(snap, svc, vips)
		}
		cache[name] = c
		b.problems = append(b.problems, c.problems...)
		if c.out != nil {
			claims.add(name, c.out)
		}
	}
	b.cache = cache

	services := make(map[cluster.Name]*Service, len(cache))
	for name, c := range cache {
		if c.out != nil {
			services[name] = c.out
		}
	}
	b.problems = append(b.problems, claims.settle(services)...)
	return Table{
		Family: b.family, Chains: chainsFor(b.family, cfg, services), Services: services,
		Shared: shared(b.family, cfg, services), NodePortAddresses: cfg.nodePorts,
	}
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
	out := &Service{Internal: []netip.Addr{ip}, External: vips}
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
			if b.cfg.isLocalPod(ep.Addr()) || slices.Contains(eps.Local, ep) {
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
func chainsFor(f cluster.Family, cfg resolved, services map[cluster.Name]*Service) []Chain {
	classes := map[class]struct{}{}
	for _, svc := range services {
		for i := range svc.Frontends {
			if fr := &svc.Frontends[i]; fr.served() {
				classes[fr.class()] = struct{}{}
			}
		}
	}
	chains := staticChains(f, cfg)
	for c := range classes {
		chains = append(chains, c.chains(f, cfg.pods)...)
	}
	slices.SortFunc(chains, func(a, b Chain) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(chains, func(a, b Chain) bool { return a.Name == b.Name })
}

// shared returns the elements that do not belong to one Service alone.
func shared(f cluster.Family, cfg resolved, services map[cluster.Name]*Service) []Element {
	var vips, pods []netip.Addr
	internal := make([]netip.Addr, 0, len(services))
	for _, svc := range services {
		internal = append(internal, svc.Internal...)
		vips = append(vips, svc.External...)
		pods = append(pods, svc.Pods...)
	}
	width := f.Bits() / 8
	var out []Element
	for _, s := range []struct {
		set    SetID
		addrs  []netip.Addr
		repeat int
	}{{ClusterIPs, internal, 1}, {VIPs, vips, 1}, {Hairpin, pods, 2}} {
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
