package healthcheck

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seamark-io/seamark/cluster"
	. "github.com/seamark-io/seamark/proxy/internal/snaptest"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

func TestChecks(t *testing.T) {
	ports := []cluster.SlicePort{{Name: "http", Protocol: cluster.TCP, Port: 80}}
	svc := func(name string, change func(*cluster.Service)) func(*cluster.Snapshot) {
		return Service(name, "", nil, func(s *cluster.Service) {
			s.Type, s.ExternalLocal, s.HealthCheckNodePort = cluster.LoadBalancer, true, 32000
			change(s)
		})
	}
	same := func(*cluster.Service) {}
	got := Checks(Snapshot(
		svc("b", same), Slice("b", ports, "10.244.1.2@n1", "10.244.1.3@n1", "10.244.2.2@n2", "~10.244.1.4@n1", "!10.244.1.5@n1", "10.244.1.6"),
		svc("a", func(s *cluster.Service) { s.HealthCheckNodePort = 32001 }),
		svc("cluster", func(s *cluster.Service) { s.ExternalLocal = false }),
		svc("type", func(s *cluster.Service) { s.Type = cluster.NodePort }),
		svc("none", func(s *cluster.Service) { s.HealthCheckNodePort = 0 }),
		svc("foreign", func(s *cluster.Service) { s.ForeignProxy = true }),
	), "n1")
	want := []Check{{Name("a"), 32001, 0}, {Name("b"), 32000, 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestServices(t *testing.T) {
	healthy := true
	s := &Services{Healthy: func() bool { return healthy }}
	defer s.Close()
	local := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	port := freePort(t)
	get := func() (int, string, http.Header) {
		t.Helper()
		resp, err := http.Get("http://" + netip.AddrPortFrom(local[0], port).String() + "/any/path")
		if err != nil {
			return 0, err.Error(), nil
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
	}
	set := func(checks ...Check) {
		t.Helper()
		if err := s.Set(t.Context(), local, checks); err != nil {
			t.Fatal(err)
		}
	}

	set(Check{Name("web"), port, 2})
	code, body, header := get()
	if want := `{"service":{"namespace":"default","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}`; code != 200 || body != want {
		t.Errorf("got %d %s, want 200 %s", code, body, want)
	}
	if header.Get("X-Load-Balancing-Endpoint-Weight") != "2" || header.Get("Content-Type") != "application/json" || header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", header)
	}
	set(Check{Name("web"), port, 0})
	if code, body, _ = get(); code != 503 {
		t.Errorf("without local endpoints: %d %s", code, body)
	}
	set(Check{Name("web"), port, 1})
	healthy = false
	if code, body, _ = get(); code != 503 {
		t.Errorf("with an unhealthy proxy: %d %s", code, body)
	}

	// A port that another program has spoils that one check.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := netip.MustParseAddrPort(l.Addr().String()).Port()
	other := freePort(t)
	err = s.Set(t.Context(), local, []Check{{Name("taken"), taken, 1}, {Name("web"), other, 1}})
	var refused *ruleset.RefusedError
	if !errors.As(err, &refused) || len(refused.Problems) != 1 || refused.Problems[0].Service != Name("taken") {
		t.Errorf("Set with a port that is taken: %v", err)
	}
	if code, body, _ = get(); code != 0 {
		t.Errorf("the port that is not wanted any more answers %d %s", code, body)
	}
	port = other
	if code, _, _ = get(); code != 503 {
		t.Errorf("the other check: %d", code)
	}
	l.Close()
	set(Check{Name("taken"), taken, 1}, Check{Name("web"), other, 1})
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

func TestProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Proxy{Timeout: time.Minute}
		get := func(path string) (code int, body map[string]any) {
			t.Helper()
			w := httptest.NewRecorder()
			p.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			return w.Code, body
		}
		expect := func(when string, healthz, livez int) {
			t.Helper()
			if code, body := get("/healthz"); code != healthz {
				t.Errorf("%s: /healthz: %d %v", when, code, body)
			}
			if code, body := get("/livez"); code != livez {
				t.Errorf("%s: /livez: %d %v", when, code, body)
			}
		}
		expect("at the start", 200, 200)
		p.Queued()
		p.Updated()
		time.Sleep(time.Hour)
		expect("long after a change", 200, 200)
		if _, body := get("/healthz"); body["lastUpdated"] != body["currentTime"] || body["nodeEligible"] != true {
			t.Errorf("a healthy body: %v", body)
		}
		p.Queued()
		time.Sleep(59 * time.Second)
		p.Queued()
		expect("while a change waits", 200, 200)
		time.Sleep(2 * time.Second)
		expect("when a change has waited too long", 503, 503)
		p.Updated()
		expect("after it was made", 200, 200)
		p.SetNodeEligible(false)
		expect("without the Node", 503, 200)
	})
}
