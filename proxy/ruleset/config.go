package ruleset

import (
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// Config is what the rules depend on besides the Snapshot.
type Config struct {
	// Node is the name of this node.
	Node string
	// ClusterCIDRs tell a pod's address where the Node object has no pod CIDRs.
	ClusterCIDRs []netip.Prefix
	// LocalDNS is the Service whose cluster IPs are addresses of this node, where its own DNS server answers: they are
	// never refused. While the server listens, its packets are not tracked, and so not translated; when it does not, the
	// Service's endpoints answer, if it has any. The zero value when the DNS part does not run.
	LocalDNS cluster.Name
	// NodePortPrefixes choose the LocalAddresses that serve node ports. A family without a prefix serves them at the node's
	// primary internal address.
	NodePortPrefixes []netip.Prefix
	// LocalAddresses are those on the node's interfaces, sorted; see also Builder.SetLocalAddresses.
	LocalAddresses []netip.Addr
	// DropInvalid drops packets from pods that conntrack cannot place: they would leave untranslated and end the
	// connection (kubernetes/kubernetes#74839). It is for kernels where nf_conntrack_tcp_be_liberal cannot be set.
	DropInvalid bool
}

// resolved is what one family's table depends on besides Services, found out once for each Build.
type resolved struct {
	node *cluster.Node
	// pods are prefixes of this node's pods.
	pods []netip.Prefix
	// nodePorts are the addresses that serve node ports, internal those of the node.
	nodePorts []netip.Addr
	internal  []netip.Addr
	localDNS  []netip.Addr
	// serviceCIDRs hold cluster IPs and nothing else.
	serviceCIDRs []netip.Prefix
	dropInvalid  bool
}

// resolve returns what one family's table depends on.
func (cfg Config) resolve(snap *cluster.Snapshot, node *cluster.Node, f cluster.Family) resolved {
	var localDNS []netip.Addr
	if dns := snap.Services[cfg.LocalDNS]; dns != nil {
		localDNS = dns.ClusterIPs
	}
	ofFamily := func(addrs []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return cluster.FamilyOf(a) != f })
	}
	prefixes := func(all []netip.Prefix) []netip.Prefix {
		return slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return cluster.FamilyOf(p.Addr()) != f })
	}
	r := resolved{
		node:      node,
		pods:      prefixes(node.PodCIDRs),
		nodePorts: cfg.nodePorts(snap, f, localDNS),
		internal:  ofFamily(node.InternalIPs),
		localDNS:  ofFamily(localDNS),

		serviceCIDRs: prefixes(snap.ServiceCIDRs),
		dropInvalid:  cfg.DropInvalid,
	}
	if len(r.pods) == 0 {
		r.pods = prefixes(cfg.ClusterCIDRs)
	}
	if len(prefixes(cfg.NodePortPrefixes)) == 0 && len(r.internal) > 0 {
		r.nodePorts = r.internal[:1]
	}
	return r
}

// nodePorts returns the local addresses that the prefixes choose. What is on the node for another purpose is not among them:
// an address that no other host can reach, a VIP or the cluster DNS that somebody has put there.
func (cfg Config) nodePorts(snap *cluster.Snapshot, f cluster.Family, localDNS []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range cfg.LocalAddresses {
		contains := func(p netip.Prefix) bool { return p.Contains(a) }
		if cluster.FamilyOf(a) == f && a.IsGlobalUnicast() && slices.ContainsFunc(cfg.NodePortPrefixes, contains) &&
			snap.VIPs[a] == nil && !slices.Contains(localDNS, a) && !slices.ContainsFunc(snap.ServiceCIDRs, contains) {
			out = append(out, a)
		}
	}
	return out
}

// equal reports whether the same Services make the same rules with both.
func (r resolved) equal(o resolved) bool {
	return r.node.Name == o.node.Name && r.node.Zone == o.node.Zone && r.dropInvalid == o.dropInvalid &&
		slices.Equal(r.pods, o.pods) && slices.Equal(r.nodePorts, o.nodePorts) &&
		slices.Equal(r.internal, o.internal) && slices.Equal(r.localDNS, o.localDNS) && slices.Equal(r.serviceCIDRs, o.serviceCIDRs)
}

func (r resolved) isLocalPod(a netip.Addr) bool {
	return slices.ContainsFunc(r.pods, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (r resolved) invalidReplies() []Rule {
	var rules []Rule
	if r.dropInvalid {
		for _, p := range r.pods {
			rules = append(rules, Rule{State{Invalid}, Source{p}, Drop})
		}
	}
	return rules
}
