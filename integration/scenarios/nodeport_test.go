package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A NodePort, given or chosen at random, leads to the pods from outside on every node, in both families and by both
// protocols.
func TestNodePort(t *testing.T) {
	for _, tt := range []struct {
		name string
		port string
	}{
		{"chosen", "30023"}, // of those that Kubernetes gives to nobody by itself: the first 86
		{"random", "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := scenario(t)
			ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "3")
			ns.create("kubia-svc-nodeport.yaml", "$APP", "web", "$NODEPORT", tt.port)
			pods := ns.ready("web", 3)
			svc := ns.service("kubia-nodeport")
			got := port(svc, "").NodePort
			if tt.port != "0" && fmt.Sprint(got) != tt.port || got < 30000 || got > 32767 {
				t.Errorf("the node port is %d, want %s (0: any of 30000 to 32767)", got, tt.port)
			}
			for _, node := range nodes(t) {
				for _, at := range nodePorts(svc, "", node) {
					for _, from := range []host{on(t, "client"), on(t, "remote")} {
						await(t, changeLimit, fmt.Sprintf("all pods answer %s at %s", from.Name, at), func(ctx context.Context) error {
							return reached(requestsFor(3), pods, func() (string, error) { return from.get(ctx, at, "hostname") })
						})
					}
				}
			}
		})
	}
}

func TestNodePortUDP(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "3")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "NodePort")
	pods := ns.ready("web", 3)
	svc, client := ns.service("web"), on(t, "client")
	for _, node := range nodes(t) {
		for _, at := range nodePorts(svc, "udp", node) {
			await(t, changeLimit, "all pods answer at "+at.String()+" by UDP", func(ctx context.Context) error {
				return reached(requestsFor(3), pods, func() (string, error) { return client.udp(ctx, at, "hostname") })
			})
		}
	}
}

// With externalTrafficPolicy: Local a node leads only to its own pods, which see the client's address; a node without any
// stays silent to the outside.
func TestNodePortLocal(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "web", "$REPLICAS", "1")
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "NodePort")
	pod := ns.ready("web", 1)[0]
	svc := ns.service("web")
	client, remote := on(t, "client"), on(t, "remote")

	// The reply must come back by way of the node that was asked, so another node than the pod's hides the client.
	for _, node := range nodes(t) {
		at := nodePorts(svc, "http", node)[0]
		from := netip.MustParseAddrPort(client.hears(at, "clientip")).Addr()
		if node.Name != pod.Spec.NodeName && from == client.addr(from) {
			t.Errorf("by way of %s, which is not its own node, the pod sees %s", node.Name, from)
		}
	}
	ns.kubectl("patch", "service", "web", "--patch", `{"spec": {"externalTrafficPolicy": "Local"}}`)
	for _, node := range nodes(t) {
		for _, at := range nodePorts(svc, "http", node) {
			for _, from := range []host{client, remote} {
				if node.Name != pod.Spec.NodeName {
					await(t, changeLimit, node.Name+", which has no pod, is silent at "+at.String(), func(ctx context.Context) error {
						return from.silent(ctx, at)
					})
					continue
				}
				await(t, changeLimit, fmt.Sprintf("the pod sees the address of %s at %s", from.Name, at), func(ctx context.Context) error {
					return seesClient(ctx, from, at)
				})
			}
		}
	}
}

// seesClient returns nil if the pod that answers has seen the client's own address.
func seesClient(ctx context.Context, client host, at netip.AddrPort) error {
	answer, err := client.get(ctx, at, "clientip")
	if err != nil {
		return err
	}
	seen, err := netip.ParseAddrPort(answer)
	if err != nil {
		return err
	}
	return want("the client that the pod sees", seen.Addr(), client.addr(at.Addr()))
}

// A front that is reached by its NodePort asks a back inside the cluster, by its short name and by its full one. The names
// of one namespace are not those of another.
func TestTiers(t *testing.T) {
	t.Parallel()
	ns := scenario(t)
	ns.create("web.yaml", "$NAME", "nginx", "$REPLICAS", "2")
	ns.create("web.yaml", "$NAME", "tomcat", "$REPLICAS", "2")
	ns.create("tiers.yaml")
	ns.ready("nginx", 2)
	backs := ns.ready("tomcat", 2)
	client := on(t, "client")
	front := nodePorts(ns.service("nginx-service"), "", nodes(t)[0])[0]
	ask := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			answer, err := client.get(ctx, front, fmt.Sprintf("dial?protocol=http&request=hostname&host=%s&port=80", name))
			if err != nil {
				return err
			}
			if !containsAny(answer, backs) {
				return fmt.Errorf("answer is %s", answer)
			}
			return nil
		}
	}
	for _, name := range []string{"tomcat-service", "tomcat-service." + ns.name, "tomcat-service." + ns.name + ".svc.cluster.local"} {
		await(t, changeLimit, "the front reaches the back as "+name, ask(name))
	}

	other := newNamespace(t)
	shell := other.shell()
	if _, err := other.curl(contextOf(t), shell, "http://tomcat-service/hostname"); err == nil || !strings.Contains(err.Error(), "(6)") {
		t.Errorf("the short name in another namespace: want it not to resolve (6), got %v", err)
	}
	answer, err := other.curl(contextOf(t), shell, "http://tomcat-service."+ns.name+"/hostname")
	if err != nil || !containsAny(answer, backs) {
		t.Errorf("the name with the namespace in another namespace: got %q, %v", answer, err)
	}
}

func containsAny(text string, pods []corev1.Pod) bool {
	for _, pod := range pods {
		if strings.Contains(text, pod.Name) {
			return true
		}
	}
	return false
}
