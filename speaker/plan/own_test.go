package plan

import (
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"

	"github.com/seamark-io/seamark/cluster"
)

func TestOwnAddresses(t *testing.T) {
	s, f := world()
	f.Gateways = []netip.Addr{netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("192.168.7.1")}
	delete(s.Pools, "pool")
	s.Pools["bad"] = &cluster.Pool{Name: "bad", Ranges: []netipx.IPRange{netipx.MustParseIPRange("10.0.0.1-10.0.0.255"), netipx.MustParseIPRange("10.0.9.0-10.0.9.255")}}
	// A VIP that a proxy has put on an interface is none of the node's.
	vip := netip.MustParseAddr("10.0.9.9")
	f.Interfaces = append(f.Interfaces, Interface{Link: Link{Index: 99, Name: "kube-ipvs0"}, Prefixes: []netip.Prefix{netip.PrefixFrom(vip, 32)}})
	s.VIPs[vip] = &cluster.VIP{Address: vip, Pool: "bad", Services: []cluster.Name{name("web")}}

	var own []OwnAddress
	for _, i := range f.Interfaces {
		for _, p := range i.Prefixes {
			if a := p.Addr(); a != vip && s.Pools["bad"].Contains(a) {
				own = append(own, OwnAddress{"bad", a, false})
			}
		}
	}
	if len(own) == 0 {
		t.Fatal("the test's node has no address in the test's pool")
	}
	own = append(own, OwnAddress{"bad", netip.MustParseAddr("10.0.0.254"), true})
	if got := Build(s, f).Own; !slices.Equal(got, own) {
		t.Errorf("got %v, want %v", got, own)
	}
}
