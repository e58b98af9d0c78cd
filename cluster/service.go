package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Name names a namespaced object. The zero value names none.
type Name struct {
	Namespace string
	Name      string
}

// String returns "namespace/name", as Kubernetes prints it.
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Compare orders names by namespace, then by name.
func (n Name) Compare(o Name) int {
	switch {
	case n.Namespace < o.Namespace || n.Namespace == o.Namespace && n.Name < o.Name:
		return -1
	case n == o:
		return 0
	default:
		return 1
	}
}

// Protocol is a transport protocol by its IANA number, as in the IP header.
type Protocol uint8

// The protocols that a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String returns the protocol's name as Kubernetes writes it.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	default:
		return "unknown"
	}
}

// ServiceType is a Service's spec.type.
type ServiceType uint8

// The Service types.
const (
	ClusterIP ServiceType = iota
	NodePort
	LoadBalancer
	ExternalName
)

// Service is a Kubernetes Service without what no part of Seamark's node agent needs.
type Service struct {
	Name Name
	// UID of the object: an Event is shown with the Service that it names by its UID.
	UID  string
	Type ServiceType

	// ClusterIPs of at most one IPv4 and one IPv6 address. Empty for a headless or ExternalName Service.
	ClusterIPs []netip.Addr
	// Headless is true for spec.clusterIP None.
	Headless bool
	// ExternalName is the canonical name of an ExternalName Service, as written, without a trailing dot.
	ExternalName string

	Ports []ServicePort

	// IngressIPs are the addresses in status.loadBalancer.ingress whose ipMode is VIP or unset. They are a claim that
	// anyone who may write a Service's status can make: use Snapshot.VIPsOf.
	IngressIPs []netip.Addr
	// SourceRanges is spec.loadBalancerSourceRanges. Empty: no limit.
	SourceRanges []netip.Prefix

	// ExternalLocal is externalTrafficPolicy Local, InternalLocal is internalTrafficPolicy Local.
	ExternalLocal bool
	InternalLocal bool
	// HealthCheckNodePort is 0 where there is none.
	HealthCheckNodePort uint16
	// Affinity is the timeout of ClientIP session affinity; 0: none.
	Affinity time.Duration

	// ForeignProxy is true where the label service.kubernetes.io/service-proxy-name names another proxy: the Service
	// has names in DNS but is not proxied here.
	ForeignProxy bool
}

// ServicePort is one port of a Service.
type ServicePort struct {
	// Name is empty for the only port of a Service, if it has no name.
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 where there is none.
	NodePort uint16
}

// Port is one port of an address.
type Port struct {
	Protocol Protocol
	Number   uint16
}

// String returns the port as VIP objects have it: "443/TCP".
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + p.Protocol.String() }

// ParsePort reads what Port.String writes.
func ParsePort(s string) (Port, error) {
	number, protocol, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	for _, p := range []Protocol{TCP, UDP, SCTP} {
		if err == nil && p.String() == protocol {
			return Port{p, uint16(n)}, nil
		}
	}
	return Port{}, fmt.Errorf("%q is not a port such as 443/TCP", s)
}

// Compare orders ports by number, then by protocol.
func (p Port) Compare(o Port) int {
	return cmp.Or(cmp.Compare(p.Number, o.Number), cmp.Compare(p.Protocol, o.Protocol))
}

// HasNodePorts reports whether traffic can reach the Service from outside through a node port or a VIP.
func (s *Service) HasNodePorts() bool {
	return s.Type == NodePort || s.Type == LoadBalancer
}

// ClusterIPOf returns the Service's cluster IP of one family; the zero Addr where it has none.
func (s *Service) ClusterIPOf(f Family) netip.Addr {
	for _, ip := range s.ClusterIPs {
		if FamilyOf(ip) == f {
			return ip
		}
	}
	return netip.Addr{}
}
