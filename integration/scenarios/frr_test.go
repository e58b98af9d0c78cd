package scenarios

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// frrDir is where Debian has FRR's daemons.
const frrDir = "/usr/lib/frr/"

// Another router beside BIRD, FRR, on a host of the LAN: it learns the routes of both families over one session with each
// node, its traffic takes them, and BFD takes them away when a node loses its link.
func TestFRR(t *testing.T) {
	needsSeamarkLB(t)
	ns := scenario(t)
	ns.alone()
	_, svc := ns.loadBalancer(2)
	client := on(t, "client")
	startFRR(t, client)
	spec := fmt.Sprintf(`{peerAddress: %s, peerASN: 64514, localASN: 64513, bfd: {}}`, client.Addrs()[0])
	ns.create("peer.yaml", "$NAME", ns.name, "$SPEC", spec)
	forget := func(ctx context.Context) error {
		_, err := cluster.Kubectl(ctx, "delete", "bgppeer", ns.name, "--ignore-not-found")
		return err
	}
	putBack(t, func(ctx context.Context) { _ = forget(ctx) })
	routedBy := func(nodes ...string) {
		t.Helper()
		for _, vip := range vips(svc) {
			await(t, 2*changeLimit, fmt.Sprintf("FRR reaches %s by way of %v", vip, nodes), func(ctx context.Context) error {
				hops, err := client.nextHopsOf(ctx, vip, "bgp")
				return errors.Join(err, sameSet(hops, nodes))
			})
		}
	}
	await(t, 2*changeLimit, "all nodes have their sessions with both routers", func(ctx context.Context) error {
		return errors.Join(peerEstablished(ctx, ns.name), peerEstablished(ctx, router))
	})
	routedBy(allNodes()...)
	for _, vip := range vips(svc) {
		client.hears(vipPort(svc, vip, "http"), "hostname")
	}

	lost := allNodes()[0]
	if err := cluster.Cut(contextOf(t), lost); err != nil {
		t.Fatal(err)
	}
	putBack(t, func(ctx context.Context) { _ = cluster.Heal(ctx, lost) })
	routedBy(allNodes()[1:]...)
	if err := cluster.Heal(contextOf(t), lost); err != nil {
		t.Fatal(err)
	}
	awaitHealthy(t)
	routedBy(allNodes()...)

	if err := forget(contextOf(t)); err != nil {
		t.Fatal(err)
	}
	routedBy()
	routed(t, vips(svc)[0], allNodes()...)
	client.hears(vipPort(svc, vips(svc)[0], "http"), "hostname")
}

// startFRR runs FRR on a host until the test ends, as a router of AS 64514 that waits for the nodes.
func startFRR(t *testing.T, h host) {
	t.Helper()
	dir, err := os.MkdirTemp("", "seamark-frr-") // t.TempDir is closed to FRR's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	giveToFRR(t, dir)
	var bgp strings.Builder
	fmt.Fprintf(&bgp, "router bgp 64514\n bgp router-id %s\n no bgp ebgp-requires-policy\n", h.Addrs()[0])
	for _, node := range nodes(t) {
		fmt.Fprintf(&bgp, " neighbor %[1]s remote-as 64513\n neighbor %[1]s passive\n neighbor %[1]s bfd\n", node.Addrs()[0])
	}
	fmt.Fprint(&bgp, " address-family ipv6 unicast\n")
	for _, node := range nodes(t) {
		fmt.Fprintf(&bgp, "  neighbor %s activate\n", node.Addrs()[0])
	}
	for _, d := range []struct{ name, config, options string }{
		{"zebra", "", ""}, {"bfdd", "", "--bfdctl " + dir + "/bfdd.sock"}, {"bgpd", bgp.String(), "-p 179"},
	} {
		startFRRDaemon(t, h, dir, d.name, d.config, d.options)
	}
}

func startFRRDaemon(t *testing.T, h host, dir, name, config, options string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".conf", []byte("log file "+path+".log\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	giveToFRR(t, path+".conf")
	ctx, stop := context.WithCancel(context.Background())
	args := append([]string{frrDir + name, "-f", path + ".conf", "-i", path + ".pid", "-z", dir + "/zserv", "--vty_socket", dir, "-P", "0"}, strings.Fields(options)...)
	cmd := h.Command(ctx, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
		if log, err := os.ReadFile(path + ".log"); err == nil && t.Failed() {
			t.Logf("%s's log:\n%s", name, log)
		}
	})
	await(t, changeLimit, name+" answers", func(ctx context.Context) error {
		_, err := h.Exec(ctx, "vtysh", "--vty_socket", dir, "-d", name, "-c", "quit")
		return err
	})
}

func giveToFRR(t *testing.T, path string) {
	t.Helper()
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}
