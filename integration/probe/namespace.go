package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is the name of a network namespace, as ip(8) knows it. Its methods may be called concurrently.
type Namespace string

// DialContext connects from inside the namespace. The address must be literal: the resolver of this process is used for
// names, and it asks outside the namespace.
func (n Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return inside(n, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// Listen listens for connections inside the namespace.
func (n Namespace) Listen(network, address string) (net.Listener, error) {
	return inside(n, func() (net.Listener, error) { return net.Listen(network, address) })
}

// ListenPacket listens for datagrams inside the namespace, also at an address that comes there only later.
func (n Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	var c net.ListenConfig
	c.Control = func(_, _ string, conn syscall.RawConn) error {
		var err error
		if e := conn.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) }); e != nil {
			return e
		}
		return err
	}
	return inside(n, func() (net.PacketConn, error) { return c.ListenPacket(context.Background(), network, address) })
}

// HTTP returns a client that makes a new connection from inside the namespace for each request, so that each is balanced
// anew. Requests that take longer than timeout fail.
func (n Namespace) HTTP(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{DialContext: n.DialContext, DisableKeepAlives: true},
	}
}

// inside runs f on a thread that is in the namespace. A socket stays in the namespace that its thread was in when it was
// made, so whatever f returns can be used from any thread.
func inside[T any](n Namespace, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nothing else can run in the namespace.
		runtime.LockOSThread()
		var r result
		if r.err = enter(n); r.err == nil {
			r.value, r.err = f()
		}
		done <- r
	}()
	r := <-done
	return r.value, r.err
}

func enter(n Namespace) error {
	ns, err := netns.GetFromName(string(n))
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", n, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n, err)
	}
	return nil
}
