package provider

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/provider/ipam"
)

// request turns a Service into a request. Notices are what its owner should hear although it does no harm.
func (p *Provider) request(svc *corev1.Service) (r ipam.Request, notices []string) {
	r = ipam.Request{
		Service:   nameOf(svc),
		Labels:    svc.Labels,
		AnyFamily: ptr.Deref(svc.Spec.IPFamilyPolicy, "") == corev1.IPFamilyPolicyPreferDualStack,
		Prefer:    ingressIPs(svc),
	}
	for _, f := range svc.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			r.Families = append(r.Families, cluster.IPv4)
		case corev1.IPv6Protocol:
			r.Families = append(r.Families, cluster.IPv6)
		}
	}
	if ns, err := p.namespaces.Get(svc.Namespace); err == nil {
		r.NamespaceLabels = ns.Labels
	}
	r.Ask, notices, r.Invalid = ipam.ParseAsk(svc.Annotations, svc.Spec.LoadBalancerIP)
	sharing, more, problem := ipam.ParseSharing(svc.Annotations)
	notices = append(notices, more...)
	if r.Invalid == nil {
		r.Invalid = problem
	}
	r.Sharing = sharing
	r.Ports = portsOf(svc)
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		r.Sharing.Selector = labels.Set(svc.Spec.Selector).String()
		if len(svc.Spec.Selector) == 0 {
			r.Sharing.Selector = "endpoints of " + r.Service.String() // whose they are nobody can tell
		}
	}
	return r, notices
}

// knowsNamespace reports whether the namespace of a Service has been seen, on whose labels it depends what it may have. The
// two are watched apart: a Service can be seen before its namespace, and for a moment after that has gone. It is not to be
// decided then; it is looked at again when the namespace is seen (namespaceChanged).
func (p *Provider) knowsNamespace(svc *corev1.Service) bool {
	_, err := p.namespaces.Get(svc.Namespace)
	return err == nil
}

func portsOf(svc *corev1.Service) []cluster.Port {
	protocols := map[corev1.Protocol]cluster.Protocol{corev1.ProtocolTCP: cluster.TCP, corev1.ProtocolUDP: cluster.UDP, corev1.ProtocolSCTP: cluster.SCTP}
	ports := make([]cluster.Port, 0, len(svc.Spec.Ports))
	for _, p := range svc.Spec.Ports {
		ports = append(ports, cluster.Port{Protocol: protocols[p.Protocol], Number: uint16(p.Port)})
	}
	slices.SortFunc(ports, cluster.Port.Compare)
	return ports
}

func ingressIPs(svc *corev1.Service) (ips []netip.Addr) {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			ips = append(ips, a)
		}
	}
	return ips
}

// statusOf writes addresses as the status of a Service. The mode VIP says that packets arrive with the address as their
// destination, so that nodes may short-cut them (KEP-1860).
func statusOf(addrs []netip.Addr) *corev1.LoadBalancerStatus {
	s := &corev1.LoadBalancerStatus{}
	for _, a := range addrs {
		s.Ingress = append(s.Ingress, corev1.LoadBalancerIngress{IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)})
	}
	return s
}

// wants reports whether a Service is one for us: a load balancer of our class or, unless OnlyClass, without one.
func (p *Provider) wants(svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if svc.Spec.LoadBalancerClass == nil {
		return !p.OnlyClass
	}
	return *svc.Spec.LoadBalancerClass == p.Class
}

// serves reports whether a Service is to have addresses of us: one for us that is not on its way out.
func (p *Provider) serves(svc *corev1.Service) bool {
	return p.wants(svc) && svc.DeletionTimestamp == nil
}

func nameOf(o metav1.Object) cluster.Name {
	return cluster.Name{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// nameOfKey reads what Name.String writes, the key of a queue.
func nameOfKey(key string) cluster.Name {
	namespace, name, _ := strings.Cut(key, "/")
	return cluster.Name{Namespace: namespace, Name: name}
}
