package bgp

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// tap is the handler of gobgp's log. It reads there what gobgp 4.8 tells nowhere else: why a connection is not made or an
// OPEN is not accepted (pkg/server/fsm.go, connectLoop and outgoingConnManager.run; no state of the session changes then,
// so no event comes). It passes records on with what is routine for us lowered to debug.
type tap struct {
	next   slog.Handler
	status *statusBoard
	// router is the attribute Key of gobgp's loggers of one peer.
	router netip.Addr
}

func newTap(next slog.Handler, status *statusBoard) *tap { return &tap{next: next, status: status} }

// Enabled is true for all levels: what the tap is for is told at debug.
func (t *tap) Enabled(context.Context, slog.Level) bool { return true }

func (t *tap) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := *t
	out.next = t.next.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "Key" {
			if ip, err := netip.ParseAddr(a.Value.String()); err == nil {
				out.router = ip
			}
		}
	}
	return &out
}

func (t *tap) WithGroup(name string) slog.Handler {
	out := *t
	out.next = t.next.WithGroup(name)
	return &out
}

func (t *tap) Handle(ctx context.Context, r slog.Record) error {
	if t.router.IsValid() {
		t.read(r)
	}
	switch {
	case r.Level < slog.LevelInfo:
		return nil // the details of every message
	case r.Message == "Peer Up" || r.Message == "Peer Down":
	case r.Level < slog.LevelWarn:
		r.Level = slog.LevelDebug
	}
	if !t.next.Enabled(ctx, r.Level) {
		return nil
	}
	return t.next.Handle(ctx, r)
}

func (t *tap) read(r slog.Record) {
	switch r.Message {
	case "failed to connect":
		text := attrs(r)["Error"].String()
		t.status.update(t.router, func(s *session) { s.fail(FailedConnect, dialWords(text, s.peer), false) })
	case "outgoing connection established":
		t.status.connected(t.router)
	case "outgoing connection IO error":
		t.status.update(t.router, (*session).closed)
	case "sent notification":
		code, subcode := codes(r)
		if code == bgp.BGP_ERROR_CEASE && subcode == bgp.BGP_ERROR_SUB_PEER_DECONFIGURED {
			return // by us, who know why
		}
		t.status.update(t.router, func(s *session) {
			failure, words := sentWords(code, subcode, s)
			s.fail(failure, words, true)
		})
	case "received notification":
		code, subcode := codes(r)
		communication := ""
		if v, ok := attrs(r)["Communicated-Reason"]; ok {
			communication = v.String()
		}
		t.status.update(t.router, func(s *session) {
			s.fail(FailedReceived, receivedWords(code, subcode, communication, s.peer), true)
		})
	}
}

func codes(r slog.Record) (code, subcode uint8) {
	a := attrs(r)
	number := func(key string) uint8 {
		if v := a[key]; v.Kind() == slog.KindInt64 {
			return uint8(v.Int64())
		}
		return 0
	}
	return number("Code"), number("Subcode")
}

func attrs(r slog.Record) map[string]slog.Value {
	m := map[string]slog.Value{}
	r.Attrs(func(a slog.Attr) bool {
		m[a.Key] = a.Value
		return true
	})
	return m
}
