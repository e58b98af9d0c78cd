package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A router that cannot be talked to shows, with the reason, in `kubectl get bgppeers`; the others, and ARP, go on.
func TestWrongPeers(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	_, svc := ns.loadBalancer(2)
	vip := vips(svc)[0]
	client := on(t, "client")
	client.hears(vipPort(svc, vip, "http"), "hostname")
	// The router's other address, at which nobody talks to it.
	address := on(t, router).Addrs()[1].String()

	for _, tt := range []struct {
		name, spec string
		words      []string
	}{
		{"local-asn", fmt.Sprintf(`{peerAddress: %q, peerASN: 64512, localASN: 64999}`, address), []string{"AS 64999", "correct localASN"}},
		{"peer-asn", fmt.Sprintf(`{peerAddress: %q, peerASN: 64999, localASN: 64513}`, address), []string{"AS 64999", "correct peerASN"}},
		{"secret", fmt.Sprintf(`{peerAddress: %q, peerASN: 64512, localASN: 64513, passwordSecretRef: {name: %s}}`, address, ns.name), []string{address, "check", "password"}},
		{"no-secret", fmt.Sprintf(`{peerAddress: %q, peerASN: 64512, localASN: 64513, passwordSecretRef: {name: nosuch}}`, address), []string{`Secret "nosuch"`}},
		{"unreachable", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513}`, []string{"10.77.0.99 cannot be reached"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := ns.name + "-" + tt.name
			if tt.name == "secret" {
				secret(t, ns.name, "wrong")
			}
			forgiveErrors(t)
			if out, err := ns.apply(manifest(t, "peer.yaml", "$NAME", name, "$SPEC", tt.spec)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			putBack(t, func(ctx context.Context) {
				if _, err := cluster.Kubectl(ctx, "delete", "bgppeer", name); err != nil {
					t.Error(err)
				}
			})
			await(t, 3*changeLimit, "kubectl get bgppeers says what is wrong", func(ctx context.Context) error {
				established, message, err := peer(ctx, name)
				return errors.Join(err, want("the number of sessions", established, "0/3"), containsAll(message, tt.words...))
			})
			t.Log(ns.kubectl("get", "bgppeers"))
			holds(t, time.Second, "the other session and ARP go on", func(ctx context.Context) error {
				_, err := client.get(ctx, vipPort(svc, vip, "http"), "hostname")
				return errors.Join(err, peerEstablished(ctx, router))
			})
			routed(t, vip, allNodes()...)
		})
	}
}

// forgiveErrors has the router talk at once again to nodes with which it had an error: it makes them wait for a minute.
func forgiveErrors(t *testing.T) {
	t.Helper()
	for _, node := range allNodes() {
		on(t, router).run("birdc", "restart", node+"_v6")
	}
}

// What no router could be is refused by the API server.
func TestRefusedPeers(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	for _, tt := range []struct {
		name, spec string
		words      []string
	}{
		{"address", `{peerAddress: router, peerASN: 64512, localASN: 64513}`, []string{"must be an IPv4 or IPv6 address"}},
		{"asn", `{peerAddress: 10.77.0.99, peerASN: 0, localASN: 64513}`, []string{"spec.peerASN", "greater than or equal to 1"}},
		{"multihop", `{peerAddress: 10.77.0.99, peerASN: 64513, localASN: 64513, ebgpMultihop: 4}`, []string{"ebgpMultihop is for eBGP"}},
		{"hold", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, holdTime: 1s}`, []string{"between 3s and 65535s"}},
		{"keepalive", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, holdTime: 9s, keepaliveTime: 9s}`, []string{"keepaliveTime must be less than holdTime"}},
		{"retry", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, connectRetryTime: 1s}`, []string{"between 2s and 65535s"}},
		{"bfd-multihop", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, ebgpMultihop: 2, bfd: {}}`, []string{"does not fit to ebgpMultihop"}},
		{"bfd-hops", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, ttlSecurityHops: 2, bfd: {}}`, []string{"with it ttlSecurityHops can only be 1"}},
		{"typo", `{peerAddress: 10.77.0.99, peerASN: 64512, localASN: 64513, passwort: x}`, []string{`unknown field "spec.passwort"`}},
	} {
		out, err := ns.apply(manifest(t, "peer.yaml", "$NAME", ns.name+"-"+tt.name, "$SPEC", tt.spec))
		if err == nil {
			t.Errorf("%s: the API server takes %s", tt.name, tt.spec)
			ns.kubectl("delete", "bgppeer", ns.name+"-"+tt.name)
			continue
		}
		if err := containsAll(out, tt.words...); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// secret makes a password for a BGP session until the test ends.
func secret(t *testing.T, name, password string) {
	t.Helper()
	args := []string{"--namespace", seamarkNamespace, "secret"}
	if _, err := cluster.Kubectl(contextOf(t), append([]string{"create"}, append(args, "generic", name, "--from-literal=password="+password)...)...); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) {
		if _, err := cluster.Kubectl(ctx, append([]string{"delete"}, append(args, name)...)...); err != nil {
			t.Error(strings.TrimSpace(err.Error()))
		}
	})
}
