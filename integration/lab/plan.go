package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Role says what a host is for.
type Role string

// The roles of hosts.
const (
	RoleSwitch       Role = "switch"
	RoleControlPlane Role = "control-plane"
	RoleNode         Role = "node"
	RoleClient       Role = "client"
	RoleRouter       Role = "router"
	RoleRemote       Role = "remote"
)

// Segment is a broadcast domain: a bridge of that name on the switch.
type Segment string

// The segments of a lab.
const (
	SegmentLAN    Segment = "lan"
	SegmentLAN2   Segment = "lan2"
	SegmentBehind Segment = "behind"
)

// Autonomous system numbers of the lab (RFC 6996, private use).
const (
	RouterASN = 64512
	NodeASN   = 64513
)

// Addresses that the lab leaves free for pools of VIPs, as an IPPool takes them.
// The ranges lie inside the nodes' own subnet on the LAN; the prefixes are
// reachable by BGP only. The routers accept routes to these and no others.
const (
	VIPRange4  = "10.77.0.200-10.77.0.249"
	VIPRange6  = "fd77::200-fd77::2ff"
	VIPPrefix4 = "203.0.113.0/24"
	VIPPrefix6 = "fd00:203::/112"
)

// segmentNet is the addressing of a segment. Host numbers are written with the
// same digits in both families: node1 is 10.77.0.11 and fd77::11.
type segmentNet struct {
	v4, v6 string // formats, with the host number and the prefix length
	mac    byte
}

func (s Segment) net() segmentNet {
	switch s {
	case SegmentLAN2:
		return segmentNet{v4: "10.78.0.%d/24", v6: "fd78::%d/64", mac: 0x78}
	case SegmentBehind:
		return segmentNet{v4: "198.51.100.%d/24", v6: "fd51::%d/64", mac: 0x51}
	default:
		return segmentNet{v4: "10.77.0.%d/24", v6: "fd77::%d/64", mac: 0x77}
	}
}

// Host numbers within a segment. Routers are 1 and 2.
const (
	numberCP     = 10
	numberRemote = 10
	numberNode0  = 10 // node i is 10+i
	numberClient = 100
)

// Link is a host's end of a cable to the switch.
type Link struct {
	Name    string // the interface in the host
	Segment Segment
	Port    string // the interface on the switch
	MAC     string
	Addrs   []netip.Prefix // IPv4 first
}

// Route is a static route. With several next hops traffic is spread over them.
type Route struct {
	Dst netip.Prefix
	Via []netip.Addr
}

// HostPlan describes one host.
type HostPlan struct {
	Name   string
	Role   Role
	Zone   string         // nodes only, may be empty
	Pods   []netip.Prefix // nodes only: the pods' subnets
	Links  []Link
	Routes []Route
}

// Addrs returns the addresses of the host's first link, IPv4 first.
func (h HostPlan) Addrs() []netip.Addr {
	var addrs []netip.Addr
	if len(h.Links) > 0 {
		for _, p := range h.Links[0].Addrs {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}

// Plan is everything about a lab that follows from its options.
type Plan struct {
	Hosts        []HostPlan
	ServiceCIDRs []netip.Prefix
	PodCIDRs     []netip.Prefix // of the whole cluster
	ClusterDNS   []netip.Addr
	Upstream     []netip.Addr   // the DNS server for names outside the cluster
	API          netip.AddrPort // of the API server, on the LAN
}

// NewPlan lays out the lab that o describes; o must be valid.
func NewPlan(o Options) Plan {
	f := o.Families
	p := Plan{
		ServiceCIDRs: keep(f, "10.96.0.0/16", "fd00:10:96::/112"),
		PodCIDRs:     keep(f, "10.244.0.0/16", "fd00:10:244::/48"),
	}
	for _, dns := range keep(f, "10.96.0.10/32", "fd00:10:96::a/128") {
		p.ClusterDNS = append(p.ClusterDNS, dns.Addr())
	}

	p.Hosts = append(p.Hosts, HostPlan{Name: "lan", Role: RoleSwitch})
	p.Hosts = append(p.Hosts, newHost(f, "cp", RoleControlPlane, numberCP, SegmentLAN))
	for i := 1; i <= o.Nodes; i++ {
		segment := SegmentLAN
		if i > o.Nodes-o.Segment2 {
			segment = SegmentLAN2
		}
		node := newHost(f, fmt.Sprintf("node%d", i), RoleNode, numberNode0+i, segment)
		node.Pods = keep(f, fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:10:244:%d::/64", i))
		if o.Zones > 0 {
			node.Zone = "zone-" + string(rune('a'+(i-1)%o.Zones))
		}
		p.Hosts = append(p.Hosts, node)
	}
	p.Hosts = append(p.Hosts, newHost(f, "client", RoleClient, numberClient, SegmentLAN))

	routerSegments := []Segment{SegmentLAN, SegmentBehind}
	if o.Segment2 > 0 {
		routerSegments = append(routerSegments, SegmentLAN2)
	}
	p.Hosts = append(p.Hosts, newHost(f, "router", RoleRouter, 1, routerSegments...))
	if o.Router2 {
		p.Hosts = append(p.Hosts, newHost(f, "router2", RoleRouter, 2, routerSegments...))
	}
	remote := newHost(f, "remote", RoleRemote, numberRemote, SegmentBehind)
	p.Hosts = append(p.Hosts, remote)

	p.Upstream = remote.Addrs()
	p.API = netip.AddrPortFrom(p.Host("cp").Addrs()[0], 6443)
	p.route()
	return p
}

// route fills in the hosts' static routes: pods by way of their node where it
// is on the same segment, everything else by way of the routers. The routers
// know the pods' subnets as they would from a routed pod network, so pods can
// reach what is outside without masquerading.
func (p *Plan) route() {
	for i := range p.Hosts {
		h := &p.Hosts[i]
		for _, node := range p.Nodes() {
			direct := h.Role == RoleRouter || h.Links != nil && h.Links[0].Segment == node.Links[0].Segment
			if node.Name == h.Name || !direct || h.Role == RoleClient {
				continue
			}
			for _, pods := range node.Pods {
				h.Routes = append(h.Routes, Route{Dst: pods, Via: sameFamily(pods.Addr(), node.Addrs())})
			}
		}
		if h.Role != RoleRouter {
			h.Routes = append(h.Routes, p.defaultRoutes(*h)...)
		}
	}
}

func (p *Plan) defaultRoutes(h HostPlan) []Route {
	var routes []Route
	for _, any := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
		var via []netip.Addr
		for _, router := range p.Hosts {
			if router.Role == RoleRouter && len(h.Links) > 0 {
				via = append(via, sameFamily(any.Addr(), router.addrsOn(h.Links[0].Segment))...)
			}
		}
		if len(via) > 0 {
			routes = append(routes, Route{Dst: any, Via: via})
		}
	}
	return routes
}

// Host returns the host of that name; the zero HostPlan if there is none.
func (p Plan) Host(name string) HostPlan {
	i := slices.IndexFunc(p.Hosts, func(h HostPlan) bool { return h.Name == name })
	if i < 0 {
		return HostPlan{}
	}
	return p.Hosts[i]
}

// Nodes returns the hosts that are nodes, in order.
func (p Plan) Nodes() []HostPlan { return p.withRole(RoleNode) }

func (p Plan) withRole(r Role) []HostPlan {
	var hosts []HostPlan
	for _, h := range p.Hosts {
		if h.Role == r {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// segments returns the segments in use, each once.
func (p Plan) segments() []Segment {
	var segments []Segment
	for _, h := range p.Hosts {
		for _, l := range h.Links {
			if !slices.Contains(segments, l.Segment) {
				segments = append(segments, l.Segment)
			}
		}
	}
	return segments
}

func (h HostPlan) addrsOn(s Segment) []netip.Addr {
	var addrs []netip.Addr
	for _, l := range h.Links {
		if l.Segment == s {
			for _, p := range l.Addrs {
				addrs = append(addrs, p.Addr())
			}
		}
	}
	return addrs
}

func newHost(f Families, name string, role Role, number int, segments ...Segment) HostPlan {
	h := HostPlan{Name: name, Role: role}
	for i, s := range segments {
		port := name
		if i > 0 {
			port = name + "-" + string(s)
		}
		sn := s.net()
		h.Links = append(h.Links, Link{
			Name:    fmt.Sprintf("eth%d", i),
			Segment: s,
			Port:    port,
			MAC:     fmt.Sprintf("02:%02x:00:00:00:%02x", sn.mac, number),
			Addrs:   keep(f, fmt.Sprintf(sn.v4, number), fmt.Sprintf(sn.v6, number)),
		})
	}
	return h
}

// keep parses a prefix of each family and returns those that f has.
func keep(f Families, v4, v6 string) []netip.Prefix {
	var ps []netip.Prefix
	if f != IPv6Only {
		ps = append(ps, netip.MustParsePrefix(v4))
	}
	if f != IPv4Only {
		ps = append(ps, netip.MustParsePrefix(v6))
	}
	return ps
}

func sameFamily(of netip.Addr, addrs []netip.Addr) []netip.Addr {
	var same []netip.Addr
	for _, a := range addrs {
		if a.Is4() == of.Is4() {
			same = append(same, a)
		}
	}
	return same
}

// join writes values separated by commas, as command lines want them.
func join[T fmt.Stringer](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = v.String()
	}
	return strings.Join(s, ",")
}
