package ruleset

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// claims finds frontends that several Services want. The API server keeps cluster IPs and node ports apart, but two
// Services that share a VIP may have the same port.
type claims map[frontendID]cluster.Name

type frontendID struct {
	addr     netip.Addr
	protocol cluster.Protocol
	port     uint16
}

func (fr *Frontend) id() frontendID { return frontendID{fr.Addr, fr.Protocol, fr.Port} }

// add notes the frontends of a Service. The Service whose name comes first keeps what several want.
func (c claims) add(name cluster.Name, svc *Service) {
	for i := range svc.Frontends {
		id := svc.Frontends[i].id()
		if other, ok := c[id]; !ok || name.Compare(other) < 0 {
			c[id] = name
		}
	}
}

// settle takes from Services the frontends that others keep.
func (c claims) settle(services map[cluster.Name]*Service) []Problem {
	var problems []Problem
	for name, svc := range services {
		lost := func(fr Frontend) bool { return c[fr.id()] != name }
		if !slices.ContainsFunc(svc.Frontends, lost) {
			continue
		}
		kept := *svc
		kept.Frontends = nil
		for _, fr := range svc.Frontends {
			if !lost(fr) {
				kept.Frontends = append(kept.Frontends, fr)
				continue
			}
			problems = append(problems, Problem{name, ReasonConflict, fmt.Sprintf("%s port %d of %s is served for %s: change the port of one of the two Services", fr.Protocol, fr.Port, fr.Addr, c[fr.id()])})
		}
		services[name] = &kept
	}
	return problems
}
