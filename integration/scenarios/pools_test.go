package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What is wrong with a pool is refused by the API server, or else said by the pool's condition, in words that tell what
// to change; other pools go on.
func TestWrongPools(t *testing.T) {
	needsSeamarkLB(t)
	t.Parallel()
	ns := scenario(t)
	putBack(t, func(ctx context.Context) {
		if _, err := cluster.Kubectl(ctx, "delete", "ippools", "--selector=scenario="+ns.name, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	apply := func(name, spec string) (string, error) {
		return ns.apply(manifest(t, "wrong-pool.yaml", "$NAME", ns.name+"-"+name, "$SCENARIO", ns.name, "$SPEC", spec))
	}
	for _, tt := range []struct {
		name, spec string
		words      []string
	}{
		{"too-long", `addresses: [10.99.0.0/33]`, []string{"each entry must be a prefix such as 192.0.2.0/28", "length at most 32 or 128"}},
		{"too-long-v6", `addresses: ["fd99::/129"]`, []string{"length at most 32 or 128"}},
		{"mixed", `addresses: ["10.99.0.1-fd99::5"]`, []string{"both ends of a range must be of one family", "one range for IPv4 and one for IPv6"}},
		{"spaces", `addresses: ["10.99.0.1 - 10.99.0.5"]`, []string{"no spaces", "192.0.2.10-192.0.2.20"}},
		{"empty", `addresses: []`, []string{"spec.addresses", "should have at least 1 items"}},
		{"none", `priority: 1`, []string{"spec.addresses", "Required value"}},
		{"unknown-field", `{addresses: [10.99.0.0/28], adresses: [10.99.0.0/28]}`, []string{`unknown field "spec.adresses"`}},
		{"host-bits", `addresses: [10.99.0.5/24]`, []string{"no bits set behind its length", "a single address is written"}},
		{"priority", `{addresses: [10.99.0.0/28], priority: 3000000000}`, []string{"spec.priority"}},
		{"local-pref", `{addresses: [10.99.0.0/28], announce: {bgp: {localPref: -1}}}`, []string{"spec.announce.bgp.localPref", "greater than or equal to 0"}},
		{"med", `{addresses: [10.99.0.0/28], announce: {bgp: {med: 4294967296}}}`, []string{"spec.announce.bgp.med", "less than or equal to 4294967295"}},
		{"community", `{addresses: [10.99.0.0/28], announce: {bgp: {communities: ["70000:1"]}}}`, []string{"a community is two numbers of 0 to 65535"}},
		{"large-community", `{addresses: [10.99.0.0/28], announce: {bgp: {largeCommunities: ["4294967295:1:1"]}}}`, []string{"are reserved (RFC 7300)"}},
		{"both-lists", `{addresses: [10.99.0.0/28], announce: {bgp: {peers: [a], advertisements: [{peers: [b]}]}}}`, []string{"write peers and attributes into each of the advertisements"}},
		{"no-way", `{addresses: [10.99.0.0/28], announce: {}}`, []string{"name at least one of arp and bgp"}},
	} {
		out, err := apply(tt.name, tt.spec)
		if err == nil {
			t.Errorf("%s: the API server takes %s", tt.name, tt.spec)
			continue
		}
		if err := containsAll(out, tt.words...); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}

	for _, tt := range []struct {
		name, spec string
		words      []string
	}{
		{"reversed", `addresses: [10.99.0.20-10.99.0.10]`, []string{"InvalidAddresses", "is reversed", "write 10.99.0.10-10.99.0.20"}},
		{"overlaps-itself", `addresses: [10.99.0.0/24, 10.99.0.128/25]`, []string{"InvalidAddresses", "overlaps", "leave one of them out"}},
		{"nothing-of-its-own", `addresses: [10.77.0.240-10.77.0.249]`, []string{"Overlap", "IPPool " + defaultPool, "which is older"}},
	} {
		if out, err := apply(tt.name, tt.spec); err != nil {
			t.Errorf("%s: %s", tt.name, out)
			continue
		}
		await(t, changeLimit, tt.name+": the condition says what to change", func(ctx context.Context) error {
			status, why, err := poolCondition(ctx, ns.name+"-"+tt.name, "Ready")
			return errors.Join(err, want("Ready", status, "False"), containsAll(why, tt.words...))
		})
	}

	// What is somebody else's as well is named and not given out; the rest of the pool is.
	gateway, node := cluster.Plan().Host("router").Addrs()[0], cluster.Plan().Host("node1").Addrs()[0]
	for _, tt := range []struct {
		name, spec string
		words      []string
	}{
		{"overlaps-another", `addresses: [10.77.0.245-10.77.0.252]`, []string{"10.77.0.245-10.77.0.249 is also in IPPool " + defaultPool, "which is older"}},
		{"gateway", fmt.Sprintf(`{addresses: [%s-%s], autoAssign: false}`, gateway, gateway.Next().Next()), []string{gateway.String() + " is the default gateway of node1,node2,node3"}},
		{"node", fmt.Sprintf(`{addresses: [%s/32, 10.99.9.0/24], autoAssign: false}`, node), []string{node.String() + " is an address of node node1"}},
		{"services", `{addresses: [10.96.0.0-10.97.0.10], autoAssign: false}`, []string{"10.96.0.0/16 is part of the cluster IPs (ServiceCIDR kubernetes)"}},
		{"pods", `{addresses: [10.244.1.0/24, 10.99.8.0/24], autoAssign: false}`, []string{"10.244.1.0/24 is part of the pod range of node node"}},
	} {
		if out, err := apply(tt.name, tt.spec); err != nil {
			t.Errorf("%s: %s", tt.name, out)
			continue
		}
		await(t, changeLimit, tt.name+": the condition names the other side", func(ctx context.Context) error {
			status, why, err := poolCondition(ctx, ns.name+"-"+tt.name, "Overlaps")
			ready, _, readyErr := poolCondition(ctx, ns.name+"-"+tt.name, "Ready")
			return errors.Join(err, readyErr, want("Overlaps", status, "True"), want("Ready", ready, "True"), containsAll(why, tt.words...))
		})
	}
	if shown := ns.kubectl("get", "ippools", "--output=wide"); strings.Count(shown, "is reversed") != 1 {
		t.Errorf("kubectl get ippools -o wide does not say what is wrong:\n%s", shown)
	}

	if status, why, err := poolCondition(contextOf(t), defaultPool, "Ready"); err != nil || status != "True" {
		t.Errorf("the pool %s is not Ready: %s (%v)", defaultPool, why, err)
	}
	ns.create("web-svc.yaml", "$NAME", "web", "$TYPE", "LoadBalancer")
	ns.awaitVIPs("web")
}
