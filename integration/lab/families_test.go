package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/probe"
)

// TestFamilies makes a lab of each single family, in which a Service of type
// LoadBalancer leads to a server outside the cluster.
func TestFamilies(t *testing.T) {
	for _, test := range []struct {
		families Families
		name     string
		pool     string
		address  func(port uint16) string // on which a server of the family listens
	}{
		{IPv4Only, "four", VIPRange4, func(port uint16) string { return fmt.Sprintf("0.0.0.0:%d", port) }},
		{IPv6Only, "six", VIPRange6, func(port uint16) string { return fmt.Sprintf("[::]:%d", port) }},
	} {
		t.Run(string(test.families), func(t *testing.T) {
			t.Parallel()
			o := DefaultOptions()
			o.Name, o.Nodes, o.Families, o.Progress = testLab(t, test.name), 1, test.families, t.Output()
			t.Cleanup(func() {
				if err := Down(context.Background(), o.Name, nil); err != nil {
					t.Error(err)
				}
			})
			l, err := Up(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			const port = 8080
			listener, err := probe.Namespace(l.hosts["remote"].NetNS()).Listen("tcp", test.address(port))
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })}
			go func() { _ = server.Serve(listener) }()
			t.Cleanup(func() { server.Close() })

			remote := l.plan.Host("remote").Addrs()[0]
			addressType := map[bool]string{true: "IPv4", false: "IPv6"}[remote.Is4()]
			if err := l.Apply(t.Context(), fmt.Appendf(nil, outside, test.pool, port, addressType, remote, port)); err != nil {
				t.Fatal(err)
			}
			answers := l.await(t.Context(), wait{
				what: "an answer at the Service's address", limit: time.Minute,
				check: func(ctx context.Context) (bool, string) { return curlsService(ctx, l) },
			})
			if answers != nil {
				t.Error(answers)
			}
			traces := traceOf(t, o.Name)
			if err := l.Down(t.Context()); err != nil {
				t.Fatal(err)
			}
			traces.mustBeGone(t)
		})
	}
}

// outside is a Service whose endpoint is no pod: nothing has to be built for it.
const outside = `{"apiVersion": "seamark.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "default"},
 "spec": {"addresses": [%q]}}
---
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "outside"},
 "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "targetPort": %d}]}}
---
{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
 "metadata": {"name": "outside", "labels": {"kubernetes.io/service-name": "outside"}},
 "addressType": %q, "endpoints": [{"addresses": [%q]}], "ports": [{"name": "http", "port": %d}]}
`

// curlsService reports whether the client gets an answer of the Service outside.
func curlsService(ctx context.Context, l *Lab) (bool, string) {
	out, err := l.Kubectl(ctx, "get", "service", "outside", "--namespace=default", "--output=jsonpath={.status.loadBalancer.ingress[0].ip}")
	if err != nil {
		return false, err.Error()
	}
	vip, err := netip.ParseAddr(out.Stdout)
	if err != nil {
		return false, "it has no address yet"
	}
	answer, err := l.hosts["client"].Exec(ctx, "curl", "--silent", "--show-error", "--max-time", "2", "http://"+netip.AddrPortFrom(vip, 80).String())
	return err == nil && answer.Stdout == "here", fmt.Sprintf("%q, %v", answer.Stdout, err)
}
