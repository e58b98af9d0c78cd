package bgp

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
	"github.com/seamark-io/seamark/speaker/plan"
)

// documented returns the block of docs/bgp.md that is marked as a router's configuration.
func documented(t *testing.T, router string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/bgp.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(page), "\n```"+router+"\n")
	block, _, ends := strings.Cut(block, "\n```\n")
	if !found || !ends {
		t.Fatalf("docs/bgp.md has no block %q", router)
	}
	return block + "\n"
}

// What docs/bgp.md tells operators to write on a router works as it is there: sessions come up, addresses of pools are routed
// in the kernel, others are not taken, and FRR is as fast to notice that a node is lost as the page says.
func TestDocumentedRouters(t *testing.T) {
	announces := func(t *testing.T, router *netlab.Host, protocol string) {
		here := netlab.Here(t)
		here.Addr("eth0", "192.0.2.11/24")
		here.Addr("eth0", "2001:db8::11/64")
		router.Addr("eth0", "192.0.2.1/24")
		router.Addr("eth0", "2001:db8::1/64")
		s := newSpeaker(t)
		p := peerOf("tor", "192.0.2.1:179")
		p.Session.PeerASN, p.Session.LocalASN = 64512, 64513
		p.NextHop6 = netip.MustParseAddr("2001:db8::11")
		set(t, s, wanted([]plan.Peer{p}, "198.51.100.7/32", "203.0.113.7/32", "2001:db8:100::7/128", "2001:db8:200::7/128"))
		established(t, s, "tor")
		for family, want := range map[string]string{"-4": "198.51.100.7 via 192.0.2.11", "-6": "2001:db8:100::7 via 2001:db8::11"} {
			var got []string
			netlab.Eventually(t, "the router's kernel has routes by BGP", func() bool {
				got = kernelRoutes(t, router, family, protocol)
				return len(got) > 0
			})
			if !slices.Equal(got, []string{want}) {
				t.Errorf("the router's kernel has %v, want %s", got, want)
			}
		}
	}
	t.Run("BIRD", func(t *testing.T) {
		r := connected(t, 0)
		r.run(documented(t, "bird"))
		announces(t, r.Host, "bird")
	})
	t.Run("FRR", func(t *testing.T) {
		r := connectedFRR(t)
		r.daemon("zebra", "")
		r.daemon("bfdd", "--bfdctl "+r.dir+"/bfdd.sock")
		r.daemon("bgpd", "-p 179")
		r.load(documented(t, "frr"))
		announces(t, r.Host, "bgp")
		var paths []struct {
			Multiplier int `json:"detect-multiplier"`
			Receive    int `json:"receive-interval"`
			Transmit   int `json:"transmit-interval"`
		}
		netlab.Eventually(t, "FRR has a BFD session for the node", func() bool {
			return json.Unmarshal([]byte(r.vtysh("bfdd", "show bfd peers json")), &paths) == nil && len(paths) == 1
		})
		if p := paths[0]; p.Multiplier != 3 || p.Receive != 50 || p.Transmit != 50 {
			t.Errorf("FRR's BFD has %+v, want 3 × 50 ms both ways", p)
		}
	})
}

// kernelRoutes returns a host's routes that a routing protocol made, each as "destination via gateway".
func kernelRoutes(t *testing.T, h *netlab.Host, family, protocol string) (out []string) {
	t.Helper()
	var routes []struct{ Dst, Gateway string }
	list := "ip -j " + family + " route show proto " + protocol
	if err := json.Unmarshal([]byte(h.Run(list)), &routes); err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	for _, r := range routes {
		out = append(out, r.Dst+" via "+r.Gateway)
	}
	return out
}
