package scenarios

import (
	"context"
	"strings"
	"testing"
)

// A pod is an endpoint while its readiness probe succeeds, whichever kind of probe it is; it is not restarted when it
// fails.
func TestReadiness(t *testing.T) {
	for _, tt := range []struct {
		name  string
		probe string
		// on and off make a pod pass its probe and fail it.
		on, off string
	}{
		{
			name:  "exec",
			probe: `exec: {command: [ls, /var/ready]}`,
			on:    "touch /var/ready",
			off:   "rm /var/ready",
		},
		{
			name:  "http",
			probe: `httpGet: {path: /tmp/ready, port: 8070}`,
			on:    "touch /tmp/ready",
			off:   "rm /tmp/ready",
		},
		{
			name:  "tcp",
			probe: `tcpSocket: {port: 8060}`,
			on:    "setsid /agnhost test-webserver --port=8060 >/dev/null 2>&1 & echo $! >/tmp/pid",
			off:   "kill $(cat /tmp/pid)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := scenario(t)
			// The files that HTTP probes ask for are those of the container that serves them.
			container := map[string]string{"http": "files"}[tt.name]
			sh := func(pod, command string) {
				t.Helper()
				args := []string{"exec", pod, "--", "sh", "-c", command}
				if container != "" {
					args = append([]string{"exec", "--container", container}, args[1:]...)
				}
				ns.kubectl(args...)
			}
			ns.create("probe.yaml", "$PROBE", tt.probe)
			ns.create("kubia-svc-nodeport.yaml", "$APP", "kubia", "$NODEPORT", "0")
			pods := ns.running("kubia", 2)
			svc := ns.service("kubia-nodeport")
			client, node := on(t, "client"), nodes(t)[0]
			at := nodePorts(svc, "", node)[0]

			none := func() {
				t.Helper()
				ns.awaitEndpoints("kubia-nodeport")
				await(t, changeLimit, "connections are refused while no pod is ready", func(ctx context.Context) error {
					return client.refused(ctx, at)
				})
			}
			none()
			for i := range pods {
				sh(pods[i].Name, tt.on)
				ns.awaitEndpoints("kubia-nodeport", pods[:i+1]...)
				await(t, changeLimit, "the ready pods answer, and no others", func(ctx context.Context) error {
					return reached(requestsFor(i+1), pods[:i+1], func() (string, error) { return client.get(ctx, at, "hostname") })
				})
			}
			for i := range pods {
				sh(pods[i].Name, tt.off)
				ns.awaitEndpoints("kubia-nodeport", pods[i+1:]...)
			}
			none()
			if !strings.Contains(ns.kubectl("get", "events"), "Readiness probe") {
				t.Error("no event tells of the failed probes")
			}
			for _, pod := range ns.running("kubia", 2) {
				for _, c := range pod.Status.ContainerStatuses {
					if c.RestartCount != 0 {
						t.Errorf("container %s of %s was restarted", c.Name, pod.Name)
					}
				}
			}
		})
	}
}
