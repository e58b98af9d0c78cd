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
	for _, c := range []struct {
		endpoints string
		headless  bool
		has, here bool
	}{
		{"", false, false, false},
		{"10.0.0.1@n1", false, true, true},
		{"10.0.0.1@n2", false, true, false},
		{"10.0.0.1", false, true, false},
		{"!10.0.0.1@n1", false, false, false},
		{"~10.0.0.1@n1", false, true, false},
		{"-10.0.0.1@n1", false, false, false},
		{"10.0.0.1@n1", true, false, false},
	} {
		snap := &Snapshot{Slices: map[Name][]*Slice{name: {{Headless: c.headless, Endpoints: endpoints(c.endpoints)}}}}
		if has, here := snap.HasEndpoint(name), snap.HasLocalEndpoint(name, "n1"); has != c.has || here != c.here {
			t.Errorf("%q: has %v, here %v; want %v, %v", c.endpoints, has, here, c.has, c.here)
		}
		if snap.HasLocalEndpoint(name, "") {
			t.Errorf("%q: an endpoint without a node is local to nobody", c.endpoints)
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
