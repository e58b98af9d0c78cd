package nft

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nfnl"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

var families = []cluster.Family{cluster.IPv4, cluster.IPv6}

// TestProbe: this kernel has everything, and is left as it was.
func TestProbe(t *testing.T) {
	h := nstest.New(t)
	gen := generation(t, h)
	var err error
	h.Do(func() { err = Probe(families...) })
	if err != nil {
		t.Error(err)
	}
	if now := generation(t, h); now != gen {
		t.Errorf("%d transactions have been made", now-gen)
	}
	if got := nft(t, h, "list", "ruleset"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}

// TestProbeFinds: what a kernel lacks is named, each thing, with what it takes to have it.
func TestProbeFinds(t *testing.T) {
	h := nstest.New(t)
	var conn *nfnl.Conn
	var err error
	h.Do(func() { conn, err = nfnl.Dial() })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lacking := func(f cluster.Family) []feature {
		return append(features(f),
			// No kernel has the one type of chain, and none the other in that place.
			feature{name: "wishes", need: "CONFIG_NFT_WISH", hook: &ruleset.Hook{Type: "wish", Hook: ruleset.Prerouting}},
			feature{name: "early routing", need: "Linux 99", hook: &ruleset.Hook{Type: "route", Hook: ruleset.Prerouting}},
		)
	}
	err = probe(conn, families, lacking)
	if err == nil {
		t.Fatal("nothing is missing")
	}
	var missing *Missing
	if !errors.As(err, &missing) || missing.Family != cluster.IPv4 || missing.Name != "wishes" || missing.Need != "CONFIG_NFT_WISH" {
		t.Errorf("the first is %+v", missing)
	}
	for _, want := range []string{"wishes (IPv4)", "wishes (IPv6)", "early routing (IPv4)", "early routing (IPv6)", "the kernel needs CONFIG_NFT_WISH"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 4 {
		t.Errorf("%d things are missing, want 4:\n%v", n, err)
	}
}

// TestProbeWithoutRights: a process that may not change nf_tables is told so.
func TestProbeWithoutRights(t *testing.T) {
	h := nstest.New(t)
	var err error
	h.Run(func() {
		// On a thread that ends with this function.
		var none [2]unix.CapUserData
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		if err = unix.Capset(&hdr, &none[0]); err == nil {
			err = Probe(cluster.IPv4)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "run it with CAP_NET_ADMIN") {
		t.Errorf("got %v", err)
	}
}

// TestProbeAsksForAll: whatever expression the rules have is probed for.
func TestProbeAsksForAll(t *testing.T) {
	probed := map[reflect.Type]bool{}
	for _, f := range features(cluster.IPv4) {
		for _, r := range f.rules {
			for _, x := range r {
				probed[reflect.TypeOf(x)] = true
			}
		}
	}
	snap := sample()
	ServiceCIDRs("10.96.0.0/16 fd00:96::/108")(snap)
	cfg := testCfg
	cfg.DropInvalid = true
	rs, _ := ruleset.Build(snap, cfg)
	seen := 0
	for _, table := range rs.Tables() {
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				for _, x := range r {
					seen++
					if !probed[reflect.TypeOf(x)] {
						t.Errorf("chain %s has a %T, which is not probed for", c.Name, x)
					}
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d expressions", seen)
	}
}
