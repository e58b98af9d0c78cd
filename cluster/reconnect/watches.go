package reconnect

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// The waits between two attempts to connect: from first on, doubled up to longest, and each drawn from half to one and a half of
// that, so that nodes do not come back all at once. An attempt costs a TCP SYN; ten watches of one program share its connection.
const (
	first   = 250 * time.Millisecond
	longest = 4 * time.Second
)

// Watches returns what a rest.Config's Wrap takes: watches wait for an API server that cannot be connected to until their context
// ends. It is logged once that they do, and once that they do not any more, for all clients that are made with it.
func Watches(log *slog.Logger) func(http.RoundTripper) http.RoundTripper {
	away := &atomic.Bool{}
	return func(next http.RoundTripper) http.RoundTripper { return &transport{next: next, log: log, away: away} }
}

type transport struct {
	next http.RoundTripper
	log  *slog.Logger
	away *atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !isWatch(req) {
		return t.next.RoundTrip(req)
	}
	for wait := first; ; wait = min(2*wait, longest) {
		resp, err := t.next.RoundTrip(req)
		switch {
		case err == nil:
			if t.away.CompareAndSwap(true, false) {
				t.log.Info("the API server can be reached again")
			}
			return resp, nil
		case !cannotConnect(err):
			return nil, err
		case t.away.CompareAndSwap(false, true):
			t.log.Warn("the API server cannot be reached: watches wait for it, and what is known stays", "err", err)
		}
		select {
		case <-req.Context().Done():
			return nil, err
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// WrappedRoundTripper implements net.RoundTripperWrapper of k8s.io/apimachinery, by which client-go finds the transport below.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// isWatch reports whether a request is a watch; it has no body, so it can be made again.
func isWatch(req *http.Request) bool {
	return req.Method == http.MethodGet && req.URL.Query().Get("watch") == "true"
}

// cannotConnect reports whether a request failed before there was a connection: refused, no route, no answer.
func cannotConnect(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
