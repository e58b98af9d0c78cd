package watch

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seamark-io/seamark/api/v1alpha1"
	"github.com/seamark-io/seamark/cluster"
)

// Service converts a Service.
func Service(s *corev1.Service) *cluster.Service {
	_, foreign := s.Labels[labelServiceProxyName]
	out := &cluster.Service{
		Name:          cluster.Name{Namespace: s.Namespace, Name: s.Name},
		UID:           string(s.UID),
		Type:          serviceType(s.Spec.Type),
		Headless:      s.Spec.ClusterIP == corev1.ClusterIPNone,
		ExternalName:  strings.TrimSuffix(s.Spec.ExternalName, "."),
		ExternalLocal: s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
		InternalLocal: s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ForeignProxy:  foreign,

		HealthCheckNodePort: uint16(s.Spec.HealthCheckNodePort),
	}
	if out.Type != cluster.ExternalName {
		out.ExternalName = ""
		out.ClusterIPs = addrs(s.Spec.ClusterIPs)
	}
	for _, p := range s.Spec.Ports {
		out.Ports = append(out.Ports, cluster.ServicePort{
			Name:     p.Name,
			Protocol: protocol(p.Protocol),
			Port:     uint16(p.Port),
			NodePort: uint16(p.NodePort),
		})
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP {
			out.IngressIPs = append(out.IngressIPs, addrs([]string{in.IP})...)
		}
	}
	for _, r := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(r)); err == nil {
			out.SourceRanges = append(out.SourceRanges, p.Masked())
		}
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.Affinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
		if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			out.Affinity = time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
		}
	}
	return out
}

const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

func serviceType(t corev1.ServiceType) cluster.ServiceType {
	switch t {
	case corev1.ServiceTypeNodePort:
		return cluster.NodePort
	case corev1.ServiceTypeLoadBalancer:
		return cluster.LoadBalancer
	case corev1.ServiceTypeExternalName:
		return cluster.ExternalName
	default:
		return cluster.ClusterIP
	}
}

func protocol(p corev1.Protocol) cluster.Protocol {
	switch p {
	case corev1.ProtocolUDP:
		return cluster.UDP
	case corev1.ProtocolSCTP:
		return cluster.SCTP
	default:
		return cluster.TCP
	}
}

// addrs parses what is an address and leaves out what is not ("None", "").
func addrs(in []string) []netip.Addr {
	var out []netip.Addr
	for _, s := range in {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// Slice converts an EndpointSlice; nil for one that belongs to no Service or holds host names. Only the first address
// of an endpoint counts, as the API asks of its consumers.
func Slice(s *discoveryv1.EndpointSlice) *cluster.Slice {
	service := s.Labels[discoveryv1.LabelServiceName]
	family := map[discoveryv1.AddressType]cluster.Family{
		discoveryv1.AddressTypeIPv4: cluster.IPv4, discoveryv1.AddressTypeIPv6: cluster.IPv6,
	}[s.AddressType]
	if service == "" || family == 0 {
		return nil
	}
	_, headless := s.Labels[corev1.IsHeadlessService]
	out := &cluster.Slice{
		Name:     s.Name,
		Service:  cluster.Name{Namespace: s.Namespace, Name: service},
		Family:   family,
		Headless: headless,
	}
	for _, p := range s.Ports {
		port := cluster.SlicePort{Protocol: cluster.TCP}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.Protocol != nil {
			port.Protocol = protocol(*p.Protocol)
		}
		if p.Port != nil {
			port.Port = uint16(*p.Port)
		}
		out.Ports = append(out.Ports, port)
	}
	for i := range s.Endpoints {
		if ep, ok := endpoint(&s.Endpoints[i]); ok {
			out.Endpoints = append(out.Endpoints, ep)
		}
	}
	return out
}

func endpoint(e *discoveryv1.Endpoint) (cluster.Endpoint, bool) {
	if len(e.Addresses) == 0 {
		return cluster.Endpoint{}, false
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return cluster.Endpoint{}, false
	}
	out := cluster.Endpoint{
		Addr:        a.Unmap(),
		Hostname:    deref(e.Hostname, ""),
		Node:        deref(e.NodeName, ""),
		Zone:        deref(e.Zone, ""),
		Ready:       deref(e.Conditions.Ready, true),
		Serving:     deref(e.Conditions.Serving, true),
		Terminating: deref(e.Conditions.Terminating, false),
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.ForZones = append(out.ForZones, z.Name)
		}
		for _, n := range e.Hints.ForNodes {
			out.ForNodes = append(out.ForNodes, n.Name)
		}
	}
	return out, true
}

func deref[T any](p *T, unset T) T {
	if p == nil {
		return unset
	}
	return *p
}

// Node converts a Node.
func Node(n *corev1.Node) *cluster.Node {
	out := &cluster.Node{
		Name:   n.Name,
		UID:    string(n.UID),
		Labels: n.Labels,
		Zone:   n.Labels[corev1.LabelTopologyZone],

		Unschedulable: n.Spec.Unschedulable,
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out.InternalIPs = append(out.InternalIPs, addrs([]string{a.Address})...)
		}
	}
	out.PodCIDRs = prefixes(n.Spec.PodCIDRs)
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	if v, ok := n.Labels[corev1.LabelNodeExcludeBalancers]; ok {
		excluded, err := strconv.ParseBool(v)
		out.Excluded = excluded || err != nil
	}
	out.Leaving = n.DeletionTimestamp != nil
	for _, t := range n.Spec.Taints {
		out.OutOfService = out.OutOfService || t.Key == corev1.TaintNodeOutOfService
		out.Leaving = out.Leaving || t.Key == taintToBeDeleted
	}
	out.Excluded = out.Excluded || out.OutOfService
	return out
}

// taintToBeDeleted is put on a node by the cluster autoscaler (k8s.io/autoscaler/cluster-autoscaler/utils/taints) before it
// drains and deletes it.
const taintToBeDeleted = "ToBeDeletedByClusterAutoscaler"

// ServiceCIDR returns the ranges of a ServiceCIDR.
func ServiceCIDR(s *networkingv1.ServiceCIDR) []netip.Prefix { return prefixes(s.Spec.CIDRs) }

// prefixes parses what is a prefix and leaves out what is not.
func prefixes(in []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// Pool converts an IPPool, as far as that is possible: addresses that were given out are announced whatever becomes of
// their pool. The error says what is wrong with anything but the addresses.
func Pool(p *v1alpha1.IPPool) (cluster.Pool, error) {
	var errs []error
	selector := func(field string, s *metav1.LabelSelector) cluster.Selector {
		errs = append(errs, checkSelector(field, s))
		return Selector(s)
	}
	out := cluster.Pool{
		Name:              p.Name,
		UID:               string(p.UID),
		Priority:          p.Spec.Priority,
		AutoAssign:        deref(p.Spec.AutoAssign, true),
		AvoidBuggyIPs:     p.Spec.AvoidBuggyIPs,
		Draining:          p.Spec.State == v1alpha1.PoolDraining,
		Retain:            p.Spec.ReclaimPolicy == v1alpha1.ReclaimRetain,
		Silent:            !deref(p.Spec.Ping, true),
		NamespaceSelector: selector("namespaceSelector", p.Spec.NamespaceSelector),
		ServiceSelector:   selector("serviceSelector", p.Spec.ServiceSelector),
	}
	if ranges, problems := cluster.ParseRanges(p.Spec.Addresses); len(problems) == 0 {
		out.Ranges = ranges
	}
	an := p.Spec.Announce
	if an == nil {
		an = &v1alpha1.Announce{ARP: &v1alpha1.ARPAnnounce{}, BGP: &v1alpha1.BGPAnnounce{}}
	}
	if an.ARP != nil {
		out.ARP = &cluster.ARPAnnounce{
			Interfaces: an.ARP.Interfaces,
			Nodes:      selector("announce.arp.nodeSelector", an.ARP.NodeSelector),
			Serve:      an.ARP.PartitionPolicy == v1alpha1.PartitionServe,
		}
		for i := range an.ARP.NodePreferences {
			pref := &an.ARP.NodePreferences[i]
			nodes := selector(fmt.Sprintf("announce.arp.nodePreferences[%d].nodeSelector", i), &pref.NodeSelector)
			out.ARP.Preferences = append(out.ARP.Preferences, cluster.Preference{Weight: pref.Weight, Nodes: nodes})
		}
	}
	if an.BGP != nil {
		out.BGP = &cluster.BGPAnnounce{Nodes: selector("announce.bgp.nodeSelector", an.BGP.NodeSelector)}
		var err error
		if out.BGP.Advertisements, err = advertisements(an.BGP); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// VIP converts a VIP; nil for one whose address does not parse.
func VIP(v *v1alpha1.VIP) *cluster.VIP {
	a, err := netip.ParseAddr(v.Spec.Address)
	if err != nil {
		return nil
	}
	out := &cluster.VIP{Address: a.Unmap(), UID: string(v.UID), Pool: v.Spec.Pool, Created: v.CreationTimestamp.Time}
	for _, s := range v.Spec.Services {
		name := cluster.Name{Namespace: s.Namespace, Name: s.Name}
		out.Services = append(out.Services, name)
		if len(v.Spec.Services) < 2 {
			continue // one alone has all its ports
		}
		if out.Ports == nil {
			out.Ports = map[cluster.Name][]cluster.Port{}
		}
		for _, text := range s.Ports {
			if p, err := cluster.ParsePort(text); err == nil {
				out.Ports[name] = append(out.Ports[name], p)
			}
		}
	}
	return out
}

// Selector converts a label selector; nil matches everything, one that is not valid nothing: whoever wrote it meant to leave
// something out.
func Selector(s *metav1.LabelSelector) cluster.Selector {
	if s == nil {
		return nil
	}
	if checkSelector("", s) != nil {
		return cluster.Nothing()
	}
	operators := map[metav1.LabelSelectorOperator]cluster.Operator{
		metav1.LabelSelectorOpIn: cluster.In, metav1.LabelSelectorOpNotIn: cluster.NotIn,
		metav1.LabelSelectorOpExists: cluster.Exists, metav1.LabelSelectorOpDoesNotExist: cluster.DoesNotExist,
	}
	var out cluster.Selector
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out = append(out, cluster.Requirement{Key: k, Operator: cluster.In, Values: []string{s.MatchLabels[k]}})
	}
	for _, e := range s.MatchExpressions {
		out = append(out, cluster.Requirement{Key: e.Key, Operator: operators[e.Operator], Values: e.Values})
	}
	return out
}

// checkSelector says what is wrong with the selector in a field. The schema of a CRD has no rules for selectors.
func checkSelector(field string, s *metav1.LabelSelector) error {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		return fmt.Errorf("%s matches nothing: %w", field, err)
	}
	return nil
}

// Agent converts the Lease of an agent. What it says of segments that cannot be read is left out: it is of another version.
func Agent(l *coordinationv1.Lease) *cluster.Agent {
	node := deref(l.Spec.HolderIdentity, "")
	if node == "" {
		return nil
	}
	segments, _ := cluster.ParseSegments(l.Annotations[v1alpha1.AnnotationSegments])
	return &cluster.Agent{Node: node, Interfaces: segments}
}

// heartbeatKeys returns the keys in the Secret of heartbeats; nil if there is none to seal with.
func heartbeatKeys(data map[string][]byte) *cluster.HeartbeatKeys {
	if len(data[v1alpha1.HeartbeatKey]) == 0 {
		return nil
	}
	out := &cluster.HeartbeatKeys{Send: data[v1alpha1.HeartbeatKey]}
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if name != v1alpha1.HeartbeatKey {
			out.Accept = append(out.Accept, data[name])
		}
	}
	return out
}
