package zone

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"

	"github.com/seamark-io/seamark/cluster"
)

// version of the DNS specification that is followed, and its record's TTL as CoreDNS has it.
const (
	version    = "1.1.0"
	versionTTL = 28800
)

// Build makes the Zone of a Snapshot. It takes over from prev, which may be nil, what did not change since: with
// thousands of Services and one change, most of the work. cfg must be valid, and the same as prev's.
//
// A nil Snapshot is one that was not read yet: its Zone answers SERVFAIL for the cluster's names, so that nobody takes
// them for absent.
func Build(cfg Config, snap *cluster.Snapshot, prev *Zone) *Zone {
	z := &Zone{cfg: cfg, serial: cfg.Serial, synced: snap != nil}
	z.apex, _ = parseDomain(cfg.Domain)
	z.labels = countLabels(z.apex)
	if prev != nil {
		z.serial = prev.serial + 1
	}
	z.soa = z.makeSOA()
	if snap == nil {
		return z
	}
	z.namespaces = make(map[string]struct{}, len(snap.Namespaces))
	for ns := range snap.Namespaces {
		z.namespaces[ns] = struct{}{}
	}
	z.addServices(snap, prev)
	z.addReverse()
	z.addFixed(snap.Services[cfg.Service])
	return z
}

func (z *Zone) addServices(snap *cluster.Snapshot, prev *Zone) {
	z.services = make(map[string]*service, len(snap.Services))
	var key []byte
	for name, svc := range snap.Services {
		z.namespaces[name.Namespace] = struct{}{}
		if !validLabel(name.Name) || !validLabel(name.Namespace) {
			continue
		}
		key = appendLabel(appendLabel(key[:0], name.Name), name.Namespace)
		var s *service
		if prev != nil {
			s = prev.services[string(key)]
		}
		if s == nil || s.source != svc || !slices.Equal(s.slices, snap.Slices[name]) {
			s = newService(z, string(key), svc, snap.Slices[name])
		}
		z.services[s.key] = s
		z.records += s.records
	}
}

// addReverse collects the PTR records of all Services. An address that is a cluster IP has that Service's name alone,
// as in CoreDNS; a pod has one name in each Service that it is an endpoint of. Services come in no order: of what
// several of them say of one address, the order is that of the records.
func (z *Zone) addReverse() {
	n := 0
	for _, s := range z.services {
		n += len(s.ptrs)
	}
	z.reverse = make(map[[16]byte][]byte, n)
	clusterIPs, shared := map[[16]byte][]byte{}, map[[16]byte][][]byte{}
	for _, s := range z.services {
		for _, p := range s.ptrs {
			addr := p.addr.As16()
			if p.clusterIP {
				if other, ok := clusterIPs[addr]; !ok || bytes.Compare(p.rr, other) < 0 {
					clusterIPs[addr] = p.rr
				}
				continue
			}
			if first, ok := z.reverse[addr]; !ok {
				z.reverse[addr] = p.rr
			} else if shared[addr] == nil {
				shared[addr] = [][]byte{first, p.rr}
			} else {
				shared[addr] = append(shared[addr], p.rr)
			}
		}
	}
	for addr, rrs := range shared {
		slices.SortFunc(rrs, bytes.Compare)
		z.reverse[addr] = slices.Concat(slices.CompactFunc(rrs, bytes.Equal)...)
	}
	maps.Copy(z.reverse, clusterIPs)
	z.records += len(z.reverse)
}

// addFixed adds the names that exist in every cluster.
func (z *Zone) addFixed(dns *cluster.Service) {
	var addrs []netip.Addr
	if dns != nil {
		addrs = dns.ClusterIPs
	}
	ns := &node{sets: addrSets(z.ttl(), addrs)}
	nsName := append([]byte("\x02ns\x03dns"), z.apex...)
	txt := append([]byte{byte(len(version))}, version...)
	z.fixed = map[string]*node{
		"": {sets: []rrset{
			{typ: typeSOA, rrs: z.soa},
			{typ: typeNS, rrs: appendRR(nil, typeNS, z.ttl(), nsName...), targets: []*node{ns}},
		}},
		svcLabel:          {},
		"\x03pod":         {},
		"\x03dns":         {},
		"\x02ns\x03dns":   ns,
		"\x0bdns-version": {sets: []rrset{{typ: typeTXT, rrs: appendRR(nil, typeTXT, versionTTL, txt...)}}},
	}
	z.records += 3 + len(addrs)
}

func countLabels(wire []byte) int {
	var n name
	n.set(wire)
	return n.labels
}

// addrSets returns the A and the AAAA records of the addresses, in their order and without duplicates.
func addrSets(ttl uint32, addrs []netip.Addr) []rrset {
	var a, aaaa []byte
	for i, addr := range addrs {
		switch {
		case slices.Contains(addrs[:i], addr):
		case addr.Is4():
			a = appendAddr(a, ttl, addr)
		default:
			aaaa = appendAddr(aaaa, ttl, addr)
		}
	}
	var sets []rrset
	if a != nil {
		sets = append(sets, rrset{typ: typeA, rrs: a})
	}
	if aaaa != nil {
		sets = append(sets, rrset{typ: typeAAAA, rrs: aaaa})
	}
	return sets
}
