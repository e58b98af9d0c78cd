package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// service returns a Service as it is now.
func (ns *namespace) service(name string) *corev1.Service {
	ns.t.Helper()
	s, err := cluster.client.CoreV1().Services(ns.name).Get(contextOf(ns.t), name, metav1.GetOptions{})
	if err != nil {
		ns.t.Fatal(err)
	}
	return s
}

// deleteService deletes a Service and returns when the API server no longer has it.
func (ns *namespace) deleteService(name string) {
	ns.t.Helper()
	services := cluster.client.CoreV1().Services(ns.name)
	if err := services.Delete(contextOf(ns.t), name, metav1.DeleteOptions{}); err != nil {
		ns.t.Fatal(err)
	}
	await(ns.t, changeLimit, "Service "+name+" is gone", func(ctx context.Context) error {
		_, err := services.Get(ctx, name, metav1.GetOptions{})
		return gone(err)
	})
}

// clusterIPs returns the cluster IPs of a Service.
func clusterIPs(s *corev1.Service) []netip.Addr { return parse(s.Spec.ClusterIPs) }

// port returns the Service's port of that name, or its only one for "".
func port(s *corev1.Service, name string) corev1.ServicePort {
	i := slices.IndexFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == name })
	return s.Spec.Ports[max(0, i)]
}

// clusterPort is where a Service is found inside the cluster.
func clusterPort(s *corev1.Service, name string) netip.AddrPort {
	return netip.AddrPortFrom(clusterIPs(s)[0], uint16(port(s, name).Port))
}

// nodePorts returns where a Service is found on a node, of each family that the Service has.
func nodePorts(s *corev1.Service, name string, node host) []netip.AddrPort {
	var at []netip.AddrPort
	for _, ip := range clusterIPs(s) {
		at = append(at, netip.AddrPortFrom(node.addr(ip), uint16(port(s, name).NodePort)))
	}
	return at
}

// readyEndpoints returns the addresses of a family behind a Service that are ready, sorted.
func (ns *namespace) readyEndpoints(ctx context.Context, service string, family discoveryv1.AddressType) ([]string, error) {
	slices_, err := cluster.client.DiscoveryV1().EndpointSlices(ns.name).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, err
	}
	var ready []string
	for _, slice := range slices_.Items {
		for _, e := range slice.Endpoints {
			if slice.AddressType == family && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				ready = append(ready, e.Addresses...)
			}
		}
	}
	slices.Sort(ready)
	return ready, nil
}

// awaitEndpoints waits until exactly these pods are the ready endpoints of a Service.
func (ns *namespace) awaitEndpoints(service string, pods ...corev1.Pod) {
	ns.t.Helper()
	wanted := podIPs(pods)
	await(ns.t, podLimit, fmt.Sprintf("Service %s has the endpoints %v", service, names(pods)), func(ctx context.Context) error {
		got, err := ns.readyEndpoints(ctx, service, discoveryv1.AddressTypeIPv4)
		if err != nil {
			return err
		}
		return want("the list of ready endpoints", strings.Join(got, " "), strings.Join(wanted, " "))
	})
}

// podIPs returns the pods' first addresses, sorted.
func podIPs(pods []corev1.Pod) []string {
	var ips []string
	for _, pod := range pods {
		ips = append(ips, pod.Status.PodIP)
	}
	slices.Sort(ips)
	return ips
}

// reached checks that n requests are answered by these pods and by no other, each of them by at least one. The answers
// are the pods' names.
func reached(n int, pods []corev1.Pod, ask func() (string, error)) error {
	answers, err := tally(n, ask)
	if err != nil {
		return err
	}
	left := names(pods)
	for answer := range answers {
		i := slices.Index(left, answer)
		if i < 0 {
			return fmt.Errorf("%q answers, which is not one of %v", answer, names(pods))
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		return fmt.Errorf("of %d requests none was answered by %v", n, left)
	}
	return nil
}

// requestsFor returns how many requests reach each of n endpoints chosen at random, but for one run in a million.
func requestsFor(endpoints int) int {
	if endpoints < 2 {
		return 3
	}
	return 17 * endpoints // (1-1/n)^(17n) < e^-17
}

func parse(addresses []string) []netip.Addr {
	var parsed []netip.Addr
	for _, a := range addresses {
		if ip, err := netip.ParseAddr(a); err == nil {
			parsed = append(parsed, ip)
		}
	}
	return parsed
}
