package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// kubiaSays is what a pod of kubia.yaml answers on a port.
func kubiaSays(pod, port string) string { return fmt.Sprintf("You've hit %s on %s", pod, port) }

// kubia starts three replicas and the Service in front of them.
func (ns *namespace) kubia() ([]corev1.Pod, *corev1.Service) {
	ns.t.Helper()
	ns.create("kubia.yaml")
	ns.create("kubia-svc.yaml")
	pods := ns.ready("kubia", 3)
	ns.awaitEndpoints("kubia", pods...)
	return pods, ns.service("kubia")
}

// A Service with two named ports leads each to the container port of its name, and is found by its address, its short
// name, its name with the namespace and its full name.
func TestTwoNamedPorts(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	pods, svc := ns.kubia()
	shell := ns.shell()

	for _, tt := range []struct {
		port string
		says string
	}{
		{"http-default", "default mux"},
		{"http-mux1", "mux1"},
	} {
		at := clusterPort(svc, tt.port)
		for _, name := range []string{
			at.Addr().String(),
			"kubia",
			"kubia." + ns.name,
			"kubia." + ns.name + ".svc",
			"kubia." + ns.name + ".svc.cluster.local",
		} {
			var expected []string
			for _, pod := range pods {
				expected = append(expected, kubiaSays(pod.Name, tt.says))
			}
			url := fmt.Sprintf("http://%s:%d", name, at.Port())
			await(t, changeLimit, url+" is answered by each pod", func(ctx context.Context) error {
				out, err := ns.curl(ctx, shell, slices.Repeat([]string{url}, requestsFor(len(pods)))...)
				if err != nil {
					return err
				}
				return sameSet(strings.Split(out, "\n"), expected)
			})
		}
	}

	// What `kubectl get endpoints` and `kubectl describe` show of it.
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return netip.MustParseAddr(a.Status.PodIP).Compare(netip.MustParseAddr(b.Status.PodIP))
	})
	var first []string
	for _, pod := range pods {
		first = append(first, pod.Status.PodIP+":8080")
	}
	if err := sameSet(endpointsIn(ns.kubectl("describe", "service", "kubia"), "http-default"), first); err != nil {
		t.Errorf("kubectl describe service: %v", err)
	}
	if endpoints := ns.kubectl("get", "endpoints", "kubia", "--no-headers"); !strings.Contains(endpoints, "+ 3 more...") {
		t.Errorf("kubectl get endpoints: want three endpoints and three more, got %s", endpoints)
	}
}

// endpointsIn returns the endpoints that `kubectl describe service` shows for a port.
func endpointsIn(description, port string) []string {
	_, rest, _ := strings.Cut(description, port)
	_, rest, _ = strings.Cut(rest, "Endpoints:")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Split(strings.TrimSpace(line), ",")
}

// A port that a Service does not have, and a Service without endpoints, are refused at once. A cluster IP answers no ping.
func TestClusterIPRefusals(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	_, svc := ns.kubia()
	shell := ns.shell()
	node := nodes(t)[0]
	at := clusterPort(svc, "http-default")

	node.hears(at, "")
	await(t, changeLimit, "a port that the Service does not have is refused", func(ctx context.Context) error {
		return node.refused(ctx, netip.AddrPortFrom(at.Addr(), 91))
	})
	if out, err := ns.in(contextOf(t), shell, "ping", "-n", "-c2", "-i0.2", "-W1", at.Addr().String()); err == nil || !strings.Contains(err.Error(), "100% packet loss") {
		t.Errorf("ping of a cluster IP: want all packets lost, got %s%v", out, err)
	}
	ns.kubectl("scale", "deployment", "kubia", "--replicas=0")
	await(t, podLimit, "a Service without endpoints is refused", func(ctx context.Context) error {
		return node.refused(ctx, at)
	})
	await(t, changeLimit, "curl of it in a pod fails to connect (7)", func(ctx context.Context) error {
		out, err := ns.curl(ctx, shell, "http://kubia")
		switch {
		case err == nil:
			return fmt.Errorf("the answer is %q", out)
		case strings.Contains(err.Error(), "(7)"):
			return nil
		}
		return err
	})
}

// A pod reaches itself through the Service that it is the only endpoint of.
func TestHairpin(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "1")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "ClusterIP")
	pod := ns.ready("web", 1)[0]
	for _, ip := range clusterIPs(ns.service("web")) {
		url := "http://" + netip.AddrPortFrom(ip, 80).String() + "/hostname"
		await(t, changeLimit, "the pod reaches itself at "+url, func(ctx context.Context) error {
			name, err := ns.curl(ctx, pod.Name, url)
			if err != nil {
				return err
			}
			return want("the answer", name, pod.Name)
		})
	}
}

// A pod that starts after a Service finds it in its environment; one that started before does not.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("shell.yaml", "$NAME", "before")
	before := ns.ready("before", 1)[0].Name
	ns.create("kubia-svc.yaml")
	ip := clusterIPs(ns.service("kubia"))[0].String()

	if env := ns.mustIn(before, "env"); strings.Contains(env, "KUBIA_") {
		t.Errorf("a pod from before the Service knows of it:\n%s", env)
	}
	expected := strings.NewReplacer("$IP", ip).Replace(`KUBIA_SERVICE_HOST=$IP
KUBIA_SERVICE_PORT=80
KUBIA_SERVICE_PORT_HTTP_DEFAULT=80
KUBIA_SERVICE_PORT_HTTP_MUX1=90
KUBIA_PORT=tcp://$IP:80
KUBIA_PORT_80_TCP=tcp://$IP:80
KUBIA_PORT_80_TCP_PROTO=tcp
KUBIA_PORT_80_TCP_PORT=80
KUBIA_PORT_80_TCP_ADDR=$IP
KUBIA_PORT_90_TCP=tcp://$IP:90
KUBIA_PORT_90_TCP_PROTO=tcp
KUBIA_PORT_90_TCP_PORT=90
KUBIA_PORT_90_TCP_ADDR=$IP`)
	// A kubelet takes the environment from what its own watch of Services has told it so far, so the first pod may be early.
	attempt := 0
	await(t, podLimit, "a pod from after the Service knows of it", func(ctx context.Context) error {
		attempt++
		name := fmt.Sprintf("after-%d", attempt)
		ns.create("shell.yaml", "$NAME", name)
		var found []string
		for line := range strings.Lines(ns.mustIn(ns.ready(name, 1)[0].Name, "env")) {
			if strings.HasPrefix(line, "KUBIA_") {
				found = append(found, strings.TrimSpace(line))
			}
		}
		return sameSet(found, strings.Split(expected, "\n"))
	})
}

// With sessionAffinity: ClientIP a client stays with a pod; without, it meets all of them.
func TestSessionAffinity(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "3")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "NodePort")
	pods := ns.ready("web", 3)
	svc := ns.service("web")
	client := on(t, "client")
	for _, at := range nodePorts(svc, "http", nodes(t)[0]) {
		await(t, changeLimit, "all pods answer at "+at.String(), func(ctx context.Context) error {
			return reached(requestsFor(3), pods, func() (string, error) { return client.get(ctx, at, "hostname") })
		})
	}
	ns.kubectl("patch", "service", "web", "--patch", `{"spec": {"sessionAffinity": "ClientIP"}}`)
	for _, at := range nodePorts(svc, "http", nodes(t)[0]) {
		await(t, changeLimit, "one pod answers at "+at.String(), func(ctx context.Context) error {
			answers, err := tally(requestsFor(3), func() (string, error) { return client.get(ctx, at, "hostname") })
			if err != nil {
				return err
			}
			return want("the number of pods that answer", len(answers), 1)
		})
	}
}

// A Service whose selector is changed leads to the pods of the new version.
func TestSelectorChange(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "v1", "$REPLICAS", "2")
	ns.create("web.yaml", "$NAME", "v2", "$REPLICAS", "2")
	ns.create("web-svc.yaml", "$NAME", "v1", "$TYPE", "ClusterIP")
	node := nodes(t)[0]
	at := clusterPort(ns.service("v1"), "http")
	for _, version := range []string{"v1", "v2"} {
		ns.kubectl("patch", "service", "v1", "--patch", fmt.Sprintf(`{"spec": {"selector": {"app": %q}}}`, version))
		pods := ns.ready(version, 2)
		await(t, podLimit, "the pods of "+version+" answer, and no others", func(ctx context.Context) error {
			return reached(requestsFor(2), pods, func() (string, error) { return node.get(ctx, at, "hostname") })
		})
	}
}

// The API server's own proxy reaches a Service by name, as `kubectl proxy` shows it.
func TestAPIServerProxy(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	pods, _ := ns.kubia()
	for port, says := range map[string]string{"http-default": "default mux", "http-mux1": "mux1"} {
		await(t, changeLimit, "the API server's proxy reaches the port "+port, func(ctx context.Context) error {
			body, err := cluster.client.CoreV1().Services(ns.name).ProxyGet("http", "kubia", port, "", nil).DoRaw(ctx)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return strings.TrimSpace(string(body)) == kubiaSays(p.Name, says) }) {
				return fmt.Errorf("answer is %q", body)
			}
			return nil
		})
	}
}

// sameSet returns an error unless both have the same values, however often and in whatever order.
func sameSet(got, want []string) error {
	got, want = slices.Compact(slices.Sorted(slices.Values(got))), slices.Compact(slices.Sorted(slices.Values(want)))
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}
