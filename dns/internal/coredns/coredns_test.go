package coredns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/kubernetes"
	"github.com/coredns/coredns/plugin/kubernetes/object"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/dns/zone"
)

// TestAgainstCoreDNS asks CoreDNS' kubernetes plugin and our zone the same questions about random clusters. What is
// meant to differ is named by deviation.
func TestAgainstCoreDNS(t *testing.T) {
	names, reverse := coreDNSQuestions()
	cfg := zone.Config{Domain: "cluster.local", TTL: 5 * time.Second, ReverseCIDRs: []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("192.0.2.0/24"),
	}}
	for seed := range uint64(30) {
		snap := randomCluster(rand.New(rand.NewPCG(seed, 0)))
		theirs, ours := newCoreDNS(t, snap), zone.Build(cfg, snap, nil)
		compare := func(name string, typ uint16) {
			if deviation(snap, name, typ) {
				return
			}
			if got, want := askOurs(t, ours, name, typ), askCoreDNS(t, theirs, name, typ); got != want {
				t.Errorf("seed %d: %s %s:\n%s\nCoreDNS:\n%s", seed, name, dns.TypeToString[typ], got, want)
			}
		}
		for _, name := range names {
			for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeCNAME, dns.TypeMX, dns.TypeHTTPS} {
				compare(name, typ)
			}
		}
		compare("dns-version.cluster.local.", dns.TypeTXT)
		compare("cluster.local.", dns.TypeSOA)
		for _, name := range reverse {
			compare(name, dns.TypePTR)
		}
	}
}

// deviation reports where we follow the RFCs and the plugin does not.
func deviation(snap *cluster.Snapshot, name string, typ uint16) bool {
	labels := dns.SplitDomainName(strings.ToLower(name))
	left := max(0, len(labels)-3)
	address := typ == dns.TypeA || typ == dns.TypeAAAA
	switch {
	case strings.HasPrefix(labels[0], "_") && address:
		// An address at _port._protocol: it has SRV records only.
		return true
	case labels[0] == "_tcp":
		// NXDOMAIN although there are names below it: RFC 8020.
		return true
	case typ == dns.TypeSRV && (labels[left] == "pod" || left == 3):
		// SRV records of every endpoint's and pod's own name: the specification has none.
		return true
	case !address && typ != dns.TypeCNAME && left == 2:
		// No CNAME record for other types than addresses: RFC 1034, 3.6.2.
		svc := snap.Services[cluster.Name{Namespace: labels[1], Name: labels[0]}]
		return svc != nil && svc.Type == cluster.ExternalName
	}
	return false
}

func coreDNSQuestions() (names, reverse []string) {
	for _, ns := range []string{"a", "b", "empty", "none"} {
		names = append(names, ns+".svc.cluster.local.", ns+".pod.cluster.local.")
		for _, pod := range []string{"1-2-3-4", "fd00--1", "1-2-3", "w"} {
			names = append(names, pod+"."+ns+".pod.cluster.local.")
		}
		for _, svc := range []string{"w", "x", "y", "z", "none"} {
			base := svc + "." + ns + ".svc.cluster.local."
			names = append(names, base, strings.ToUpper(svc)+"."+ns+".svc.cluster.local.")
			for _, left := range []string{"h0", "h1", "10-0-0-1", "10-0-0-2", "fd00--0", "fd00--1", "_http._tcp", "_dns._udp", "_tcp", "a.b.c"} {
				names = append(names, left+"."+base)
			}
		}
	}
	names = append(names, "cluster.local.", "svc.cluster.local.", "pod.cluster.local.", "none.cluster.local.", "a.b.cluster.local.")
	for _, prefix := range []string{"10.0.0.", "10.0.1.", "192.0.2.", "fd00::", "fd00::1:"} {
		for i := range 5 {
			name, _ := dns.ReverseAddr(prefix + fmt.Sprint(i))
			reverse = append(reverse, name)
		}
	}
	return names, reverse
}

func randomCluster(r *rand.Rand) *cluster.Snapshot {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	s := cluster.NewSnapshot()
	for _, ns := range []string{"a", "b", "empty"} {
		s.AddNamespace(ns)
	}
	for i, name := range []string{"w", "x", "y", "z"} {
		svc := &cluster.Service{Name: cluster.Name{Namespace: pick("a", "b"), Name: name}}
		s.AddService(svc)
		kind := r.IntN(4)
		if kind == 0 {
			svc.Type, svc.ExternalName = cluster.ExternalName, pick("example.com", "192.0.2.1")
			continue
		}
		for _, port := range []string{"http", "dns"}[:1+r.IntN(2)] {
			svc.Ports = append(svc.Ports,
				cluster.ServicePort{Name: port, Protocol: cluster.TCP, Port: uint16(80 + r.IntN(2))},
				cluster.ServicePort{Name: port, Protocol: cluster.UDP, Port: 53})
		}
		if svc.Headless = kind == 1; !svc.Headless {
			svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00::1:%d", i))}[:1+r.IntN(2)]
		}
		for j := range r.IntN(3) {
			prefix := pick("10.0.0.", "192.0.2.", "fd00::")
			slice := &cluster.Slice{Name: fmt.Sprint(j), Service: svc.Name, Family: cluster.FamilyOf(netip.MustParseAddr(prefix + "0"))}
			for _, p := range []string{"http", "dns"}[:r.IntN(3)] {
				slice.Ports = append(slice.Ports, cluster.SlicePort{Name: p, Protocol: cluster.TCP, Port: uint16(1 + r.IntN(3))})
			}
			for range r.IntN(4) {
				slice.Endpoints = append(slice.Endpoints, cluster.Endpoint{
					Addr: netip.MustParseAddr(prefix + fmt.Sprint(r.IntN(4))), Hostname: pick("", "", "h0", "h1"), Ready: r.IntN(4) > 0,
				})
			}
			s.AddSlice(slice)
		}
	}
	return s.Seal()
}

// asText is what must be the same: the order of records, and SRV weights, need not be.
func asText(m *dns.Msg) string {
	var out []string
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if srv, ok := rr.(*dns.SRV); ok {
			srv.Weight = 0
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			// The plugin has one reverse zone for all addresses.
			out = append(out, "SOA")
			continue
		}
		out = append(out, rr.String())
	}
	slices.Sort(out)
	return strings.Join(append([]string{dns.RcodeToString[m.Rcode]}, slices.Compact(out)...), "\n")
}

// outside is what an upstream server says of the target of an ExternalName Service.
func outside(name string, typ uint16) []dns.RR {
	if typ != dns.TypeA {
		return nil
	}
	return []dns.RR{test.A(name + " 5 IN A 198.51.100.7")}
}

func askOurs(t *testing.T, z *zone.Zone, name string, typ uint16) string {
	msg, err := new(dns.Msg).SetQuestion(name, typ).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q, _ := zone.ParseQuery(msg)
	out, verdict := z.Answer(nil, &q, dns.MaxMsgSize, 0)
	if verdict == zone.Elsewhere {
		return "elsewhere"
	}
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatal(err)
	}
	if verdict == zone.Chase {
		m.Answer = append(m.Answer, outside(m.Answer[len(m.Answer)-1].(*dns.CNAME).Target, typ)...)
	}
	return asText(m)
}

func askCoreDNS(t *testing.T, k *kubernetes.Kubernetes, name string, typ uint16) string {
	w := nonwriter.New(&test.ResponseWriter{TCP: true})
	if _, err := k.ServeDNS(t.Context(), w, new(dns.Msg).SetQuestion(name, typ)); err != nil || w.Msg == nil {
		t.Fatalf("CoreDNS: %v", err)
	}
	return asText(w.Msg)
}

func newCoreDNS(t *testing.T, snap *cluster.Snapshot) *kubernetes.Kubernetes {
	t.Helper()
	c := caddy.NewTestController("dns", "kubernetes cluster.local in-addr.arpa ip6.arpa {\n pods insecure\n}")
	c.Next()
	k, err := kubernetes.ParseStanza(c)
	if err != nil {
		t.Fatal(err)
	}
	api := &coreDNSAPI{namespaces: snap.Namespaces}
	for _, svc := range snap.SortedServices() {
		api.add(t, svc, snap.Slices[svc.Name])
	}
	k.APIConn, k.Upstream = api, api
	return k
}

// coreDNSAPI gives the plugin a Snapshot in place of its informers.
type coreDNSAPI struct {
	services   []*object.Service
	endpoints  []*object.Endpoints
	namespaces map[string]struct{}
}

// add converts our values to API objects, and lets the plugin convert these to its own.
func (c *coreDNSAPI) add(t *testing.T, svc *cluster.Service, all []*cluster.Slice) {
	t.Helper()
	meta := metav1.ObjectMeta{Name: svc.Name.Name, Namespace: svc.Name.Namespace, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name.Name}}
	o := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	switch {
	case svc.Type == cluster.ExternalName:
		o.Spec.Type, o.Spec.ExternalName = corev1.ServiceTypeExternalName, svc.ExternalName
	case svc.Headless:
		o.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
	}
	for _, ip := range svc.ClusterIPs {
		o.Spec.ClusterIPs = append(o.Spec.ClusterIPs, ip.String())
	}
	for _, p := range svc.Ports {
		o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: int32(p.Port), Protocol: corev1.Protocol(p.Protocol.String())})
	}
	converted, err := object.ToService(o)
	if err != nil {
		t.Fatal(err)
	}
	c.services = append(c.services, converted.(*object.Service))
	for _, slice := range all {
		s := &discoveryv1.EndpointSlice{ObjectMeta: meta}
		for _, p := range slice.Ports {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: ptr.To(int32(p.Port)), Protocol: ptr.To(corev1.Protocol(p.Protocol.String()))})
		}
		for _, e := range slice.Endpoints {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{e.Addr.String()}, Hostname: &e.Hostname, Conditions: discoveryv1.EndpointConditions{Ready: &e.Ready},
			})
		}
		converted, err := object.EndpointSliceToEndpoints(s)
		if err != nil {
			t.Fatal(err)
		}
		c.endpoints = append(c.endpoints, converted.(*object.Endpoints))
	}
}

func filter[T any](list []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return !keep(v) })
}

func (c *coreDNSAPI) SvcIndex(key string) []*object.Service {
	return filter(c.services, func(s *object.Service) bool { return s.Index == key })
}

func (c *coreDNSAPI) SvcIndexReverse(ip string) []*object.Service {
	return filter(c.services, func(s *object.Service) bool { return slices.Contains(s.ClusterIPs, ip) })
}

func (c *coreDNSAPI) EpIndex(key string) []*object.Endpoints {
	return filter(c.endpoints, func(e *object.Endpoints) bool { return e.Index == key })
}

func (c *coreDNSAPI) EpIndexReverse(ip string) []*object.Endpoints {
	return filter(c.endpoints, func(e *object.Endpoints) bool { return slices.Contains(e.IndexIP, ip) })
}

func (c *coreDNSAPI) GetNamespaceByName(name string) (*object.Namespace, error) {
	if _, ok := c.namespaces[name]; !ok {
		return nil, errors.New("namespace not found")
	}
	return &object.Namespace{Name: name}, nil
}

func (c *coreDNSAPI) Lookup(_ context.Context, _ request.Request, name string, typ uint16) (*dns.Msg, error) {
	return &dns.Msg{Answer: outside(name, typ)}, nil
}

func (c *coreDNSAPI) ServiceList() []*object.Service                   { return c.services }
func (c *coreDNSAPI) EndpointsList() []*object.Endpoints               { return c.endpoints }
func (c *coreDNSAPI) HasSynced() bool                                  { return true }
func (c *coreDNSAPI) Modified(kubernetes.ModifiedMode) int64           { return 0 }
func (c *coreDNSAPI) Run()                                             {}
func (c *coreDNSAPI) Stop() error                                      { return nil }
func (c *coreDNSAPI) ServiceImportList() []*object.ServiceImport       { return nil }
func (c *coreDNSAPI) SvcExtIndexReverse(string) []*object.Service      { return nil }
func (c *coreDNSAPI) SvcImportIndex(string) []*object.ServiceImport    { return nil }
func (c *coreDNSAPI) McEpIndex(string) []*object.MultiClusterEndpoints { return nil }
func (c *coreDNSAPI) PodIndex(string) []*object.Pod                    { return nil }
func (c *coreDNSAPI) GetNodeByName(context.Context, string) (*corev1.Node, error) {
	return nil, errors.New("no nodes")
}
