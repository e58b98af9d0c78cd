package cluster

import "net/netip"

// Node is a Kubernetes Node.
type Node struct {
	Name string
	// UID of the object.
	UID    string
	Labels map[string]string
	// InternalIPs are the node's addresses of type InternalIP, the primary one first.
	InternalIPs []netip.Addr
	PodCIDRs    []netip.Prefix
	// Zone is the label topology.kubernetes.io/zone.
	Zone string
	// Ready is the condition Ready = True.
	Ready bool
	// Excluded is true for the label node.kubernetes.io/exclude-from-external-load-balancers with any value but one
	// that strconv.ParseBool takes for false, as in k8s.io/cloud-provider, and for the taint
	// node.kubernetes.io/out-of-service.
	Excluded bool
	// OutOfService is true for that taint.
	OutOfService bool
	// Unschedulable is true for a node that is cordoned, as before it is drained.
	Unschedulable bool
	// Leaving is true for a Node that is being deleted, or is about to be: one with the taint
	// ToBeDeletedByClusterAutoscaler.
	Leaving bool
}

// CanAnnounce reports whether the node may announce VIPs; the reason says why not.
func (n *Node) CanAnnounce() (ok bool, reason string) {
	switch {
	case n.Excluded:
		return false, "excluded by the label node.kubernetes.io/exclude-from-external-load-balancers or the taint node.kubernetes.io/out-of-service"
	case !n.Ready:
		return false, "not ready"
	default:
		return true, ""
	}
}
