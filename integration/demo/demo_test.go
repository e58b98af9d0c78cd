package demo

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seamark-io/seamark/integration/probe"
)

// What is printed as a command can be typed.
func TestQuote(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"kubectl", "get", "pods", "--namespace=seamark-system"}, "kubectl get pods --namespace=seamark-system"},
		{[]string{"curl", "-s", "http://10.77.0.200/hostname"}, "curl -s http://10.77.0.200/hostname"},
		{[]string{"curl", "http://[fd77::200]/"}, "curl 'http://[fd77::200]/'"},
		{[]string{"kubectl", "patch", "--patch", `{"spec": {}}`}, `kubectl patch --patch '{"spec": {}}'`},
	} {
		if got := quote(tt.args); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestIndented(t *testing.T) {
	var out strings.Builder
	p := &printer{out: &out}
	w := p.indented()
	for _, part := range []string{"one\ntw", "o\n", "thr"} {
		if n, err := io.WriteString(w, part); n != len(part) || err != nil {
			t.Fatalf("wrote %d of %q: %v", n, part, err)
		}
	}
	if want := indent + "one\n" + indent + "two\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// An outage is over when no request has been lost for a while, not when one is answered.
func TestMeter(t *testing.T) {
	m := &meter{lastLost: time.Now().Add(-time.Hour)}
	m.see(probe.Result{})
	if lost, answered := m.state(); lost != 0 || answered < time.Hour {
		t.Errorf("%d lost, none for %s", lost, answered)
	}
	m.see(probe.Result{Err: errors.New("timeout")})
	m.see(probe.Result{})
	if lost, answered := m.state(); lost != 1 || answered > time.Minute {
		t.Errorf("%d lost, none for %s; want 1, just now", lost, answered)
	}
	m.reset()
	if lost, answered := m.state(); lost != 0 || answered > time.Minute {
		t.Errorf("%d lost, none for %s; want a new beginning", lost, answered)
	}
}

// A step that takes too long ends, and says so, in place of what was broken off.
func TestStepLimit(t *testing.T) {
	killed := errors.New("signal: killed")
	s := step{limit: time.Millisecond, show: func(ctx context.Context, _ *tour) error {
		<-ctx.Done()
		return killed
	}}
	if err := s.run(t.Context(), nil); err == nil || err.Error() != "gave up after 1ms: signal: killed" {
		t.Errorf("got %v", err)
	}
	s = step{limit: time.Minute, show: func(context.Context, *tour) error { return killed }}
	if err := s.run(t.Context(), nil); !errors.Is(err, killed) || err.Error() != killed.Error() {
		t.Errorf("got %v", err)
	}
	for _, s := range steps() {
		if s.limit == 0 {
			t.Errorf("%s: no limit", s.title)
		}
	}
}

// What a lab is left as, and whose it is: nothing is taken down that the demo has not made.
func TestLeaveNothing(t *testing.T) {
	var out strings.Builder
	tr := &tour{printer: printer{out: &out}}
	if err := tr.leave(t.Context(), false); err != nil || out.Len() > 0 {
		t.Errorf("without a lab: %v, said %q", err, out.String())
	}
}
