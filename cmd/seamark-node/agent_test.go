package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// isolated reports whether the test runs in a network namespace of its own. If not, it runs it in one.
func isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv("SEAMARK_TEST_ISOLATED") != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "SEAMARK_TEST_ISOLATED=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in a network namespace: %v\n%s", err, out)
	}
	return false
}

func command(t *testing.T, line string) string {
	t.Helper()
	args := strings.Fields(line)
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestParts: of each part /livez can tell that it hangs, and the one that has traffic come to this node ends before those
// that serve it.
func TestParts(t *testing.T) {
	c, err := complete(t)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAgent(c)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range a.parts {
		names = append(names, p.name)
		if p.ready == nil || p.alive == nil {
			t.Errorf("of %s nobody can tell whether it is ready, or hangs", p.name)
		}
		if p.first != (p.name == "speaker") {
			t.Errorf("%s ends first: %v", p.name, p.first)
		}
	}
	if want := []string{"watch", "speaker", "proxy", "dns"}; !slices.Equal(names, want) {
		t.Errorf("parts %v, want %v", names, want)
	}
}

// TestWithoutAPI: an agent that is started while nobody reaches the API server answers at the cluster DNS address that an
// earlier one has left, is alive, and says what it waits for. At its end the address stays.
func TestWithoutAPI(t *testing.T) {
	if !isolated(t) {
		return
	}
	command(t, "ip link set lo up")
	command(t, "ip addr add 10.96.0.10/32 dev lo label lo:seamark scope host")
	upstream, err := net.ListenPacket("udp", "127.0.0.2:53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: upstream, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR("www.example.com. 300 A 198.51.100.7")
		m.Answer = []dns.RR{rr}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer func() { _ = server.Shutdown() }()

	c, err := complete(t, "--dns-upstream=127.0.0.2", "--bind-address=127.0.0.1:9633")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- runAgent(ctx, c) }()
	get := func(path string) (int, string) {
		resp, err := http.Get("http://127.0.0.1:9633" + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	client := &dns.Client{Timeout: time.Second}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA), "10.96.0.10:53")
		if err == nil && len(m.Answer) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no answer: %v %v", m, err)
		}
	}
	if code, body := get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, body)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "watch: the API has not been read yet") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if m, _, err := client.Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), "10.96.0.10:53"); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a name of the cluster: %v %v", m, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := command(t, "ip addr show dev lo"); !strings.Contains(got, "10.96.0.10/32") {
		t.Errorf("the address has gone:\n%s", got)
	}
}

// TestPartsSwitchedOff: an agent takes away what an earlier one left of the parts that it has not, and nothing else.
func TestPartsSwitchedOff(t *testing.T) {
	if !isolated(t) {
		return
	}
	const dnsAddress, dnsTable, proxy4, proxy6, ping = "10.96.0.10/32", "inet seamark-dns", "ip seamark", "ip6 seamark", "inet seamark-ping"
	all := []string{dnsAddress, dnsTable, proxy4, proxy6, ping}
	for _, tt := range []struct {
		flags string
		stays []string
	}{
		{"--dns=false", []string{proxy4, proxy6, ping}},
		{"--proxy=false", []string{dnsAddress, ping}}, // rules of the DNS are made again when it starts
		{"--proxy=false --dns=false", []string{ping}},
		{"--speaker=false", []string{dnsAddress, proxy4, proxy6}},
	} {
		t.Run(tt.flags, func(t *testing.T) {
			command(t, "ip link set lo up")
			command(t, "ip addr replace "+dnsAddress+" dev lo label lo:seamark scope host")
			for _, table := range []string{dnsTable, proxy4, proxy6, ping} {
				command(t, "nft add table "+table)
			}
			c, err := complete(t, append(strings.Fields(tt.flags), "--bind-address=127.0.0.1:9633")...)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- runAgent(ctx, c) }()
			left := func() (left []string) {
				there := command(t, "ip addr show dev lo") + command(t, "nft list tables") + "\n"
				for _, x := range all {
					if strings.Contains(there, x+"\n") || x == dnsAddress && strings.Contains(there, x) {
						left = append(left, x)
					}
				}
				return slices.DeleteFunc(left, func(x string) bool { return x == dnsTable && c.dns })
			}
			for deadline := time.Now().Add(20 * time.Second); !slices.Equal(left(), tt.stays); time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("there are %v, want %v", left(), tt.stays)
					break
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}
