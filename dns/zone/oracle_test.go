package zone

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/seamark-io/seamark/cluster"
)

// oracle is a slow zone: all records as text, written down from the specification, and the lookup of RFC 1034, 4.3.2.
type oracle struct {
	records map[string]map[uint16][]string
	exists  map[string]bool
}

func newOracle(s *cluster.Snapshot) *oracle {
	o := &oracle{map[string]map[uint16][]string{}, map[string]bool{}}
	o.add("dns-version.cluster.local.", dns.TypeTXT, `"1.1.0"`)
	o.exist("pod.cluster.local.")
	o.exist("svc.cluster.local.")
	o.exist("dns.cluster.local.")
	o.exist("ns.dns.cluster.local.")
	for ns := range s.Namespaces {
		o.exist(ns + ".svc.cluster.local.")
		o.exist(ns + ".pod.cluster.local.")
		for _, a := range podAddrs {
			o.addAddr(dashed(a)+"."+ns+".pod.cluster.local.", a)
		}
	}
	for name, svc := range s.Services {
		o.addService(fmt.Sprintf("%s.%s.svc.cluster.local.", name.Name, name.Namespace), svc, s.Slices[name])
	}
	// A cluster IP has one name, whatever endpoints have it as well.
	for _, svc := range slices.Backward(s.SortedServices()) {
		for _, ip := range svc.ClusterIPs {
			o.records[reverseName(ip)][dns.TypePTR] = []string{fmt.Sprintf("%s.%s.svc.cluster.local.", svc.Name.Name, svc.Name.Namespace)}
		}
	}
	return o
}

func (o *oracle) addService(fqdn string, svc *cluster.Service, all []*cluster.Slice) {
	if svc.Type == cluster.ExternalName {
		if _, err := netip.ParseAddr(svc.ExternalName); err != nil {
			o.add(fqdn, dns.TypeCNAME, dns.Fqdn(svc.ExternalName))
		}
		return
	}
	for _, ip := range svc.ClusterIPs {
		o.addAddr(fqdn, ip)
		o.add(reverseName(ip), dns.TypePTR, fqdn)
		for _, p := range svc.Ports {
			o.addSRV(fqdn, p.Name, p.Protocol, p.Port, fqdn)
		}
	}
	for _, slice := range all {
		for _, e := range slice.Endpoints {
			if !e.Ready {
				continue
			}
			host := e.Hostname
			if host == "" {
				host = dashed(e.Addr)
			}
			host += "." + fqdn
			o.addAddr(host, e.Addr)
			o.add(reverseName(e.Addr), dns.TypePTR, host)
			if !svc.Headless {
				continue
			}
			o.addAddr(fqdn, e.Addr)
			for _, p := range slice.Ports {
				o.addSRV(fqdn, p.Name, p.Protocol, p.Port, host)
			}
		}
	}
}

func (o *oracle) exist(name string) {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		o.exists[name[off:]] = true
	}
}

func (o *oracle) add(name string, typ uint16, data string) {
	o.exist(name)
	if o.records[name] == nil {
		o.records[name] = map[uint16][]string{}
	}
	if !slices.Contains(o.records[name][typ], data) {
		o.records[name][typ] = append(o.records[name][typ], data)
	}
}

func (o *oracle) addAddr(name string, a netip.Addr) {
	if a.Is4() {
		o.add(name, dns.TypeA, a.String())
	} else {
		o.add(name, dns.TypeAAAA, a.String())
	}
}

func (o *oracle) addSRV(fqdn, port string, proto cluster.Protocol, number uint16, target string) {
	data := fmt.Sprintf("%d %s", number, target)
	o.add(fqdn, dns.TypeSRV, data)
	if port != "" {
		o.add(fmt.Sprintf("_%s._%s.%s", port, strings.ToLower(proto.String()), fqdn), dns.TypeSRV, data)
	}
}

// ask returns the result as text: the response code or the verdict, and the records without TTL, sorted.
func (o *oracle) ask(name string, typ uint16) string {
	var out []string
	name = strings.ToLower(name)
	for range maxChain {
		if !strings.HasSuffix(name, ".cluster.local.") {
			return strings.Join(append(sorted(out), "CHASE"), "\n")
		}
		if rrs := o.records[name][typ]; rrs != nil {
			for _, data := range rrs {
				out = append(out, fmt.Sprintf("%s %s %s", name, dns.TypeToString[typ], data))
			}
			return strings.Join(append(sorted(out), "NOERROR"), "\n")
		}
		if alias := o.records[name][dns.TypeCNAME]; alias != nil {
			out = append(out, fmt.Sprintf("%s CNAME %s", name, alias[0]))
			name = alias[0]
			continue
		}
		if !o.exists[name] {
			return strings.Join(append(sorted(out), "NXDOMAIN"), "\n")
		}
		return strings.Join(append(sorted(out), "NOERROR"), "\n")
	}
	return strings.Join(append(sorted(out), "SERVFAIL"), "\n")
}

// askZone returns the same for a Zone.
func askZone(t *testing.T, z *Zone, name string, typ uint16) string {
	reply, verdict := ask(t, z, new(dns.Msg).SetQuestion(name, typ), maxMessage)
	if verdict == Elsewhere {
		return "ELSEWHERE"
	}
	var out []string
	for _, rr := range reply.Answer {
		f := strings.SplitN(rr.String(), "\t", 5)
		if rr.Header().Rrtype == dns.TypeSRV {
			_, f[4], _ = strings.Cut(f[4], " ")
			_, f[4], _ = strings.Cut(f[4], " ")
		}
		out = append(out, strings.ToLower(f[0])+" "+f[3]+" "+f[4])
	}
	rcode := dns.RcodeToString[reply.Rcode]
	if verdict == Chase {
		rcode = "CHASE"
	}
	if negative := len(reply.Ns) == 1; negative != (rcode == "NXDOMAIN" || rcode == "NOERROR" && !hasType(reply.Answer, typ)) {
		t.Errorf("%s %s: authority %v with %s", name, dns.TypeToString[typ], reply.Ns, rcode)
	}
	return strings.Join(append(sorted(out), rcode), "\n")
}

func hasType(rrs []dns.RR, typ uint16) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype == typ })
}

func reverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		panic(err)
	}
	return name
}

var podAddrs = addrs("10.0.0.1", "fd00::1", "192.0.2.1")

// randomSnapshot makes few names and addresses collide in every way that the API allows.
func randomSnapshot(r *rand.Rand) *cluster.Snapshot {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	s := cluster.NewSnapshot()
	s.AddNamespace("a")
	s.AddNamespace("empty")
	for i, name := range []string{"w", "x", "y", "z"} {
		svc := &cluster.Service{Name: cluster.Name{Namespace: pick("a", "b"), Name: name}}
		for _, port := range []string{"", "http", "dns"}[:r.IntN(4)] {
			svc.Ports = append(svc.Ports, cluster.ServicePort{Name: port, Protocol: cluster.TCP, Port: uint16(80 + r.IntN(2))})
			svc.Ports = append(svc.Ports, cluster.ServicePort{Name: port, Protocol: cluster.UDP, Port: 53})
		}
		switch r.IntN(4) {
		case 0:
			svc.Type = cluster.ExternalName
			svc.ExternalName = pick("example.com", "192.0.2.1", "w.a.svc.cluster.local", "x.b.svc.cluster.local.", "h0.y.a.svc.cluster.local", "nope.cluster.local")
		case 1:
			svc.Headless = true
		default:
			svc.ClusterIPs = addrs(fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("fd00::1:%d", i))[:1+r.IntN(2)]
		}
		s.AddService(svc)
		for j := range r.IntN(3) {
			slice := &cluster.Slice{Name: fmt.Sprint(j), Service: svc.Name, Family: cluster.IPv4, Headless: r.IntN(2) == 0}
			prefix := pick("10.0.0.", "192.0.2.", "fd00::")
			for _, p := range []string{"", "http", "dns"}[:r.IntN(4)] {
				slice.Ports = append(slice.Ports, cluster.SlicePort{Name: p, Protocol: cluster.TCP, Port: uint16(1 + r.IntN(3))})
			}
			for range r.IntN(4) {
				e := cluster.Endpoint{Addr: netip.MustParseAddr(prefix + fmt.Sprint(r.IntN(4))), Hostname: pick("", "", "h0", "h1"), Ready: r.IntN(4) > 0}
				slice.Endpoints = append(slice.Endpoints, e)
			}
			slice.Family = cluster.FamilyOf(netip.MustParseAddr(prefix + "0"))
			s.AddSlice(slice)
		}
	}
	for name := range s.Services {
		s.AddNamespace(name.Namespace)
	}
	return s.Seal()
}

// questions are all names of the oracle, their parents, and neighbours that do not exist.
func (o *oracle) questions() []string {
	var out []string
	for name := range o.exists {
		if strings.HasSuffix(name, ".cluster.local.") {
			out = append(out, name, "nope."+name, "_tcp."+name, "_http._tcp."+name, strings.ToUpper(name))
		}
	}
	slices.Sort(out)
	return out
}

func TestAgainstOracle(t *testing.T) {
	cfg := testConfig
	cfg.ReverseCIDRs = prefixes("10.0.0.0/23", "fd00::/64")
	var prev *Zone
	for seed := range uint64(60) {
		snap := randomSnapshot(rand.New(rand.NewPCG(seed, 1)))
		if prev != nil && seed%2 == 0 {
			// Most of the last Zone can be taken over.
			next := randomSnapshot(rand.New(rand.NewPCG(seed-1, 1)))
			for name := range next.Services {
				snap.Services[name], snap.Slices[name] = next.Services[name], next.Slices[name]
				break
			}
			for name := range snap.Services {
				snap.AddNamespace(name.Namespace)
			}
		}
		full, o := Build(cfg, snap, nil), newOracle(snap)
		prev = Build(cfg, snap, prev)
		for _, z := range []*Zone{full, prev} {
			for _, name := range o.questions() {
				for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeCNAME, dns.TypeTXT} {
					if got, want := askZone(t, z, name, typ), o.ask(name, typ); got != want {
						t.Fatalf("seed %d: %s %s:\n%s\nwant\n%s", seed, name, dns.TypeToString[typ], got, want)
					}
				}
			}
			for _, prefix := range []string{"10.0.0.", "10.0.1.", "192.0.2.", "fd00::", "fd00::1:"} {
				for i := range 6 {
					addr := netip.MustParseAddr(prefix + fmt.Sprint(i))
					name := reverseName(addr)
					want := "NXDOMAIN"
					if ptrs := o.records[name][dns.TypePTR]; ptrs != nil {
						want = name + " PTR " + strings.Join(sorted(ptrs), "\n"+name+" PTR ") + "\nNOERROR"
					} else if prefix == "192.0.2." {
						want = "ELSEWHERE"
					}
					if got := askZone(t, z, name, dns.TypePTR); got != want {
						t.Fatalf("seed %d: %s:\n%s\nwant\n%s", seed, addr, got, want)
					}
				}
			}
		}
	}
}
