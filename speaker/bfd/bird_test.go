package bfd

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seamark-io/seamark/speaker/internal/netlab"
)

// bird is a router with BIRD 2.
type bird struct {
	*lan
	dir string
	*process
}

func newBird(l *lan) router {
	program(l.t, "bird")
	return &bird{lan: l, dir: l.t.TempDir()}
}

func (b *bird) name() string { return "BIRD" }

func (b *bird) write(p params) {
	b.t.Helper()
	config := fmt.Sprintf(`log "%s" all;
router id 10.255.0.1;
protocol device {}
protocol bfd {
	debug { states, events, packets };
	interface "eth0" { min rx interval %d ms; min tx interval %d ms; idle tx interval 1 s; multiplier %d; };
	neighbor 10.0.0.1 dev "eth0" local 10.0.0.254;
	neighbor fd00::1 dev "eth0" local fd00::fe;
	neighbor fe80::1 dev "eth0" local fe80::fe;
}
`, filepath.Join(b.dir, "log"), p.rx.Milliseconds(), p.tx.Milliseconds(), p.mult)
	if err := os.WriteFile(filepath.Join(b.dir, "bird.conf"), []byte(config), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bird) start(p params) {
	b.t.Helper()
	b.write(p)
	in := func(name string) string { return filepath.Join(b.dir, name) }
	b.process = startProcess(b.t, b.router.Command("bird -f -c "+in("bird.conf")+" -s "+in("ctl")+" -P "+in("pid")))
	b.t.Cleanup(func() {
		if log, err := os.ReadFile(in("log")); err == nil && b.t.Failed() {
			b.t.Logf("BIRD's log:\n%s", log)
		}
	})
	netlab.Eventually(b.t, "BIRD answers", func() bool { _, err := b.birdc("show status"); return err == nil })
}

func (b *bird) birdc(command string) (string, error) {
	return b.router.Try("birdc -s " + filepath.Join(b.dir, "ctl") + " " + command)
}

func (b *bird) configure(p params) {
	b.t.Helper()
	b.write(p)
	if out, err := b.birdc("configure"); err != nil || !strings.Contains(out, "Reconfigured") {
		b.t.Fatalf("%s %v", out, err)
	}
}

func (b *bird) stop()                     { b.end(syscall.SIGTERM) }
func (b *bird) signal(sig syscall.Signal) { _ = b.cmd.Process.Signal(sig) }

// views reads lines like " 10.0.0.1  eth0  Up  22:22:51.450  0.050  0.150" from BIRD's control socket.
func (b *bird) views() map[netip.Addr]view {
	out := ask(filepath.Join(b.dir, "ctl"), "show bfd sessions\n", func(s string) bool { return strings.Contains(s, "\n0000 ") })
	views := map[netip.Addr]view{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 6 {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil {
			timeout, _ := strconv.ParseFloat(f[5], 64)
			views[a] = view{up: f[2] == "Up", detection: time.Duration(timeout*1000+0.5) * time.Millisecond}
		}
	}
	return views
}

func TestBIRD(t *testing.T) { against(t, newBird) }

// BIRD does not show the diagnostic, but tells its log that the end was announced.
func TestBIRDHearsTheEnd(t *testing.T) {
	_, r, s := begin(t, newBird)
	r.start(params{tx: 300 * ms, rx: 300 * ms, mult: 5})
	set(t, s, sessions(300*ms, 300*ms, 5)...)
	all(t, "all are up", s, r, isUp, func(v view) bool { return v.up })
	s.Close()
	netlab.Eventually(t, "BIRD hears the end", func() bool {
		log, _ := os.ReadFile(filepath.Join(r.(*bird).dir, "log"))
		for _, a := range locals {
			if !strings.Contains(string(log), "CTL received from "+a.String()+" [AdminDown") {
				return false
			}
		}
		return !slices.ContainsFunc(slices.Collect(maps.Values(r.views())), func(v view) bool { return v.up })
	})
}
