package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// keepalivedVIP is an address that Seamark does not have.
const keepalivedVIP = "10.77.0.251"

// keepalived measures keepalived on the same hosts: at its default, an advertisement a second, and at the interval of
// Seamark's heartbeats, which is the fastest that is sane for it (VRRP version 3; a backup waits for three).
func (w *world) keepalived(ctx context.Context) error {
	for _, c := range []struct {
		name     string
		title    string
		interval string
		times    int
	}{
		{"keepalived-fast", "keepalived, advert_int 0.05, owner's link cut", "0.05", w.options.Repetitions},
		{"keepalived-default", "keepalived, default advert_int 1, owner's link cut", "1", max(w.options.Repetitions/3, 1)},
	} {
		if err := w.keepalivedAt(ctx, c.name, c.title, c.interval, c.times); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) keepalivedAt(ctx context.Context, name, title, interval string, times int) (err error) {
	dir, err := os.MkdirTemp("", "keepalived")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for i, name := range []string{"node2", "node3"} {
		end, err := w.startKeepalived(ctx, dir, name, interval, 100-10*i)
		if err != nil {
			return err
		}
		defer end()
		echo, err := w.echo(name)
		if err != nil {
			return err
		}
		defer echo.Close()
	}
	vip := netip.MustParseAddr(keepalivedVIP)
	if err := w.until(ctx, time.Minute, "keepalived's address answers", func(ctx context.Context) error { return w.answers(ctx, "client", vip) }); err != nil {
		return err
	}
	return w.inflict(ctx, fault{
		name: name, title: title, host: "client", every: time.Millisecond, vips: []netip.Addr{vip},
		victim: w.ownerOf(vip), do: w.cut, undo: w.heal, times: times,
	})
}

// startKeepalived runs keepalived on a node; end ends it and waits for that.
func (w *world) startKeepalived(ctx context.Context, dir, node, interval string, priority int) (end func(), err error) {
	config := filepath.Join(dir, node+".conf")
	err = os.WriteFile(config, fmt.Appendf(nil, `global_defs { vrrp_version 3 }
vrrp_instance bench {
	state BACKUP
	nopreempt
	interface eth0
	virtual_router_id 51
	priority %d
	advert_int %s
	virtual_ipaddress { %s/32 dev eth0 }
}
`, priority, interval, keepalivedVIP), 0o600)
	if err != nil {
		return nil, err
	}
	host, err := w.lab.Host(node)
	if err != nil {
		return nil, err
	}
	cmd := host.Command(ctx, "keepalived", "--dont-fork", "--vrrp", "--use-file", config,
		"--pid", filepath.Join(dir, node+".pid"), "--vrrp_pid", filepath.Join(dir, node+".vrrp"))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start keepalived on %s: %w", node, err)
	}
	return func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}, nil
}

// echo answers datagrams to keepalived's address on a node like the pods do.
func (w *world) echo(node string) (net.PacketConn, error) {
	conn, err := w.namespaceOf(node).ListenPacket("udp4", fmt.Sprintf("%s:%d", keepalivedVIP, echoPort))
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteTo([]byte(strings.TrimPrefix(string(buf[:n]), "echo ")), from)
			}
		}
	}()
	return conn, nil
}
