package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// bindRetry is how often it is tried to listen where that does not work, as a rule because the agent before has not ended
// yet.
const bindRetry = time.Second

// serveHTTP serves the agent's own health and metrics until ctx ends. That it cannot keeps nobody from working.
func (a *agent) serveHTTP(ctx context.Context) error {
	s := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() }) // ends Serve below, which is all that is wanted
	defer stop()
	told := ""
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.bindAddress)
		if err == nil {
			told = ""
			err = s.Serve(l)
		}
		if text := err.Error(); ctx.Err() == nil && text != told {
			a.config.log.Warn("Health and metrics of the agent are not served at --bind-address, trying again", "err", err)
			told = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(bindRetry):
		}
	}
	return nil
}

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	mux.Handle("/livez", a.verdict((*part).checkAlive))
	mux.Handle("/readyz", a.verdict((*part).checkReady))
	if a.config.profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index) // and the profiles of the runtime, by name
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// verdict serves what is wrong with each part, by one of the checks.
func (a *agent) verdict(check func(*part) error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var errs []error
		for _, p := range a.parts {
			errs = append(errs, check(p))
		}
		if err := errors.Join(errs...); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}
