package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// endpoints reads "ADDRESS@NODE/HINT,HINT" with a mark in front: "~" terminates and serves, "-" terminates and does not
// serve, "!" is not ready. A hint is a zone "z…" or a node "n…".
func endpoints(list string) []Endpoint {
	var out []Endpoint
	for _, s := range strings.Fields(list) {
		ep := Endpoint{Ready: true, Serving: true}
		switch s[0] {
		case '~':
			s, ep.Ready, ep.Terminating = s[1:], false, true
		case '-':
			s, ep.Ready, ep.Serving, ep.Terminating = s[1:], false, false, true
		case '!':
			s, ep.Ready, ep.Serving = s[1:], false, false
		}
		s, hints, _ := strings.Cut(s, "/")
		addr, node, _ := strings.Cut(s, "@")
		ep.Addr, ep.Node = netip.MustParseAddr(addr), node
		for h := range strings.SplitSeq(hints, ",") {
			switch {
			case strings.HasPrefix(h, "z"):
				ep.ForZones = append(ep.ForZones, h)
			case h != "":
				ep.ForNodes = append(ep.ForNodes, h)
			}
		}
		out = append(out, ep)
	}
	return out
}

func addrs(list []netip.AddrPort) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.Addr().String()
	}
	return strings.Join(words, " ")
}

// TestEligibleEndpoints has the rules of kube-proxy's pkg/proxy/topology.go for node n1 in zone z1.
func TestEligibleEndpoints(t *testing.T) {
	for _, c := range []struct {
		name, endpoints     string
		cluster, local, all string
		serving             string
	}{
		{"none", "", "", "", "false", ""},
		{"ready", "10.0.0.2@n2 10.0.0.1@n1", "10.0.0.1 10.0.0.2", "10.0.0.1", "true", "10.0.0.1 10.0.0.2"},
		{"without node", "10.0.0.1", "10.0.0.1", "", "true", "10.0.0.1"},
		{"not ready", "!10.0.0.1@n1", "", "", "false", ""},
		{"terminating, beside a ready one", "~10.0.0.1@n1 10.0.0.2@n2", "10.0.0.2", "10.0.0.1", "true", "10.0.0.1 10.0.0.2"},
		{"ready here, terminating there", "10.0.0.1@n1 ~10.0.0.2@n2", "10.0.0.1", "10.0.0.1", "true", "10.0.0.1 10.0.0.2"},
		{"all terminating", "~10.0.0.1@n1 ~10.0.0.2@n2 -10.0.0.3@n1", "10.0.0.1 10.0.0.2", "10.0.0.1", "true", "10.0.0.1 10.0.0.2"},
		{"terminating and not serving", "-10.0.0.1@n1", "", "", "false", ""},
		{"twice the same", "10.0.0.1@n1 10.0.0.1@n1", "10.0.0.1", "10.0.0.1", "true", "10.0.0.1"},
		{"twice the same, once terminating", "~10.0.0.1@n1 10.0.0.1@n1", "10.0.0.1", "10.0.0.1", "true", "10.0.0.1"},

		{"zone hints", "10.0.0.1@n2/z1 10.0.0.2@n1/z2 10.0.0.3@n3/z1,z2", "10.0.0.1 10.0.0.3", "10.0.0.2", "true", "10.0.0.1 10.0.0.2 10.0.0.3"},
		{"zone hints, one without", "10.0.0.1@n2/z1 10.0.0.2@n2", "10.0.0.1 10.0.0.2", "", "true", "10.0.0.1 10.0.0.2"},
		{"zone hints, none for here", "10.0.0.1@n2/z2 10.0.0.2@n2/z3", "10.0.0.1 10.0.0.2", "", "true", "10.0.0.1 10.0.0.2"},
		{"zone hints, an unready one without", "10.0.0.1@n2/z1 10.0.0.2@n2/z2 !10.0.0.3@n2", "10.0.0.1", "", "true", "10.0.0.1 10.0.0.2"},
		{"node hints before zone hints", "10.0.0.1@n1/z1,n1 10.0.0.2@n2/z1,n2", "10.0.0.1", "10.0.0.1", "true", "10.0.0.1 10.0.0.2"},
		{"node hints, none for here", "10.0.0.1@n3/z1,n3 10.0.0.2@n2/z2,n2", "10.0.0.1", "", "true", "10.0.0.1 10.0.0.2"},
		{"hints do not count for terminating ones", "~10.0.0.1@n2/z2 ~10.0.0.2@n2/z1", "10.0.0.1 10.0.0.2", "", "true", "10.0.0.1 10.0.0.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := Name{"default", "web"}
			port := ServicePort{Name: "http", Protocol: TCP, Port: 80}
			eps := endpoints(c.endpoints)
			// Split over two slices: it must not matter.
			slice := func(eps []Endpoint) *Slice {
				return &Slice{Service: name, Family: IPv4, Ports: []SlicePort{{"http", TCP, 8080}}, Endpoints: eps}
			}
			snap := &Snapshot{Slices: map[Name][]*Slice{name: {slice(eps[:len(eps)/2]), slice(eps[len(eps)/2:])}}}
			got := snap.EligibleEndpoints(&Service{Name: name}, port, IPv4, &Node{Name: "n1", Zone: "z1"})
			if addrs(got.Cluster) != c.cluster || addrs(got.Local) != c.local || fmt.Sprint(got.Any) != c.all {
				t.Errorf("got cluster %q, local %q, any %v; want %q, %q, %s", addrs(got.Cluster), addrs(got.Local), got.Any, c.cluster, c.local, c.all)
			}
			if s := addrs(snap.ServingEndpoints(name, port, IPv4)); s != c.serving {
				t.Errorf("serving: got %q, want %q", s, c.serving)
			}
		})
	}
}

// TestEndpointPorts: a Service's port is found by its name and protocol, in every slice of its family.
func TestEndpointPorts(t *testing.T) {
	name := Name{"default", "web"}
	snap := &Snapshot{Slices: map[Name][]*Slice{name: {
		{Family: IPv4, Ports: []SlicePort{{"http", TCP, 8080}, {"http", UDP, 9090}, {"zero", TCP, 0}}, Endpoints: endpoints("10.0.0.1")},
		{Family: IPv4, Ports: []SlicePort{{"http", TCP, 8081}}, Endpoints: endpoints("10.0.0.1 10.0.0.2")},
		{Family: IPv6, Ports: []SlicePort{{"http", TCP, 8080}}, Endpoints: endpoints("fd00::1")},
		{Family: IPv4, Headless: true, Ports: []SlicePort{{"http", TCP, 8080}}, Endpoints: endpoints("10.0.0.9")},
	}}}
	for _, c := range []struct {
		port   ServicePort
		family Family
		want   string
	}{
		{ServicePort{Name: "http", Protocol: TCP}, IPv4, "[10.0.0.1:8080 10.0.0.1:8081 10.0.0.2:8081]"},
		{ServicePort{Name: "http", Protocol: UDP}, IPv4, "[10.0.0.1:9090]"},
		{ServicePort{Name: "http", Protocol: TCP}, IPv6, "[[fd00::1]:8080]"},
		{ServicePort{Name: "http", Protocol: SCTP}, IPv4, "[]"},
		{ServicePort{Name: "zero", Protocol: TCP}, IPv4, "[]"},
		{ServicePort{Name: "", Protocol: TCP}, IPv4, "[]"},
	} {
		got := snap.EligibleEndpoints(&Service{Name: name}, c.port, c.family, &Node{Name: "n1"})
		if s := fmt.Sprint(got.Cluster); s != c.want {
			t.Errorf("port %q %s %s: got %s, want %s", c.port.Name, c.port.Protocol, c.family, s, c.want)
		}
	}
}

func TestHasEndpoint(t *testing.T) {
	name := Name{"default", "web"}
	http := SlicePort{Name: "http", Protocol: TCP, Port: 8080}
	for _, c := range []struct {
		what      string
		endpoints string
		change    func(*Slice)
		has, here bool
	}{
		{"none", "", nil, false, false},
		{"here", "10.0.0.1@n1", nil, true, true},
		{"elsewhere", "10.0.0.1@n2", nil, true, false},
		{"nowhere", "10.0.0.1", nil, true, false},
		{"not ready", "!10.0.0.1@n1", nil, false, false},
		{"terminates and serves", "~10.0.0.1@n1", nil, true, true},
		{"terminates and serves here, ready elsewhere", "~10.0.0.1@n1 10.0.0.2@n2", nil, true, true},
		{"terminates", "-10.0.0.1@n1", nil, false, false},
		{"for DNS only", "10.0.0.1@n1", func(s *Slice) { s.Headless = true }, false, false},
		{"other port", "10.0.0.1@n1", func(s *Slice) { s.Ports[0].Name = "metrics" }, false, false},
		{"other protocol", "10.0.0.1@n1", func(s *Slice) { s.Ports[0].Protocol = UDP }, false, false},
		{"no port number", "10.0.0.1@n1", func(s *Slice) { s.Ports[0].Port = 0 }, false, false},
		{"one of two ports", "10.0.0.1@n1", func(s *Slice) { s.Ports = append(s.Ports, SlicePort{Name: "metrics", Protocol: TCP, Port: 1}) }, true, true},
	} {
		slice := &Slice{Family: IPv4, Ports: []SlicePort{http}, Endpoints: endpoints(c.endpoints)}
		if c.change != nil {
			c.change(slice)
		}
		svc := &Service{Name: name, Ports: []ServicePort{{Name: "http", Protocol: TCP, Port: 80}}}
		snap := &Snapshot{Services: map[Name]*Service{name: svc}, Slices: map[Name][]*Slice{name: {slice}}}
		for _, families := range [][]Family{nil, {IPv4}, {IPv4, IPv6}} {
			if has, here := snap.HasEndpoint(name, families...), snap.HasLocalEndpoint(name, "n1", families...); has != c.has || here != c.here {
				t.Errorf("%s, %v: has %v, here %v; want %v, %v", c.what, families, has, here, c.has, c.here)
			}
		}
		if snap.HasEndpoint(name, IPv6) || snap.HasLocalEndpoint(name, "n1", IPv6) {
			t.Errorf("%s: an IPv4 endpoint is found for IPv6", c.what)
		}
		if snap.HasLocalEndpoint(name, "") {
			t.Errorf("%s: an endpoint without a node is local to nobody", c.what)
		}
		// What the proxy serves and what the speaker announces are the same.
		eps := snap.EligibleEndpoints(svc, svc.Ports[0], IPv4, &Node{Name: "n1"})
		if eps.Any != c.has || (len(eps.Local) > 0) != c.here {
			t.Errorf("%s: EligibleEndpoints says %+v", c.what, eps)
		}
	}
}

func TestVIPsOf(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	svc := &Service{Name: Name{"default", "web"}, Type: LoadBalancer, IngressIPs: []netip.Addr{b, a, b}}
	mine, others := &VIP{Services: []Name{{"x", "y"}, svc.Name}}, &VIP{Services: []Name{{"x", "y"}}}
	for name, c := range map[string]struct {
		vips map[netip.Addr]*VIP
		kind ServiceType
		want []netip.Addr
	}{
		"both":              {map[netip.Addr]*VIP{a: mine, b: mine}, LoadBalancer, []netip.Addr{a, b}},
		"one is another's":  {map[netip.Addr]*VIP{a: others, b: mine}, LoadBalancer, []netip.Addr{b}},
		"no VIP object":     {nil, LoadBalancer, nil},
		"no longer of type": {map[netip.Addr]*VIP{a: mine}, NodePort, nil},
	} {
		s := *svc
		s.Type = c.kind
		if got := (&Snapshot{VIPs: c.vips}).VIPsOf(&s); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
