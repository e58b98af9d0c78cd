package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seamark-io/seamark/integration/lab"
	"github.com/seamark-io/seamark/integration/probe"
)

// host is a machine of the lab, as a place to stand on.
type host struct {
	*lab.Host
	t *testing.T
}

func on(t *testing.T, name string) host {
	t.Helper()
	h, err := cluster.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return host{h, t}
}

// nodes returns the lab's nodes.
func nodes(t *testing.T) []host {
	t.Helper()
	var all []host
	for _, h := range cluster.Plan().Nodes() {
		all = append(all, on(t, h.Name))
	}
	return all
}

func (h host) netns() probe.Namespace { return probe.Namespace(h.NetNS()) }

// addr returns the host's address of a family on the LAN.
func (h host) addr(like netip.Addr) netip.Addr {
	h.t.Helper()
	for _, a := range h.Addrs() {
		if a.Is4() == like.Is4() {
			return a
		}
	}
	h.t.Fatalf("%s has no address of the family of %s", h.Name, like)
	return netip.Addr{}
}

// run runs a command on the host and returns what it printed.
func (h host) run(args ...string) string {
	h.t.Helper()
	ctx, cancel := commandContext(h.t)
	defer cancel()
	out, err := h.Exec(ctx, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(out.Stdout)
}

// get asks for http://address:port/path on a new connection.
func (h host) get(ctx context.Context, to netip.AddrPort, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%s", to, path), nil)
	if err != nil {
		return "", err
	}
	resp, err := h.netns().HTTP(requestLimit).Do(request)
	if err != nil {
		return "", fmt.Errorf("from %s: %w", h.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("from %s: %s: %s", h.Name, resp.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

// hears waits until the host gets an answer, and returns it.
func (h host) hears(to netip.AddrPort, path string) (answer string) {
	h.t.Helper()
	await(h.t, changeLimit, fmt.Sprintf("%s gets an answer of %s", h.Name, to), func(ctx context.Context) (err error) {
		answer, err = h.get(ctx, to, path)
		return err
	})
	return answer
}

// udp sends a datagram from a port of its own and returns the answer.
func (h host) udp(ctx context.Context, to netip.AddrPort, message string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	conn, err := h.netns().DialContext(ctx, "udp", to.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte(message)); err != nil {
		return "", err
	}
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	return strings.TrimSpace(string(answer[:n])), err
}

// refused returns nil if a connection is refused at once, by a packet that says so. Silence is not a refusal, and neither
// is the "no route to host" of a router on the way.
func (h host) refused(ctx context.Context, to netip.AddrPort) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	conn, err := h.netns().DialContext(ctx, "tcp", to.String())
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s accepts a connection from %s", to, h.Name)
	}
	took := time.Since(start)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("from %s after %s: %w; want it refused", h.Name, took.Round(time.Millisecond), err)
	}
	if took > refusalLimit {
		return fmt.Errorf("from %s: %s refuses only after %s; want less than %s", h.Name, to, took, refusalLimit)
	}
	return nil
}

// silent returns nil if several connections, made at once, are neither accepted nor refused.
func (h host) silent(ctx context.Context, to netip.AddrPort) error {
	const connections = 5 // were there several ways, each would be tried
	var group errgroup.Group
	for range connections {
		group.Go(func() error { return h.ignored(ctx, to) })
	}
	return group.Wait()
}

// ignored returns nil if a connection is neither accepted nor refused for a while.
func (h host) ignored(ctx context.Context, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, silenceLimit)
	defer cancel()
	conn, err := h.netns().DialContext(ctx, "tcp", to.String())
	var timeout net.Error
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("%s accepts a connection from %s", to, h.Name)
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil
	}
	return fmt.Errorf("from %s: %w; want no answer at all", h.Name, err)
}

// pings returns nil if the host gets an echo reply of the address.
func (h host) pings(ctx context.Context, a netip.Addr) error {
	_, err := h.Exec(ctx, "ping", "-n", "-c1", "-W1", a.String())
	return err
}

// listen serves HTTP on a port of the host until the test ends. Each answer names the host, what it was asked for, and
// who asked: "remote has / for 10.77.0.11".
func (h host) listen(port uint16) {
	h.t.Helper()
	listener, err := h.netns().Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		h.t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s has %s for %s\n", h.Name, r.URL.Path, from)
	})}
	go func() { _ = server.Serve(listener) }()
	h.t.Cleanup(func() { server.Close() })
}

// nextHops returns the nodes by way of which the host reaches an address that BIRD has a route to, ordered by name.
func (h host) nextHops(ctx context.Context, to netip.Addr) ([]string, error) {
	return h.nextHopsOf(ctx, to, "bird")
}

// nextHopsOf is nextHops for the routes of a protocol of ip-route(8).
func (h host) nextHopsOf(ctx context.Context, to netip.Addr, protocol string) ([]string, error) {
	family := "-4"
	if to.Is6() {
		family = "-6"
	}
	out, err := h.Exec(ctx, "ip", family, "-json", "route", "show", "exact", netip.PrefixFrom(to, to.BitLen()).String(), "proto", protocol)
	if err != nil {
		return nil, err
	}
	type hop struct{ Gateway, Via string }
	var routes []struct {
		hop
		NextHops []hop
	}
	if text := strings.TrimSpace(out.Stdout); text != "" {
		if err := json.Unmarshal([]byte(text), &routes); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
	}
	found := make(map[string]bool)
	for _, r := range routes {
		for _, n := range append(r.NextHops, r.hop) {
			if n.Gateway != "" {
				found[nodeOf(n.Gateway)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// neighbour returns the node whose link-layer address the host knows an address by.
func (h host) neighbour(ctx context.Context, a netip.Addr) (string, error) {
	out, err := h.Exec(ctx, "ip", "neigh", "show", a.String())
	if err != nil {
		return "", err
	}
	for _, node := range cluster.Plan().Nodes() {
		if slices.Contains(strings.Fields(out.Stdout), node.Links[0].MAC) {
			return node.Name, nil
		}
	}
	return "", fmt.Errorf("the neighbour entry of %s is %q, of none of the nodes", h.Name, strings.TrimSpace(out.Stdout))
}

// nodeOf returns the name of the host with that address, or the address.
func nodeOf(address string) string {
	for _, h := range cluster.Plan().Hosts {
		for _, a := range h.Addrs() {
			if a.String() == address {
				return h.Name
			}
		}
	}
	return address
}

// tally asks n times and counts the answers.
func tally(n int, ask func() (string, error)) (map[string]int, error) {
	answers := make(map[string]int)
	for range n {
		answer, err := ask()
		if err != nil {
			return answers, err
		}
		answers[answer]++
	}
	return answers, nil
}
