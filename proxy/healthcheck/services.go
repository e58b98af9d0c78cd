package healthcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seamark-io/seamark/cluster"
	"github.com/seamark-io/seamark/proxy/ruleset"
)

// Check is the health check of one Service.
type Check struct {
	Service cluster.Name
	// Port is its healthCheckNodePort.
	Port uint16
	// LocalEndpoints are the addresses on this node that are ready.
	LocalEndpoints int
}

// Checks returns the health checks that a node must answer, sorted by Service.
func Checks(snap *cluster.Snapshot, node string) []Check {
	var out []Check
	for name, svc := range snap.Services {
		if svc.ForeignProxy || svc.Type != cluster.LoadBalancer || !svc.ExternalLocal || svc.HealthCheckNodePort == 0 {
			continue
		}
		ready := map[netip.Addr]struct{}{}
		for _, slice := range snap.Slices[name] {
			for _, ep := range slice.Endpoints {
				if !slice.Headless && ep.Ready && ep.Node == node {
					ready[ep.Addr] = struct{}{}
				}
			}
		}
		out = append(out, Check{name, svc.HealthCheckNodePort, len(ready)})
	}
	slices.SortFunc(out, func(a, b Check) int { return a.Service.Compare(b.Service) })
	return out
}

// Services serves health checks. It must not be used concurrently.
type Services struct {
	// Healthy tells whether the proxy works; any goroutine may call it.
	Healthy func() bool

	servers map[netip.AddrPort]*server
}

// server answers at one address and port.
type server struct {
	check atomic.Pointer[Check]
	http  *http.Server
}

// Set serves exactly the checks, at each of the addresses; every one that is possible if it returns a
// *ruleset.RefusedError, as a rule because another program has a port.
func (s *Services) Set(ctx context.Context, addrs []netip.Addr, checks []Check) error {
	want := map[netip.AddrPort]Check{}
	for _, c := range checks {
		for _, a := range addrs {
			want[netip.AddrPortFrom(a, c.Port)] = c
		}
	}
	for at, srv := range s.servers {
		if _, ok := want[at]; !ok {
			srv.http.Close() //nolint:errcheck // it is gone either way
			delete(s.servers, at)
		}
	}
	refused := &ruleset.RefusedError{}
	for at, c := range want {
		if srv := s.servers[at]; srv != nil {
			srv.check.Store(&c)
			continue
		}
		if err := s.serve(ctx, at, c); err != nil {
			refused.Problems = append(refused.Problems, ruleset.Problem{
				Service: c.Service, Reason: ruleset.ReasonHealthCheck,
				Message: fmt.Sprintf("the health check port is not answered: %v", err),
			})
		}
	}
	return refused.OrNil()
}

// Close stops serving.
func (s *Services) Close() error {
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.http.Close())
	}
	s.servers = nil
	return errors.Join(errs...)
}

func (s *Services) serve(ctx context.Context, at netip.AddrPort, c Check) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	srv := &server{}
	srv.check.Store(&c)
	srv.http = &http.Server{Handler: s.handler(srv), ReadHeaderTimeout: 5 * time.Second}
	if s.servers == nil {
		s.servers = map[netip.AddrPort]*server{}
	}
	s.servers[at] = srv
	go srv.http.Serve(l) //nolint:errcheck // ends with Close
	return nil
}

func (s *Services) handler(srv *server) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c := srv.check.Load()
		body := struct {
			Service struct {
				Namespace string `json:"namespace"`
				Name      string `json:"name"`
			} `json:"service"`
			LocalEndpoints      int  `json:"localEndpoints"`
			ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
		}{LocalEndpoints: c.LocalEndpoints, ServiceProxyHealthy: s.Healthy()}
		body.Service.Namespace, body.Service.Name = c.Service.Namespace, c.Service.Name

		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(c.LocalEndpoints))
		writeJSON(w, c.LocalEndpoints > 0 && body.ServiceProxyHealthy, body)
	}
}

func writeJSON(w http.ResponseWriter, ok bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client has gone
}
