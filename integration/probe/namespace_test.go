package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// newNamespace makes a network namespace with a loopback interface that is up.
func newNamespace(t *testing.T) Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: cannot make a network namespace")
	}
	name := fmt.Sprintf("probe-%d", os.Getpid())
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // ends with the goroutine
		ns, err := netns.NewNamed(name)
		if err == nil {
			defer ns.Close()
			err = netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
		}
		errc <- err
	}()
	err := <-errc
	t.Cleanup(func() { _ = netns.DeleteNamed(name) })
	if err != nil {
		t.Fatal(err)
	}
	return Namespace(name)
}

// A server in the namespace is reached from there and from nowhere else; its absence is seen by a watch and a session.
func TestNamespace(t *testing.T) {
	ns := newNamespace(t)
	listener, err := ns.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	url := "http://" + listener.Addr().String()
	if resp, err := http.Get(url); err == nil {
		resp.Body.Close()
		t.Errorf("%s answers outside of the namespace as well", url)
	}

	session, err := Connect(t.Context(), ns, netip.MustParseAddrPort(listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for range 2 {
		if answer, err := session.Get("/", time.Second); answer != "here" || err != nil {
			t.Fatalf("got %q, %v on a connection that stands", answer, err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	time.AfterFunc(200*time.Millisecond, func() { server.Close() })
	record := Watch{From: ns, URL: url, Every: 10 * time.Millisecond, Timeout: time.Second}.Run(ctx)
	if lost := record.Lost(); lost == 0 || lost == len(record) || record[0].Err != nil || record[0].Body != "here" {
		t.Errorf("a watch of a server that stops half-way loses %d of %d requests; the first has %q, %v", lost, len(record), record[0].Body, record[0].Err)
	}
	if gaps := record.Gaps(); len(gaps) != 1 || !gaps[0].To.IsZero() {
		t.Errorf("want one gap without an end, got %+v", gaps)
	}
	if err := session.Keep(t.Context(), "/", time.Millisecond, time.Second); err == nil {
		t.Error("a session outlives its server")
	}
}
