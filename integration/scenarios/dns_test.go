package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// dig asks for a name from a pod, without its search list, and returns the data of the answers, sorted.
func (ns *namespace) dig(ctx context.Context, pod, name, kind string) ([]string, error) {
	out, err := ns.in(ctx, pod, "dig", "+short", "+tries=1", "+time=2", name, kind)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(slices.Values(strings.Fields(out))), nil
}

// finds waits until a name has exactly these records.
func (ns *namespace) finds(pod, name, kind string, records ...string) {
	ns.t.Helper()
	slices.Sort(records)
	await(ns.t, changeLimit, fmt.Sprintf("%s %s is %q", name, kind, records), func(ctx context.Context) error {
		got, err := ns.dig(ctx, pod, name, kind)
		if err != nil {
			return err
		}
		return want("the answer", strings.Join(got, " "), strings.Join(records, " "))
	})
}

// The names of a Service, as the Kubernetes DNS specification has them, and what a pod is told of where to ask.
func TestDNS(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("kubia-svc.yaml")
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "1")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "ClusterIP")
	shell := ns.shell()
	servers := cluster.Plan().ClusterDNS

	resolv := ns.mustIn(shell, "cat", "/etc/resolv.conf")
	for _, line := range []string{
		"nameserver " + servers[0].String(),
		fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local", ns.name),
		"options ndots:5",
	} {
		if !strings.Contains(resolv, line) {
			t.Errorf("resolv.conf has no %q:\n%s", line, resolv)
		}
	}

	domain := ns.name + ".svc.cluster.local"
	ip := clusterIPs(ns.service("kubia"))[0]
	ns.finds(shell, "kubia."+domain, "A", ip.String())
	ns.finds(shell, "kubia."+domain, "AAAA")
	ns.finds(shell, "_http-mux1._tcp.kubia."+domain, "SRV", strings.Fields("0 100 90 kubia."+domain+".")...)
	for _, ip := range clusterIPs(ns.service("web")) {
		kind := "A"
		if ip.Is6() {
			kind = "AAAA"
		}
		ns.finds(shell, "web."+domain, kind, ip.String())
		await(t, changeLimit, "the address leads back to the name", func(ctx context.Context) error {
			out, err := ns.in(ctx, shell, "dig", "+short", "-x", ip.String())
			if err != nil {
				return err
			}
			return want("the PTR record", out, "web."+domain+".")
		})
	}
	ns.finds(shell, "remote.lab.test", "A", on(t, "remote").Addrs()[0].String())

	// nslookup follows the search list, and names the server that it asked.
	lookup := ns.mustIn(shell, "nslookup", "kubia")
	if !slices.ContainsFunc(servers, func(s netip.Addr) bool { return strings.Contains(lookup, "Server:\t\t"+s.String()+"\n") }) {
		t.Errorf("nslookup asks none of %v:\n%s", servers, lookup)
	}
	for _, line := range []string{"Name:\tkubia." + domain, "Address: " + ip.String()} {
		if !strings.Contains(lookup, line) {
			t.Errorf("nslookup kubia says no %q:\n%s", line, lookup)
		}
	}
	for _, tt := range []struct{ name, kind, status string }{
		{"nosuch." + domain, "A", "NXDOMAIN"},  // no such name
		{"kubia." + domain, "AAAA", "NOERROR"}, // the name, but not this kind
		{"kubia.nosuch.svc.cluster.local", "A", "NXDOMAIN"},
		{"nosuch.lab.test", "A", "NXDOMAIN"}, // outside the cluster
	} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			answer := ns.mustIn(shell, "dig", transport, tt.name, tt.kind)
			if !strings.Contains(answer, "status: "+tt.status) || !strings.Contains(answer, "ANSWER: 0") {
				t.Errorf("dig %s %s %s: want %s and no answer, got\n%s", transport, tt.name, tt.kind, tt.status, answer)
			}
			if strings.HasSuffix(tt.name, "cluster.local") && !strings.Contains(answer, "SOA") {
				t.Errorf("dig %s %s %s: want the zone's SOA for caches (RFC 2308), got\n%s", transport, tt.name, tt.kind, answer)
			}
		}
	}
}

// A headless Service is found by the addresses of its ready pods, or of all of them if it says so; each has a name.
func TestHeadless(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("probe.yaml", "$PROBE", `exec: {command: [ls, /var/ready]}`)
	ns.create("kubia-svc-headless.yaml")
	ns.kubectl("scale", "deployment", "kubia", "--replicas=3")
	pods := ns.running("kubia", 3)
	shell := ns.shell()
	name := "kubia-headless." + ns.name + ".svc.cluster.local"

	if ip := ns.service("kubia-headless").Spec.ClusterIP; ip != "None" {
		t.Errorf("its cluster IP is %s, want None", ip)
	}
	for _, pod := range pods[:2] {
		ns.kubectl("exec", pod.Name, "--", "touch", "/var/ready")
	}
	ns.awaitEndpoints("kubia-headless", pods[:2]...)
	ns.finds(shell, name, "A", podIPs(pods[:2])...)
	var srv []string
	for _, pod := range pods[:2] {
		target := strings.ReplaceAll(pod.Status.PodIP, ".", "-") + "." + name
		srv = append(srv, "0", "50", "8080", target+".")
		ns.finds(shell, target, "A", pod.Status.PodIP)
	}
	await(t, changeLimit, "the port is found by its name", func(ctx context.Context) error {
		got, err := ns.dig(ctx, shell, "_http._tcp."+name, "SRV")
		if err != nil {
			return err
		}
		return sameSet(got, srv)
	})
	// There is no proxy in between: the port is the pods' own.
	await(t, changeLimit, "the pods answer by the Service's name", func(ctx context.Context) error {
		answer, err := ns.curl(ctx, shell, "http://kubia-headless:8080/hostname")
		if err != nil {
			return err
		}
		if answer != pods[0].Name && answer != pods[1].Name {
			return fmt.Errorf("answer is %q", answer)
		}
		return nil
	})

	ns.kubectl("patch", "service", "kubia-headless", "--patch", `{"spec": {"publishNotReadyAddresses": true}}`)
	ns.finds(shell, name, "A", podIPs(pods)...)
}

// The pods of a headless Service that have a hostname are found by it.
func TestPodHostnames(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("named-pod.yaml")
	pod := ns.ready("kubia", 1)[0]
	shell := ns.shell()
	name := "first.kubia-headless." + ns.name + ".svc.cluster.local"
	for _, ip := range pod.Status.PodIPs {
		kind := "A"
		if netip.MustParseAddr(ip.IP).Is6() {
			kind = "AAAA"
		}
		ns.finds(shell, name, kind, ip.IP)
	}
}
