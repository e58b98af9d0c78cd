package bfd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/bfd/packet"
	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

// frr is a router with FRR's bfdd, and zebra, which tells it of interfaces. Both give up root, so their files are in a
// directory of their user.
type frr struct {
	*lan
	dir   string
	zebra *process
	*process
}

func newFRR(l *lan) router {
	program(l.t, "/usr/lib/frr/bfdd", "vtysh")
	dir, err := os.MkdirTemp("", "frr") // t.TempDir is closed to others
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	u, err := user.Lookup("frr")
	if err != nil {
		l.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		l.t.Fatal(err)
	}
	return &frr{lan: l, dir: dir}
}

func (f *frr) name() string { return "FRR" }

func (f *frr) lines(p params) []string {
	lines := []string{"bfd"}
	for _, peer := range []string{"10.0.0.1 local-address 10.0.0.254", "fd00::1 local-address fd00::fe", "fe80::1 local-address fe80::fe"} {
		lines = append(lines, "peer "+peer+" interface eth0",
			fmt.Sprint("receive-interval ", p.rx.Milliseconds()), fmt.Sprint("transmit-interval ", p.tx.Milliseconds()), fmt.Sprint("detect-multiplier ", p.mult))
		if p.disabled {
			lines = append(lines, "shutdown")
		} else {
			lines = append(lines, "no shutdown")
		}
		lines = append(lines, "exit")
	}
	return append(lines, "exit")
}

func (f *frr) start(p params) {
	f.t.Helper()
	in := func(name string) string { return filepath.Join(f.dir, name) }
	daemon := func(name, options string) *process {
		if err := os.WriteFile(in(name+".conf"), nil, 0o644); err != nil {
			f.t.Fatal(err)
		}
		return startProcess(f.t, f.router.Command(fmt.Sprintf("/usr/lib/frr/%s -u frr -g frr -P 0 -f %s.conf -z %s -i %s.pid --vty_socket %s --log file:%s.log %s",
			name, in(name), in("zserv"), in(name), f.dir, in(name), options)))
	}
	if f.zebra == nil {
		f.zebra = daemon("zebra", "")
		netlab.Eventually(f.t, "zebra answers", func() bool { _, err := os.Stat(in("zserv")); return err == nil })
	}
	f.process = daemon("bfdd", "--bfdctl "+in("bfdd.sock"))
	f.t.Cleanup(func() {
		if log, err := os.ReadFile(in("bfdd.log")); err == nil && f.t.Failed() {
			f.t.Logf("bfdd's log:\n%s", log)
		}
	})
	// The socket of one that has ended is still there.
	netlab.Eventually(f.t, "bfdd answers", func() bool { _, err := f.vtysh("show version"); return err == nil })
	f.configure(p)
}

func (f *frr) vtysh(commands ...string) (string, error) {
	cmd := f.router.Command("vtysh --vty_socket " + f.dir + " -d bfdd")
	for _, c := range commands {
		cmd.Args = append(cmd.Args, "-c", c)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (f *frr) configure(p params) {
	f.t.Helper()
	if out, err := f.vtysh(append([]string{"configure terminal"}, f.lines(p)...)...); err != nil || strings.Contains(out, "%") {
		f.t.Fatalf("%s %v", out, err)
	}
}

func (f *frr) stop()                     { f.end(syscall.SIGTERM) }
func (f *frr) signal(sig syscall.Signal) { _ = f.cmd.Process.Signal(sig) }

// views asks over bfdd's socket, as vtysh does: an answer ends with three zero bytes and the command's result.
func (f *frr) views() map[netip.Addr]view {
	const end = "\x00\x00\x00\x00"
	out := ask(filepath.Join(f.dir, "bfdd.vty"), "enable\x00show bfd peers json\x00", func(s string) bool { return strings.Count(s, end) == 2 })
	var peers []struct {
		Peer       netip.Addr `json:"peer"`
		Status     string     `json:"status"`
		Rx         int        `json:"receive-interval"`
		RemoteTx   int        `json:"remote-transmit-interval"`
		RemoteMult int        `json:"remote-detect-multiplier"`
		RemoteDiag string     `json:"remote-diagnostic"`
	}
	views := map[netip.Addr]view{}
	if json.Unmarshal([]byte(strings.ReplaceAll(out, "\x00", "")), &peers) != nil {
		return views
	}
	for _, p := range peers {
		views[p.Peer] = view{up: p.Status == "up", detection: time.Duration(p.RemoteMult*max(p.Rx, p.RemoteTx)) * time.Millisecond, diag: p.RemoteDiag}
	}
	return views
}

func TestFRR(t *testing.T) { against(t, newFRR) }

// A router that ends its sessions is no failure, and says why.
func TestFRRAdminDown(t *testing.T) {
	_, r, s := begin(t, newFRR)
	p := params{tx: 100 * ms, rx: 100 * ms, mult: 3}
	r.start(p)
	set(t, s, sessions(100*ms, 100*ms, 3)...)
	all(t, "all are up", s, r, isUp, func(v view) bool { return v.up })
	p.disabled = true
	r.configure(p)
	all(t, "the end is heard", s, r, func(st *Status) bool {
		return st.State == packet.Down && st.RemoteState == packet.AdminDown && !st.Failed && st.Diag == packet.NeighborDown
	}, isDown)
	t.Logf("the router says: %s", s.Status()[0].RemoteDiag)
	p.disabled = false
	r.configure(p)
	all(t, "all are up again", s, r, isUp, func(v view) bool { return v.up })
}
