package main

import "github.com/seamark-io/seamark/cluster/preflight"

// access is what the agent does to the API server. A test holds it against manifests/node/rbac.yaml.
func access(c *config) []preflight.Access {
	const group = "seamark.io"
	read := []string{"list", "watch"}
	all := []preflight.Access{
		{Verbs: read, Resource: "services"},
		{Verbs: read, Resource: "nodes"},
		{Verbs: read, Resource: "namespaces"},
		{Verbs: read, Resource: "secrets", Namespace: c.namespace},
		{Verbs: read, Group: "coordination.k8s.io", Resource: "leases", Namespace: c.namespace},
		{Verbs: read, Group: "discovery.k8s.io", Resource: "endpointslices"},
		{Verbs: read, Group: "networking.k8s.io", Resource: "servicecidrs"},
		{Verbs: read, Group: group, Resource: "ippools"},
		{Verbs: read, Group: group, Resource: "bgppeers"},
		{Verbs: read, Group: group, Resource: "vips"},
	}
	if c.speaker {
		all = append(all,
			preflight.Access{Verbs: []string{"get", "create", "update", "patch"}, Group: "coordination.k8s.io", Resource: "leases", Namespace: c.namespace},
			preflight.Access{Verbs: []string{"get"}, Group: group, Resource: "vips"},
			preflight.Access{Verbs: []string{"patch"}, Group: group, Resource: "ippools/status"},
			preflight.Access{Verbs: []string{"patch"}, Group: group, Resource: "vips/status"},
			preflight.Access{Verbs: []string{"patch"}, Group: group, Resource: "bgppeers/status"},
		)
	}
	if c.speaker || c.proxy {
		all = append(all, preflight.Access{Verbs: []string{"create", "patch"}, Resource: "events"})
	}
	return all
}
