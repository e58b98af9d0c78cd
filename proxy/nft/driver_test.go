package nft

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/internal/nstest"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

var (
	web     = []cluster.ServicePort{{Name: "http", Protocol: cluster.TCP, Port: 80, NodePort: 30080}}
	webEPs  = []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}
	testCfg = ruleset.Config{Node: "n1", LocalDNS: cluster.Name{Namespace: "kube-system", Name: "kube-dns"}}
)

func sample() *cluster.Snapshot {
	lb := func(s *cluster.Service) {
		s.Type = cluster.LoadBalancer
		s.IngressIPs = Addrs("192.0.2.10 2001:db8::10")
	}
	return Snapshot(
		Node("n1", "10.0.0.1 fd00::1", "10.244.1.0/24 fd00:244:1::/64"),
		Service("web", "10.96.0.1 fd00:96::1", web, lb, func(s *cluster.Service) {
			s.SourceRanges = nil
		}),
		Slice("web", webEPs, "10.244.1.2@n1", "10.244.2.2@n2"),
		Slice("web", webEPs, "fd00:244:1::2@n1", "fd00:244:2::2@n2"),
		Service("sticky", "10.96.0.2 fd00:96::2", web, lb, func(s *cluster.Service) {
			s.IngressIPs = Addrs("192.0.2.11 2001:db8::11")
			s.Ports[0].NodePort = 0
			s.ExternalLocal = true
			s.Affinity = 3 * time.Hour
		}),
		Slice("sticky", webEPs, "10.244.1.3@n1", "10.244.2.3@n2"),
		Slice("sticky", webEPs, "fd00:244:1::3@n1", "fd00:244:2::3@n2"),
	)
}

func nft(t *testing.T, h *nstest.Host, args ...string) string {
	t.Helper()
	var out []byte
	var err error
	h.Do(func() { out, err = exec.Command("nft", args...).CombinedOutput() })
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestList(t *testing.T) {
	h := nstest.New(t)
	var d *Driver
	var err error
	h.Do(func() { d, err = New() })
	if err != nil {
		t.Fatal(err)
	}
	rs, problems := ruleset.Build(sample(), testCfg)
	t.Log(problems)
	if err := d.Set(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	t.Log(nft(t, h, "list", "ruleset"))
	t.Log(rs.String())
}
