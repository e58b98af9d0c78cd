package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/seamark-io/seamark/dns/zone"
)

const (
	// maxQuery is the longest query over UDP that is read whole. Queries have hardly ever more than 300 octets.
	maxQuery = 4096
	// Limits of a TCP connection: RFC 7766, 6.2.3 asks for an idle time of a few seconds.
	tcpIdle    = 10 * time.Second
	tcpQueries = 1000
	// linger is how long a listener that is closed still takes what has arrived at its sockets.
	linger = 100 * time.Millisecond
	// drain is how long it then waits for the replies under way.
	drain = 2 * time.Second
)

// listener serves one address over UDP and TCP.
type listener struct {
	addr    netip.AddrPort
	handler *handler
	udp     []*net.UDPConn
	tcp     net.Listener

	stop context.CancelFunc
	done chan struct{}
	// failed is the reason why it does not serve any more, once done is closed.
	failed error
}

// listen opens the sockets of an address: for UDP one for each CPU, among which the kernel spreads the clients. A reply
// leaves from the socket that the query came in at, and with it from the address that was asked.
func listen(addr netip.AddrPort, h *handler, maxTCP int) (*listener, error) {
	l := &listener{addr: addr, handler: h, done: make(chan struct{})}
	lc := net.ListenConfig{Control: reusePort}
	for range runtime.GOMAXPROCS(0) {
		c, err := lc.ListenPacket(context.Background(), "udp", addr.String())
		if err != nil {
			l.closeSockets()
			return nil, fmt.Errorf("listening for DNS at UDP %s: %w", addr, err)
		}
		l.udp = append(l.udp, c.(*net.UDPConn))
	}
	tcp, err := lc.Listen(context.Background(), "tcp", addr.String())
	if err != nil {
		l.closeSockets()
		return nil, fmt.Errorf("listening for DNS at TCP %s: %w", addr, err)
	}
	l.tcp = netutil.LimitListener(tcp, maxTCP)
	return l, nil
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return err
}

func (l *listener) closeSockets() {
	for _, c := range l.udp {
		_ = c.Close()
	}
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
}

// start serves until close, or until a socket fails, which is told on failures.
func (l *listener) start(failures chan<- struct{}) {
	requests, cancel := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range l.udp {
		g.Go(func() error { return l.serveUDP(ctx, requests, c) })
	}
	g.Go(func() error { return l.serveTCP(ctx, requests) })
	context.AfterFunc(ctx, func() { time.AfterFunc(drain, cancel) })
	go func() {
		l.failed = g.Wait()
		cancel()
		stop()
		l.closeSockets()
		close(l.done)
		if l.failed == nil {
			return
		}
		select {
		case failures <- struct{}{}:
		default:
		}
	}()
}

// close stops serving, and returns when all replies are sent; those that take longer than drain are given up.
func (l *listener) close() {
	l.stop()
	<-l.done
}

// alive reports whether it still serves.
func (l *listener) alive() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

// serveUDP answers at one socket until ctx is done: what the zone knows at once and in this goroutine, everything else
// in others, under the context for requests.
func (l *listener) serveUDP(ctx, requests context.Context, c *net.UDPConn) error {
	var under sync.WaitGroup
	defer under.Wait()
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now().Add(linger)) })
	defer stop()
	in, out := make([]byte, maxQuery), make([]byte, 0, zone.MaxUDPSize)
	kind := kindOf(l.addr.Addr(), true)
	for {
		n, from, err := c.ReadFromUDPAddrPort(in)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("reading at UDP %s: %w", l.addr, err)
		}
		q, ok := l.handler.fromZone(in[:n], out, kind)
		switch {
		case !ok:
		case q.verdict == zone.Answered:
			// That a reply cannot be sent is the client's loss, and nothing to end for.
			_, _ = c.WriteToUDPAddrPort(q.reply, from)
		default:
			q.own()
			under.Go(func() {
				reply, err := l.handler.elsewhere(requests, q, client{local: c.LocalAddr(), remote: net.UDPAddrFromAddrPort(from)})
				if err == nil {
					_, _ = c.WriteToUDPAddrPort(reply, from)
				}
			})
		}
	}
}

// own copies what a query refers to out of the buffers of its reader.
func (q *query) own() {
	q.msg = slices.Clone(q.msg)
	q.reply = slices.Clone(q.reply)
	q.Query, _ = zone.ParseQuery(q.msg)
}

// serveTCP serves connections, each of which has its queries answered in their order.
func (l *listener) serveTCP(ctx, requests context.Context) error {
	started, stopped := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{
		Listener:          l.tcp,
		IdleTimeout:       func() time.Duration { return tcpIdle },
		MaxTCPQueries:     tcpQueries,
		NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			if reply := l.replyTCP(requests, w, m); reply != nil {
				_, _ = w.Write(reply)
			}
		}),
	}
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		<-started
		shut, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		_ = srv.ShutdownContext(shut)
	})
	err := srv.ActivateAndServe()
	if ctx.Err() != nil {
		<-stopped
		return nil
	}
	return fmt.Errorf("serving TCP %s: %w", l.addr, err)
}

func (l *listener) replyTCP(requests context.Context, w dns.ResponseWriter, m *dns.Msg) []byte {
	msg, err := m.Pack()
	if err != nil {
		return nil
	}
	q, ok := l.handler.fromZone(msg, nil, kindOf(l.addr.Addr(), false))
	if !ok || q.verdict == zone.Answered {
		return q.reply
	}
	reply, err := l.handler.elsewhere(requests, q, w)
	if err != nil {
		return nil
	}
	return reply
}
