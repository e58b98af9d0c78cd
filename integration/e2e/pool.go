package e2e

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/seamark-io/seamark/integration/lab"
)

// pool returns what Seamark needs to give the specs' Services addresses that a host behind the router can reach: a pool,
// and the router that is told of them.
func pool(families lab.Families, router netip.Addr) string {
	ranges := map[lab.Families][]string{
		lab.DualStack: {lab.VIPRange4, lab.VIPRange6},
		lab.IPv4Only:  {lab.VIPRange4},
		lab.IPv6Only:  {lab.VIPRange6},
	}[families]
	return fmt.Sprintf(`{"apiVersion": "seamark.io/v1alpha1", "kind": "IPPool", "metadata": {"name": "e2e"},
 "spec": {"addresses": ["%s"]}}
---
{"apiVersion": "seamark.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "router"},
 "spec": {"peerAddress": "%s", "peerASN": %d, "localASN": %d}}
`, strings.Join(ranges, `", "`), router, lab.RouterASN, lab.NodeASN)
}
