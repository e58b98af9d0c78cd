package plan

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seamark-io/seamark/cluster"
)

// Uses are what the VIPs of a Snapshot are used for: the part of a plan that follows from the Snapshot alone. When a node is lost the
// facts change and the Snapshot does not, and of ten thousand VIPs this part takes as long as the rest. They must not be changed.
type Uses struct {
	snap *cluster.Snapshot
	// nodeIPs are the addresses of all nodes.
	nodeIPs map[netip.Addr]string
	// list is sorted by address.
	list []usage
}

// UsesOf returns the Uses of a Snapshot.
func UsesOf(snap *cluster.Snapshot) *Uses {
	s := &Uses{snap: snap, nodeIPs: map[netip.Addr]string{}, list: make([]usage, 0, len(snap.VIPs))}
	for _, n := range snap.Nodes {
		for _, ip := range n.InternalIPs {
			s.nodeIPs[ip] = n.Name
		}
	}
	vips := make([]*cluster.VIP, 0, len(snap.VIPs))
	for _, v := range snap.VIPs {
		vips = append(vips, v)
	}
	slices.SortFunc(vips, func(x, y *cluster.VIP) int { return x.Address.Compare(y.Address) })
	for _, v := range vips {
		s.list = append(s.list, s.usageOf(v))
	}
	return s
}

// Of reports whether they are those of the Snapshot; those of nil are of none.
func (s *Uses) Of(snap *cluster.Snapshot) bool { return s != nil && s.snap == snap }

// usage is what a VIP is used for.
type usage struct {
	addr netip.Addr
	pool *cluster.Pool
	// services that have the VIP and an endpoint somewhere; with a reason, those that the VIP names.
	services []cluster.Name
	// local are those of services that have externalTrafficPolicy Local; all is true when one has not, so that any node
	// will do.
	local []cluster.Name
	all   bool
	// inUse is true when a Service has the address, with or without endpoints.
	inUse bool
	// reason why no node announces it.
	reason Reason
	// created is that of the VIP object.
	created time.Time
}

// usageOf finds the Services that a VIP may be announced for. One is enough; if there is none, the reason is that of the
// Service that came furthest.
func (s *Uses) usageOf(vip *cluster.VIP) usage {
	u := usage{addr: vip.Address, pool: s.snap.Pools[vip.Pool], services: vip.Services, created: vip.Created}
	node, isNode := s.nodeIPs[vip.Address]
	switch {
	case len(vip.Services) == 0:
		u.reason = because(Reserved, "no Service uses it")
	case isNode:
		u.reason = because(NodeAddress, "it is the InternalIP of node %s: take it out of IPPool %s", node, vip.Pool)
	case u.pool == nil:
		u.reason = because(PoolGone, "IPPool %s, which says how it is announced, does not exist any more", vip.Pool)
	}
	if u.reason.Code != "" {
		return u
	}

	serving := 0
	for _, name := range vip.Services {
		svc := s.snap.Services[name]
		rank, why := s.suffices(svc, name, vip.Address)
		if rank >= rankInUse {
			u.inUse = true
		}
		if rank == rankServing {
			serving++
			if svc.ExternalLocal {
				u.local = append(u.local, name)
			} else {
				u.all = true
			}
		}
		if rank > rankOf[u.reason.Code] || u.reason.Code == "" {
			u.reason = why
		}
	}
	if serving > 0 {
		u.reason = Reason{}
	}
	if 0 < serving && serving < len(vip.Services) {
		u.services = slices.DeleteFunc(slices.Clone(vip.Services), func(name cluster.Name) bool {
			rank, _ := s.suffices(s.snap.Services[name], name, vip.Address)
			return rank != rankServing
		})
	}
	return u
}

// Ranks of a Service on its way to being announced: what it takes for one reason to hide another.
const (
	rankInUse   = 4
	rankServing = 5
)

var rankOf = map[Code]int{ServiceNotFound: 1, NotLoadBalancer: 2, NotInStatus: 3, NoEndpoints: rankInUse} //nolint:gochecknoglobals // a constant

func (s *Uses) suffices(svc *cluster.Service, name cluster.Name, addr netip.Addr) (int, Reason) {
	var why Reason
	switch {
	case svc == nil:
		why = because(ServiceNotFound, "Service %s does not exist", name)
	case svc.Type != cluster.LoadBalancer:
		why = because(NotLoadBalancer, "Service %s is not of type LoadBalancer", name)
	case !s.snap.HasVIP(svc, addr):
		why = because(NotInStatus, "the status of Service %s does not have it", name)
	case !s.snap.HasEndpoint(name):
		// There may be ten thousand of these: no more is made than the text.
		why = Reason{NoEndpoints, "Service " + name.Namespace + "/" + name.Name + " has no ready endpoint"}
	default:
		return rankServing, Reason{}
	}
	return rankOf[why.Code], why
}
