package scenarios

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Addresses for the scenarios of this file: the first one's are reached by BGP.
const (
	poolToShare   = "203.0.113.48/30"
	poolToConsent = "198.18.18.0/29"
)

// Two Services with one sharing key have one address, and each is reached at its port of it, 53/UDP and 53/TCP. When one of
// them takes the other's port it does not get it, and hears why; the other, and what the first had, go on undisturbed.
func TestSharedAddress(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	ns.pool(poolToShare)
	ns.create("dns-like.yaml", "$NAME", "udp", "$POOL", ns.name, "$TARGET", "8081", "$PROTOCOL", "UDP")
	ns.create("dns-like.yaml", "$NAME", "tcp", "$POOL", ns.name, "$TARGET", "8080", "$PROTOCOL", "TCP")
	udpPods, tcpPods := ns.ready("udp", 2), ns.ready("tcp", 2)
	vip := vips(ns.awaitVIPs("udp"))[0]
	if other := vips(ns.awaitVIPs("tcp"))[0]; other != vip {
		t.Fatalf("they have the addresses %s and %s", vip, other)
	}
	ns.consistent()
	at := netip.AddrPortFrom(vip, 53)
	client := on(t, "client")
	served := func() {
		t.Helper()
		await(t, changeLimit, "each Service is reached at its port", func(ctx context.Context) error {
			return errors.Join(
				reached(requestsFor(2), udpPods, func() (string, error) { return client.udp(ctx, at, "hostname") }),
				reached(requestsFor(2), tcpPods, func() (string, error) { return client.get(ctx, at, "hostname") }))
		})
	}
	served()

	traffic := startTraffic(t, client, at)
	ns.patch("udp", `{"spec": {"ports": [
		{"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"},
		{"name": "dns-tcp", "port": 53, "targetPort": 8080, "protocol": "TCP"},
		{"name": "free", "port": 5353, "targetPort": 8080, "protocol": "TCP"}]}}`)
	await(t, changeLimit, "the one that took the port hears why it does not get it", func(context.Context) error {
		return ns.notAllocated("udp", "SharingConflict", "port 53/TCP of "+vip.String()+" belongs to Service "+ns.name+"/tcp")
	})
	if status, why := ns.allocated("tcp"); status != "True" {
		t.Errorf("the condition of the other is %s: %s", status, why)
	}
	holds(t, 3*time.Second, "the other's port leads to its pods", func(ctx context.Context) error {
		return reached(requestsFor(2), tcpPods, func() (string, error) { return client.get(ctx, at, "hostname") })
	})
	served()
	await(t, changeLimit, "the port that nobody has is served", func(ctx context.Context) error {
		return reached(requestsFor(2), udpPods, func() (string, error) { return client.get(ctx, netip.AddrPortFrom(vip, 5353), "hostname") })
	})
	ns.consistent()

	ns.patch("udp", `{"spec": {"ports": [{"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"}]}}`)
	await(t, changeLimit, "its condition is true again", func(context.Context) error {
		status, why := ns.allocated("udp")
		return want("the condition ("+why+")", status, "True")
	})
	// One that loses the key keeps what it has, with the condition.
	ns.kubectl("annotate", "service", "udp", "seamark.io/sharing-key-")
	await(t, changeLimit, "the one that lost its key hears it", func(context.Context) error {
		return ns.notAllocated("udp", "SharingConflict", `has ""`, "make the annotations seamark.io/sharing-key equal")
	})
	served()
	if err := traffic.end(); err != nil {
		t.Errorf("traffic to the other Service: %v", err)
	}
	ns.deleteService("tcp")
	await(t, changeLimit, "alone it has the address for itself", func(ctx context.Context) error {
		status, why := ns.allocated("udp")
		return errors.Join(want("the condition ("+why+")", status, "True"), ns.isConsistent(ctx))
	})
	if now := vips(ns.service("udp"))[0]; now != vip {
		t.Errorf("its address is %s, and was %s", now, vip)
	}
	ns.deleteService("udp")
	ns.nothingLeft()
}

// Services of two namespaces share an address only when each names the other's namespace.
func TestSharingNamespaces(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	other := newNamespace(t)
	ns.pool(poolToConsent)
	key := annotated("seamark.io/sharing-key", "k")
	ns.createService(ns.balancer("mine", key))
	vip := vips(ns.awaitVIPs("mine"))[0]
	asks := annotated("seamark.io/addresses", vip.String())
	const consent = "seamark.io/sharing-namespaces"

	other.createService(ns.balancer("any", key, ports(corev1.ProtocolTCP, 81)))
	if got := vips(other.awaitVIPs("any"))[0]; got == vip {
		t.Errorf("without consent of either a Service of another namespace has the address %s", got)
	}
	other.createService(ns.balancer("theirs", key, asks, ports(corev1.ProtocolTCP, 82)))
	await(t, changeLimit, "it is told to name the namespace", func(context.Context) error {
		return other.notAllocated("theirs", "SharingConflict", vip.String(), ns.name+"/mine", "add "+ns.name+" to the annotation "+consent)
	})
	other.kubectl("annotate", "service", "theirs", consent+"="+ns.name)
	await(t, changeLimit, "it is told that the other does not share", func(context.Context) error {
		return other.notAllocated("theirs", "SharingConflict", ns.name+"/mine, which does not share with namespace "+other.name)
	})
	ns.kubectl("annotate", "service", "mine", consent+"=elsewhere,"+other.name)
	if got := vips(other.awaitVIPs("theirs"))[0]; got != vip {
		t.Errorf("it has the address %s, want %s", got, vip)
	}
	both := func(ctx context.Context) error {
		a, err := addressesOf(ctx, cluster.client, []string{ns.name, other.name}, []string{ns.name})
		return errors.Join(err, a.consistent())
	}
	await(t, changeLimit, "Services, VIPs and pool tell the same", both)

	// Consent taken back: told to the one that took it back, and nobody loses anything.
	ns.kubectl("annotate", "service", "mine", consent+"-")
	await(t, changeLimit, "the one that took its consent back hears it", func(context.Context) error {
		return ns.notAllocated("mine", "SharingConflict", other.name)
	})
	if err := both(contextOf(t)); err != nil {
		t.Error(err)
	}
	if status, why := other.allocated("theirs"); status != "True" {
		t.Errorf("the condition of the other is %s: %s", status, why)
	}
	out, err := cluster.Kubectl(contextOf(t), "get", "vip", vip.String(), "--output=wide")
	if err != nil || !strings.Contains(out.Stdout, fmt.Sprintf("%s/mine", ns.name)) || !strings.Contains(out.Stdout, other.name+"/theirs") {
		t.Errorf("kubectl get vip -o wide does not show both (%v):\n%s", err, out.Stdout)
	}
}
