package zone

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/seamark-io/seamark/cluster"
)

// service is what a Zone knows of one Service. It is immutable, and lives on in later Zones as long as the Service and
// its slices are the same.
type service struct {
	// key is "name.namespace" in wire form.
	key    string
	source *cluster.Service
	slices []*cluster.Slice

	// nodes by the labels left of the Service's name, in wire form: "" is the Service itself. None if the Service has
	// no records.
	nodes   map[string]*node
	ptrs    []ptr
	records int
}

type ptr struct {
	addr      netip.Addr
	clusterIP bool
	rr        []byte
}

// endpoint is a ready endpoint of a Service, with the ports of its slice.
type endpoint struct {
	addr netip.Addr
	// label is the endpoint's own label, and name its whole name, in wire form.
	label string
	name  []byte
	ports []cluster.SlicePort
}

func newService(z *Zone, key string, svc *cluster.Service, all []*cluster.Slice) *service {
	s := &service{key: key, source: svc, slices: all}
	b := serviceBuilder{service: s, ttl: z.ttl()}
	b.name = slices.Concat([]byte(key), []byte(svcLabel), z.apex)
	if len(b.name) > maxName {
		return s
	}
	switch {
	case svc.Type == cluster.ExternalName:
		b.externalName(svc.ExternalName)
	case svc.Headless:
		b.headless(b.ready(all))
	case len(svc.ClusterIPs) > 0:
		b.clusterIP(svc, b.ready(all))
	}
	return s
}

// serviceBuilder builds a service.
type serviceBuilder struct {
	*service
	ttl uint32
	// name is the Service's name in wire form.
	name []byte
}

// ready returns the endpoints that have names: those with the condition ready, which endpoints of a Service with
// publishNotReadyAddresses always have. That a slice is excluded from proxying does not matter here.
func (b *serviceBuilder) ready(all []*cluster.Slice) []endpoint {
	var out []endpoint
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			if !e.Ready || !e.Addr.IsValid() {
				continue
			}
			host := e.Hostname
			if !validLabel(host) {
				host = dashed(e.Addr)
			}
			name := appendLabel(make([]byte, 0, 1+len(host)+len(b.name)), host)
			if label := len(name); label+len(b.name) <= maxName {
				out = append(out, endpoint{e.Addr, string(name), append(name, b.name...), slice.Ports})
			}
		}
	}
	return out
}

// dashed returns an address as a label: 1-2-3-4, or fd00--1. A label must not end in '-' (RFC 1123, 2.1), so fd00:: is
// fd00--0, as in CoreDNS.
func dashed(a netip.Addr) string {
	s := a.AppendTo(make([]byte, 0, 48))
	for i, c := range s {
		if c == '.' || c == ':' {
			s[i] = '-'
		}
	}
	if s[len(s)-1] == '-' {
		s = append(s, '0')
	}
	return string(s)
}

func (b *serviceBuilder) externalName(target string) {
	wire, err := parseDomain(target)
	if _, notName := netip.ParseAddr(target); err != nil || notName == nil {
		// CNAME cannot point to an address. CoreDNS has no such name either.
		return
	}
	b.nodes = map[string]*node{"": {sets: []rrset{{typ: typeCNAME, rrs: appendRR(nil, typeCNAME, b.ttl, wire...)}}}}
	b.records = 1
}

func (b *serviceBuilder) clusterIP(svc *cluster.Service, eps []endpoint) {
	self := &node{sets: addrSets(b.ttl, svc.ClusterIPs)}
	b.nodes = map[string]*node{"": self}
	b.records = len(svc.ClusterIPs)
	for _, ip := range svc.ClusterIPs {
		b.addPTR(ip, b.name, true)
	}
	b.addHosts(eps)
	all := srvSet{}
	named := map[string]*srvSet{}
	for _, p := range svc.Ports {
		all.add(p.Port, b.name, self)
		addNamed(named, p.Name, p.Protocol, p.Port, b.name, self)
	}
	b.addSRV(all, named)
}

func (b *serviceBuilder) headless(eps []endpoint) {
	if len(eps) == 0 {
		return
	}
	addrs := make([]netip.Addr, len(eps))
	for i, e := range eps {
		addrs[i] = e.addr
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	b.nodes = map[string]*node{"": {sets: addrSets(b.ttl, addrs)}}
	b.records = len(addrs)
	b.addHosts(eps)
	all := srvSet{}
	named := map[string]*srvSet{}
	for _, e := range eps {
		for _, p := range e.ports {
			if p.Port != 0 {
				all.add(p.Port, e.name, b.nodes[e.label])
				addNamed(named, p.Name, p.Protocol, p.Port, e.name, b.nodes[e.label])
			}
		}
	}
	b.addSRV(all, named)
}

// addHosts adds the endpoints' own names, and the names of their addresses.
func (b *serviceBuilder) addHosts(eps []endpoint) {
	// Endpoints of one name stand together, in the order of their addresses.
	eps = slices.SortedFunc(slices.Values(eps), func(a, b endpoint) int {
		return cmp.Or(strings.Compare(a.label, b.label), a.addr.Compare(b.addr))
	})
	var addrs []netip.Addr
	for i, e := range eps {
		addrs = append(addrs, e.addr)
		if i > 0 && eps[i-1].label == e.label && eps[i-1].addr == e.addr {
			addrs = addrs[:len(addrs)-1]
		} else {
			b.addPTR(e.addr, e.name, false)
		}
		if i == len(eps)-1 || eps[i+1].label != e.label {
			b.nodes[e.label] = &node{sets: addrSets(b.ttl, addrs)}
			b.records += len(addrs)
			addrs = addrs[:0]
		}
	}
}

func (b *serviceBuilder) addPTR(addr netip.Addr, target []byte, clusterIP bool) {
	b.ptrs = append(b.ptrs, ptr{addr, clusterIP, appendRR(nil, typePTR, b.ttl, target...)})
}

// addSRV adds the SRV records of all ports at the Service's name, which CoreDNS has as well, and those of each named
// port at _port._protocol.
func (b *serviceBuilder) addSRV(all srvSet, named map[string]*srvSet) {
	if set, ok := all.rrset(b.ttl); ok {
		b.nodes[""].sets = append(b.nodes[""].sets, set)
		b.records += len(set.targets)
	}
	for key, s := range named {
		if len(key)+len(b.name) > maxName {
			continue
		}
		set, _ := s.rrset(b.ttl)
		b.records += len(set.targets)
		b.nodes[key] = &node{sets: []rrset{set}}
		if proto := key[1+key[0]:]; b.nodes[proto] == nil {
			b.nodes[proto] = &node{}
		}
	}
}

// srvSet collects SRV records.
type srvSet struct{ entries []srvEntry }

type srvEntry struct {
	port   uint16
	name   []byte
	target *node
}

func (s *srvSet) add(port uint16, name []byte, target *node) {
	s.entries = append(s.entries, srvEntry{port, name, target})
}

func addNamed(named map[string]*srvSet, port string, proto cluster.Protocol, number uint16, name []byte, target *node) {
	if port == "" || !validLabel("_"+port) {
		return
	}
	key := string(appendLabel(appendLabel(nil, "_"+port), "_"+proto.String()))
	if named[key] == nil {
		named[key] = &srvSet{}
	}
	named[key].add(number, name, target)
}

// rrset makes the records, ordered by target and port, of equal priority and weight (RFC 2782).
func (s *srvSet) rrset(ttl uint32) (set rrset, ok bool) {
	compare := func(a, b srvEntry) int {
		if c := slices.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(a.port) - int(b.port)
	}
	slices.SortFunc(s.entries, compare)
	entries := slices.CompactFunc(s.entries, func(a, b srvEntry) bool { return compare(a, b) == 0 })
	if len(entries) == 0 {
		return rrset{}, false
	}
	weight := uint16(max(1, 100/len(entries)))
	set = rrset{typ: typeSRV, targets: make([]*node, 0, len(entries))}
	for _, e := range entries {
		data := make([]byte, 4, 6+len(e.name))
		binary.BigEndian.PutUint16(data[2:], weight)
		data = append(binary.BigEndian.AppendUint16(data, e.port), e.name...)
		set.rrs = appendRR(set.rrs, typeSRV, ttl, data...)
		set.targets = append(set.targets, e.target)
	}
	return set, true
}
