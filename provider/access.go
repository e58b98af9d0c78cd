package provider

import "github.com/seamark-io/seamark/cluster/preflight"

// Access returns what the provider and the stock service controller do to the API server. A test holds it against what they
// call, and another against the manifest.
func Access() []preflight.Access {
	const group = "seamark.io"
	return []preflight.Access{
		{Verbs: []string{"get", "list", "watch"}, Resource: "services"},
		{Verbs: []string{"patch"}, Resource: "services/status"},
		{Verbs: []string{"list", "watch"}, Resource: "nodes"},
		{Verbs: []string{"list", "watch"}, Resource: "namespaces"},
		{Verbs: []string{"create", "patch"}, Resource: "events"},
		{Verbs: []string{"list", "watch"}, Group: "networking.k8s.io", Resource: "servicecidrs"},
		{Verbs: []string{"list", "watch", "patch"}, Group: group, Resource: "ippools"},
		{Verbs: []string{"patch"}, Group: group, Resource: "ippools/status"},
		{Verbs: []string{"get", "list", "watch", "create", "patch", "delete"}, Group: group, Resource: "vips"},
		{Verbs: []string{"update"}, Group: group, Resource: "vips/status"},
		{Verbs: []string{"list", "watch"}, Group: group, Resource: "bgppeers"},
		{Verbs: []string{"update"}, Group: group, Resource: "bgppeers/status"},
	}
}
