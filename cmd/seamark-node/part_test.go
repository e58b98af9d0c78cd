package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seamark-io/seamark/cluster/preflight"
)

var quiet = slog.New(slog.DiscardHandler)

func fine() error { return nil }

// TestPartRunsAgain: a part that fails is started again after a while; until it is, it is not ready.
func TestPartRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		p := &part{name: "dns", again: true, ready: fine, alive: fine, run: func(ctx context.Context) error {
			if runs++; runs < 3 {
				return errors.New("no socket")
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		done := make(chan error)
		go func() { done <- p.keep(ctx, quiet) }()
		synctest.Wait()
		if err := p.checkReady(); err == nil || err.Error() != "dns: no socket" {
			t.Errorf("after the failure: ready %v", err)
		}
		if err := p.checkAlive(); err != nil {
			t.Errorf("after the failure: alive %v", err)
		}
		time.Sleep(restartMin + 2*restartMin)
		synctest.Wait()
		if runs != 3 || p.checkReady() != nil {
			t.Errorf("after %d runs: ready %v", runs, p.checkReady())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestPartStaysDown: a part that cannot be started again has the agent started anew, by way of /livez.
func TestPartStaysDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := &part{name: "speaker", ready: fine, run: func(context.Context) error { return errors.New("no interface") }}
		done := make(chan error)
		go func() { done <- p.keep(ctx, quiet) }()
		synctest.Wait()
		for what, err := range map[string]error{"ready": p.checkReady(), "alive": p.checkAlive()} {
			if err == nil || err.Error() != "speaker: no interface" {
				t.Errorf("%s: %v", what, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestMissingEndsAll: what the API server lacks or refuses ends the agent, with the error that says what to do.
func TestMissingEndsAll(t *testing.T) {
	missing := &preflight.MissingError{}
	p := &part{name: "watch", run: func(context.Context) error { return missing }}
	if err := p.keep(t.Context(), quiet); !errors.Is(err, missing) {
		t.Errorf("got %v", err)
	}
}

// untilItEnds is a part that notes when it is told to end, and takes a while for it.
func untilItEnds(name string, first bool, while time.Duration, told map[string]time.Time, mu *sync.Mutex) *part {
	return &part{name: name, first: first, ready: fine, alive: fine, run: func(ctx context.Context) error {
		<-ctx.Done()
		mu.Lock()
		told[name] = time.Now()
		mu.Unlock()
		time.Sleep(while)
		return nil
	}}
}

// TestEndInOrder: what serves the traffic of a part that comes first ends after it, and at once if there is none; but not so
// late that there is no time left for it, and not when there is something to be put right.
func TestEndInOrder(t *testing.T) {
	missing := &preflight.MissingError{}
	for name, tt := range map[string]struct {
		// takes is how long the part that comes first takes to end; negative: there is none.
		takes time.Duration
		fails error
		// others is when the others are told to end, ended when all have ended.
		others, ended time.Duration
	}{
		"in order":               {takes: time.Second, others: time.Second, ended: time.Second},
		"none comes first":       {takes: -1},
		"it hangs":               {takes: time.Hour, others: patience, ended: time.Hour},
		"something is not right": {takes: time.Second, fails: missing, ended: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				told := map[string]time.Time{}
				parts := []*part{untilItEnds("dns", false, 0, told, &mu)}
				if tt.takes >= 0 {
					parts = append(parts, untilItEnds("speaker", true, tt.takes, told, &mu))
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				end := cancel
				if tt.fails != nil {
					fail := make(chan struct{})
					end = func() { close(fail) }
					parts = append(parts, &part{name: "watch", run: func(context.Context) error { <-fail; return tt.fails }})
				}
				serve := untilItEnds("http", false, 0, told, &mu)
				done := make(chan error)
				go func() { done <- keepAll(ctx, quiet, parts, serve.run) }()
				time.Sleep(time.Hour) // nothing ends by itself
				synctest.Wait()
				if len(told) > 0 {
					t.Fatalf("told to end: %v", told)
				}
				start := time.Now()
				end()
				if err := <-done; !errors.Is(err, tt.fails) {
					t.Errorf("it ended with %v, want %v", err, tt.fails)
				}
				if took := time.Since(start); took != tt.ended {
					t.Errorf("all have ended after %s, want %s", took, tt.ended)
				}
				for _, name := range []string{"dns", "http"} {
					if after := told[name].Sub(start); after != tt.others {
						t.Errorf("%s is told to end after %s, want %s", name, after, tt.others)
					}
				}
				if at, is := told["speaker"]; is && !at.Equal(start) {
					t.Errorf("the speaker is told to end after %s", at.Sub(start))
				}
			})
		})
	}
}

// TestHTTP: a taken port is waited for and nothing else; /livez fails when a part hangs, /readyz when one lacks something.
func TestHTTP(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var state atomic.Pointer[struct{ hangs, lacks error }]
	p := &part{name: "proxy", ready: func() error { return state.Load().lacks }, alive: func() error { return state.Load().hangs }}
	a := &agent{config: &config{log: quiet, bindAddress: taken.Addr().String()}, registry: prometheus.NewRegistry(), parts: []*part{p}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.serveHTTP(ctx) }()
	select {
	case err := <-done:
		t.Fatalf("it ended: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	taken.Close()
	get := func(path string) string {
		for range 100 {
			resp, err := http.Get("http://" + a.config.bindAddress + path)
			if err == nil {
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body)))
			}
			time.Sleep(50 * time.Millisecond)
		}
		return "no answer"
	}
	for _, c := range []struct {
		hangs, lacks  error
		livez, readyz string
	}{
		{nil, nil, "200 ok", "200 ok"},
		{nil, errors.New("no rules"), "200 ok", "503 proxy: no rules"},
		{errors.New("stuck"), nil, "503 proxy: stuck", "200 ok"},
	} {
		state.Store(&struct{ hangs, lacks error }{c.hangs, c.lacks})
		if got := get("/livez"); got != c.livez {
			t.Errorf("/livez: %q, want %q", got, c.livez)
		}
		if got := get("/readyz"); got != c.readyz {
			t.Errorf("/readyz: %q, want %q", got, c.readyz)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Profiles are served if wanted, and only then.
func TestProfiling(t *testing.T) {
	for profiling, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		a := &agent{config: &config{log: quiet, profiling: profiling}, registry: prometheus.NewRegistry()}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap"} {
			w := httptest.NewRecorder()
			a.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("profiling %t: GET %s: %d, want %d", profiling, path, w.Code, want)
			}
		}
	}
}
