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
				own = append(own, OwnAddress{"bad", a, OwnInterface})
			}
		}
	}
	if len(own) == 0 {
		t.Fatal("the test's node has no address in the test's pool")
	}
	own = append(own, OwnAddress{"bad", netip.MustParseAddr("10.0.0.254"), OwnGateway}, OwnAddress{"bad", netip.MustParseAddr("10.0.0.255"), OwnSubnet})
	if got := Build(s, f).Own; !slices.Equal(got, own) {
		t.Errorf("got %v, want %v", got, own)
	}
}

// Both special addresses of a subnet are found, of IPv6 that of all routers; those of a link between two are plain.
func TestOwnSubnetAddresses(t *testing.T) {
	s, f := world()
	s.VIPs = nil
	f.Interfaces = []Interface{{Link: eth0, Prefixes: prefixes("10.0.0.1/24", "fd00::1/64", "10.0.1.0/31", "fd00::fffe/127"), Up: true}}
	var got []string
	for _, o := range Build(s, f).Own {
		if o.Use == OwnSubnet {
			got = append(got, o.Addr.String())
		}
	}
	if want := []string{"10.0.0.0", "10.0.0.255", "fd00::"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
