package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Agent is what an agent says of itself: on which node it is, and in which subnets it can answer for addresses. It says so
// in a Lease of its own, which stays while it is away for a moment.
type Agent struct {
	Node string
	// Interfaces are the names of those by which the node takes part in a subnet.
	Interfaces map[netip.Prefix]string
}

// FormatSegments writes an Agent's Interfaces, as in "10.0.0.0/24=eth0 fd00::/64=eth0". The same map gives the same text.
func FormatSegments(interfaces map[netip.Prefix]string) string {
	var out []string
	for _, p := range slices.SortedFunc(maps.Keys(interfaces), netip.Prefix.Compare) {
		out = append(out, p.String()+"="+interfaces[p])
	}
	return strings.Join(out, " ")
}

// ParseSegments reads what FormatSegments wrote. What is wrong is left out, and in the error.
func ParseSegments(text string) (map[netip.Prefix]string, error) {
	out := map[netip.Prefix]string{}
	var wrong []string
	for _, field := range strings.Fields(text) {
		prefix, name, ok := strings.Cut(field, "=")
		p, err := netip.ParsePrefix(prefix)
		if !ok || err != nil || name == "" || p != p.Masked() {
			wrong = append(wrong, field)
			continue
		}
		out[p] = name
	}
	if len(wrong) > 0 {
		return out, fmt.Errorf("%q: each segment must be written subnet=interface, as 192.0.2.0/24=eth0", wrong)
	}
	return out, nil
}

// HeartbeatKeys are the secrets with which the agents' heartbeats are sealed.
type HeartbeatKeys struct {
	// Send is the one that this node seals with, Accept are others that it opens with, while keys are being rotated.
	Send   []byte
	Accept [][]byte
}
