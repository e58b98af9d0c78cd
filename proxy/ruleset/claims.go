package ruleset

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// claims finds cluster IPs and frontends that several Services want. The API server keeps cluster IPs and node ports
// apart, but two Services that share a VIP may have the same port. The Service whose name comes first gets it.
type claims struct {
	// names of those who want the same, sorted.
	names map[frontendID][]cluster.Name
	// contested are those that more than one wants.
	contested map[frontendID]struct{}
}

// frontendID names a frontend, or a cluster IP as such if all but the address is zero.
type frontendID struct {
	addr     netip.Addr
	protocol cluster.Protocol
	port     uint16
}

func (fr *Frontend) id() frontendID { return frontendID{fr.Addr, fr.Protocol, fr.Port} }

// ids calls f for all that a Service wants.
func (s *Service) ids(f func(frontendID)) {
	if s.ClusterIP.IsValid() {
		f(frontendID{addr: s.ClusterIP})
	}
	for i := range s.Frontends {
		f(s.Frontends[i].id())
	}
}

func newClaims() claims {
	return claims{map[frontendID][]cluster.Name{}, map[frontendID]struct{}{}}
}

func (c claims) add(name cluster.Name, svc *Service) {
	svc.ids(func(id frontendID) {
		names := c.names[id]
		if i, found := slices.BinarySearchFunc(names, name, cluster.Name.Compare); !found {
			names = slices.Insert(names, i, name)
			c.names[id] = names
		}
		if len(names) > 1 {
			c.contested[id] = struct{}{}
		}
	})
}

func (c claims) remove(name cluster.Name, svc *Service) {
	svc.ids(func(id frontendID) {
		names := c.names[id]
		if i, found := slices.BinarySearchFunc(names, name, cluster.Name.Compare); found {
			names = slices.Delete(names, i, i+1)
			c.names[id] = names
		}
		if len(names) < 2 {
			delete(c.contested, id)
		}
		if len(names) == 0 {
			delete(c.names, id)
		}
	})
}

// losers returns what each Service wants in vain.
func (c claims) losers() map[cluster.Name][]frontendID {
	var out map[cluster.Name][]frontendID
	for id := range c.contested {
		for _, name := range c.names[id][1:] {
			if out == nil {
				out = map[cluster.Name][]frontendID{}
			}
			out[name] = append(out[name], id)
		}
	}
	return out
}

// without returns the Service without what it wants in vain.
func (c claims) without(name cluster.Name, svc *Service, lost []frontendID) (*Service, []Problem) {
	kept := *svc
	kept.Frontends = slices.DeleteFunc(slices.Clone(svc.Frontends), func(fr Frontend) bool {
		return slices.Contains(lost, fr.id())
	})
	var problems []Problem
	for _, id := range lost {
		winner := c.names[id][0]
		message := fmt.Sprintf("%s port %d of %s is served for %s: change the port of one of the two Services", id.protocol, id.port, id.addr, winner)
		if id == (frontendID{addr: svc.ClusterIP}) {
			kept.ClusterIP = netip.Addr{}
			message = fmt.Sprintf("the cluster IP %s belongs to %s as well: delete this Service and create it anew", id.addr, winner)
		}
		problems = append(problems, Problem{name, ReasonConflict, message})
	}
	return &kept, problems
}
