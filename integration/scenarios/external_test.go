package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A Service without a selector leads to the hosts outside the cluster that somebody made endpoints of.
func TestExternalEndpoints(t *testing.T) {
	t.Parallel()
	const port = 8500
	ns := scenario(t)
	client, remote := on(t, "client"), on(t, "remote")
	client.listen(port)
	remote.listen(port)
	ns.create("external-service.yaml")
	shell := ns.shell()
	svc := ns.service("external-service")
	await(t, changeLimit, "the Service is refused while it has no endpoints", func(ctx context.Context) error {
		return nodes(t)[0].refused(ctx, clusterPort(svc, ""))
	})

	ns.create("external-service-endpoints.yaml", "$ONE", client.Addrs()[0].String(), "$OTHER", remote.Addrs()[0].String(), "$PORT", strconv.Itoa(port))
	for _, url := range []string{"http://" + svc.Spec.ClusterIP + "/", "http://external-service/"} {
		await(t, changeLimit, "both hosts answer at "+url, func(ctx context.Context) error {
			// All by one command: each takes the API server and a kubelet their time.
			answers, err := ns.curl(ctx, shell, slices.Repeat([]string{url}, requestsFor(2))...)
			if err != nil {
				return err
			}
			seen := make(map[string]bool)
			for answer := range strings.Lines(answers) {
				seen[strings.Fields(answer)[0]] = true
			}
			if !seen["client"] || !seen["remote"] {
				return fmt.Errorf("answers are of %v", seen)
			}
			return nil
		})
	}
}

// A Service of type ExternalName is another name of a host outside the cluster. The connection bypasses the service proxy.
func TestExternalName(t *testing.T) {
	t.Parallel()
	const port = 8501
	ns := scenario(t)
	remote := on(t, "remote")
	remote.listen(port)
	ns.create("external-service-externalname.yaml")
	shell := ns.shell()
	full := "external-service-externalname." + ns.name + ".svc.cluster.local"

	await(t, changeLimit, "the name is an alias of the host's", func(ctx context.Context) error {
		out, err := ns.in(ctx, shell, "dig", "+noall", "+answer", full)
		if err != nil {
			return err
		}
		var records []string
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 5 {
				records = append(records, strings.Join([]string{f[0], f[3], f[4]}, " "))
			}
		}
		wanted := []string{full + ". CNAME remote.lab.test.", "remote.lab.test. A " + remote.Addrs()[0].String()}
		if !slices.Equal(records, wanted) {
			return fmt.Errorf("answer is %q, want %q", records, wanted)
		}
		return nil
	})
	for _, name := range []string{"external-service-externalname", full} {
		url := fmt.Sprintf("http://%s:%d/get", name, port)
		await(t, changeLimit, "the host answers at "+url, func(ctx context.Context) error {
			answer, err := ns.curl(ctx, shell, url)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(answer, "remote has /get for ") {
				return fmt.Errorf("answer is %q", answer)
			}
			return nil
		})
	}
	if ip := ns.service("external-service-externalname").Spec.ClusterIP; ip != "" {
		t.Errorf("it has the cluster IP %s, want none", ip)
	}
}
