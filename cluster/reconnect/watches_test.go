package reconnect

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// server answers from a moment on, with a body that does not end.
type server struct {
	opens time.Time
	err   error
	body  string
	tries atomic.Int64
}

func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	s.tries.Add(1)
	if time.Now().Before(s.opens) {
		return nil, s.err
	}
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, s.body)
		<-req.Context().Done()
		_ = w.CloseWithError(req.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: r, Request: req}, nil
}

func request(ctx context.Context, t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

const watchURL = "https://10.96.0.1/api/v1/services?allowWatchBookmarks=true&watch=true"

func TestWatchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		start := time.Now()
		s := &server{opens: start.Add(10 * time.Minute), err: refused()}
		wrap := Watches(slog.New(slog.NewTextHandler(&logged, nil)))
		var clients errgroup.Group
		for range 2 {
			rt, req := wrap(s), request(t.Context(), t, http.MethodGet, watchURL)
			clients.Go(func() error {
				resp, err := rt.RoundTrip(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				return err
			})
		}
		if err := clients.Wait(); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(s.opens); late < 0 || late > 3*longest/2 {
			t.Errorf("the watch began %s after the API server could be reached", late)
		}
		if n := s.tries.Load(); n > 800 {
			t.Errorf("%d attempts of two in ten minutes", n)
		}
		if text := logged.String(); strings.Count(text, "cannot be reached") != 1 || strings.Count(text, "reached again") != 1 {
			t.Errorf("logged is:\n%s", text)
		}
	})
}

func TestNotHeld(t *testing.T) {
	for name, c := range map[string]struct {
		method, url string
		err         error
	}{
		"get":               {http.MethodGet, "https://10.96.0.1/api/v1/namespaces/a/services/b", refused()},
		"list":              {http.MethodGet, "https://10.96.0.1/api/v1/services?watch=false", refused()},
		"write":             {http.MethodPatch, watchURL, refused()},
		"broken connection": {http.MethodGet, watchURL, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}},
		"certificate":       {http.MethodGet, watchURL, errors.New("x509: certificate signed by unknown authority")},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{opens: time.Now().Add(time.Hour), err: c.err}
			_, err := Watches(slog.New(slog.DiscardHandler))(s).RoundTrip(request(t.Context(), t, c.method, c.url)) //nolint:bodyclose // there is none
			if n := s.tries.Load(); !errors.Is(err, c.err) || n != 1 {
				t.Errorf("%d attempts, error %v", n, err)
			}
		})
	}
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &server{opens: time.Now().Add(time.Hour), err: refused()}
		start := time.Now()
		_, err := Watches(slog.New(slog.DiscardHandler))(s).RoundTrip(request(ctx, t, http.MethodGet, watchURL)) //nolint:bodyclose // there is none
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// TestInformers: informers that have been without their API server for an hour, and would wait for 30 to 60 seconds between two
// tries by then, have all that they ask for within seconds.
func TestInformers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &server{opens: time.Now().Add(time.Hour), err: refused(), body: endOfList}
		config := &rest.Config{Host: "https://10.96.0.1", Transport: s}
		config.Wrap(Watches(slog.New(slog.DiscardHandler)))
		kube, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		var synced []cache.InformerSynced
		for range 10 {
			factory := informers.NewSharedInformerFactory(kube, 0)
			synced = append(synced, factory.Core().V1().Services().Informer().HasSynced)
			factory.StartWithContext(ctx)
			defer factory.Shutdown()
		}
		defer cancel()
		if !cache.WaitForCacheSync(ctx.Done(), synced...) {
			t.Fatal("not synced")
		}
		if late := time.Since(s.opens); late < 0 || late > 2*longest {
			t.Errorf("synced %s after the API server could be reached", late)
		}
	})
}

// endOfList is the answer of an API server that has no objects to a watch that begins with a list.
const endOfList = `{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":{"resourceVersion":"7",` +
	`"annotations":{"k8s.io/initial-events-end":"true"}}}}` + "\n"
