package v1alpha1

import "time"

// Agents say by a Lease in Seamark's namespace that their node takes part in the election of owners: the nodes that have
// one are the members of a segment, of which an owner needs a majority. The Lease belongs to the Node object. The controller
// deletes one that has not been renewed for its duration.
const (
	// AgentLeasePrefix is what the name of an agent's Lease begins with; the name of the node follows.
	AgentLeasePrefix = "seamark-node."
	// AgentLeaseDuration is the duration of the Lease. It is long, for a node that is away is a member still: only so its
	// absence counts.
	AgentLeaseDuration = 10 * time.Minute
	// AgentLabel is the label of these Leases, with the value "true".
	AgentLabel = "seamark.io/agent"
	// AnnotationSegments has the subnets of the node, as in "192.0.2.0/24=eth0 2001:db8::/64=eth0".
	AnnotationSegments = "seamark.io/segments"
)

// HeartbeatSecret is the Secret in Seamark's namespace whose data are the keys of the agents' heartbeats, each of 16 random
// bytes or more. They seal with the one named HeartbeatKey, and take what is sealed with any of them.
const (
	HeartbeatSecret = "seamark-heartbeat"
	HeartbeatKey    = "key"
)
