package cluster

import (
	"cmp"
	"net/netip"
	"slices"
)

// Slice is an EndpointSlice of one IP family.
type Slice struct {
	// Name of the EndpointSlice; slices of a Service are ordered by it.
	Name    string
	Service Name
	Family  Family
	// Headless is the label service.kubernetes.io/headless: such a slice is for DNS and is never proxied.
	Headless  bool
	Ports     []SlicePort
	Endpoints []Endpoint
}

// SlicePort is a port of all endpoints of a Slice. A Service's port is found by name and protocol, never by number.
type SlicePort struct {
	Name     string
	Protocol Protocol
	// Port is the endpoints' own port (the target port).
	Port uint16
}

// Endpoint is one endpoint of a Slice. Unset conditions are resolved as the API defines: ready and serving are true,
// terminating is false.
type Endpoint struct {
	Addr netip.Addr
	// Hostname for DNS; empty for most.
	Hostname string
	// Node and Zone that the endpoint is on; empty where unknown.
	Node string
	Zone string

	Ready       bool
	Serving     bool
	Terminating bool

	// ForZones and ForNodes are the topology hints: who should use the endpoint.
	ForZones []string
	ForNodes []string
}

// Eligible are the endpoints of one Service port in one family, for traffic that arrives at one node. Both lists are
// sorted and without duplicates.
type Eligible struct {
	// Cluster for traffic under a Cluster policy.
	Cluster []netip.AddrPort
	// Local for traffic under a Local policy: on this node.
	Local []netip.AddrPort
	// Any is true when the Service has an endpoint anywhere that could serve. It tells a Service without endpoints
	// (reject: fail at once) from one without local endpoints (drop: another node may have them).
	Any bool
}

// EligibleEndpoints returns where traffic for a Service's port may go from the given node.
//
// The rules are those of kube-proxy 1.36 (pkg/proxy/topology.go): ready endpoints that match the topology hints; if
// there are none, endpoints that still serve while they terminate (KEP-1669), without regard to topology. Hints count
// only when every ready endpoint has them and one of them is meant for this node or zone (KEP-2433, KEP-4444); they
// never apply to Local.
func (s *Snapshot) EligibleEndpoints(svc *Service, port ServicePort, f Family, node *Node) Eligible {
	eps := s.portEndpoints(svc.Name, port, f)
	matches := hintedFor(eps, node)

	var ready, local, terminating, localTerminating []netip.AddrPort
	for _, ep := range eps {
		isLocal := ep.Node != "" && ep.Node == node.Name
		switch {
		case ep.Ready:
			if matches(ep.Endpoint) {
				ready = append(ready, ep.addr)
			}
			if isLocal {
				local = append(local, ep.addr)
			}
		case ep.Serving && ep.Terminating:
			terminating = append(terminating, ep.addr)
			if isLocal {
				localTerminating = append(localTerminating, ep.addr)
			}
		}
	}
	e := Eligible{Cluster: ready, Local: local}
	if len(e.Cluster) == 0 {
		e.Cluster = terminating
	}
	if len(e.Local) == 0 {
		e.Local = localTerminating
	}
	e.Any = len(e.Cluster) > 0
	return e
}

type portEndpoint struct {
	*Endpoint
	addr netip.AddrPort
}

// portEndpoints returns the endpoints of a Service port from all its slices, sorted. Where two slices hold the same
// address and port (a pod moves between slices), the one that is not terminating counts.
func (s *Snapshot) portEndpoints(svc Name, port ServicePort, f Family) []portEndpoint {
	var eps []portEndpoint
	for _, slice := range s.Slices[svc] {
		if slice.Family != f || slice.Headless {
			continue
		}
		for _, p := range slice.Ports {
			if !p.is(port) {
				continue
			}
			eps = slices.Grow(eps, len(slice.Endpoints))
			for i := range slice.Endpoints {
				ep := &slice.Endpoints[i]
				eps = append(eps, portEndpoint{ep, netip.AddrPortFrom(ep.Addr, p.Port)})
			}
		}
	}
	slices.SortStableFunc(eps, func(a, b portEndpoint) int {
		return cmp.Or(a.addr.Compare(b.addr), compareBool(a.Terminating, b.Terminating))
	})
	return slices.CompactFunc(eps, func(a, b portEndpoint) bool { return a.addr == b.addr })
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// hintedFor returns which endpoints the topology hints leave to this node: same node before same zone, and all of them
// as soon as one ready endpoint has no hint or none is meant for here.
func hintedFor(eps []portEndpoint, node *Node) func(*Endpoint) bool {
	forNode := func(e *Endpoint) bool { return slices.Contains(e.ForNodes, node.Name) }
	forZone := func(e *Endpoint) bool { return node.Zone != "" && slices.Contains(e.ForZones, node.Zone) }
	allNodes, allZones, anyNode, anyZone := true, true, false, false
	for _, e := range eps {
		if !e.Ready {
			continue
		}
		allNodes = allNodes && len(e.ForNodes) > 0
		allZones = allZones && len(e.ForZones) > 0
		anyNode = anyNode || forNode(e.Endpoint)
		anyZone = anyZone || forZone(e.Endpoint)
	}
	switch {
	case allNodes && anyNode:
		return forNode
	case allZones && anyZone:
		return forZone
	default:
		return func(*Endpoint) bool { return true }
	}
}

// HasLocalEndpoint reports whether traffic under a Local policy would find an endpoint on the node, in one of the
// Service's ports and one of the given families, without any in either: what decides whether the node may announce the
// VIPs of a Service with externalTrafficPolicy Local. A node whose endpoint terminates goes on announcing as long as it
// serves, as EligibleEndpoints has it: connections that are to end in peace would be cut off by routers that turn away.
func (s *Snapshot) HasLocalEndpoint(svc Name, node string, families ...Family) bool {
	return s.hasEndpoint(svc, families, func(e *Endpoint) bool { return e.Node != "" && e.Node == node })
}

// HasEndpoint reports whether traffic under a Cluster policy would find an endpoint anywhere, in one of the Service's ports
// and one of the given families, without any in either.
func (s *Snapshot) HasEndpoint(svc Name, families ...Family) bool {
	return s.hasEndpoint(svc, families, func(*Endpoint) bool { return true })
}

// hasEndpoint looks for an endpoint that EligibleEndpoints would have in one of its lists, without making them: one that is
// ready, or that serves while it terminates, which counts where none is ready.
func (s *Snapshot) hasEndpoint(name Name, families []Family, where func(*Endpoint) bool) bool {
	svc := s.Services[name]
	for _, slice := range s.Slices[name] {
		if slice.Headless || len(families) > 0 && !slices.Contains(families, slice.Family) || !svc.usesSlice(slice) {
			continue
		}
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; (e.Ready || e.Serving && e.Terminating) && where(e) {
				return true
			}
		}
	}
	return false
}

// usesSlice reports whether a slice has one of the Service's ports, or the Service has none to look for.
func (svc *Service) usesSlice(slice *Slice) bool {
	if svc == nil || len(svc.Ports) == 0 {
		return true
	}
	return slices.ContainsFunc(svc.Ports, func(port ServicePort) bool {
		return slices.ContainsFunc(slice.Ports, func(p SlicePort) bool { return p.is(port) })
	})
}

// is reports whether a Service's port leads to this one.
func (p SlicePort) is(port ServicePort) bool {
	return p.Name == port.Name && p.Protocol == port.Protocol && p.Port != 0
}

// ServingEndpoints returns every endpoint of a Service's port that still serves, ready or not, wherever it is: those
// whose established flows go on when new ones go elsewhere. The list is sorted and without duplicates.
func (s *Snapshot) ServingEndpoints(svc Name, port ServicePort, f Family) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ep := range s.portEndpoints(svc, port, f) {
		if ep.Ready || ep.Serving {
			out = append(out, ep.addr)
		}
	}
	return out
}
