// Package healthcheck answers external load balancers: whether this node should get the traffic of a Service with
// externalTrafficPolicy Local (its healthCheckNodePort), and whether the service proxy works at all (/healthz and
// /livez). Paths, headers and bodies are those of kube-proxy 1.36.
package healthcheck
