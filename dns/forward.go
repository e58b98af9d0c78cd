package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	_ "github.com/coredns/coredns/plugin/cache" // the cache directive
	"github.com/coredns/coredns/plugin/forward"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/seamark-io/seamark/dns/zone"
)

// forwarder asks other servers, through CoreDNS' cache.
type forwarder struct {
	upstreams []netip.AddrPort
	forward   *forward.Forward
	chain     plugin.Handler
}

var errNoUpstream = errors.New("no upstream server")

// newForwarder starts a forwarder, which has no servers if there are no upstreams. The caller stops it.
func newForwarder(upstreams []netip.AddrPort, maxConcurrent int) (*forwarder, error) {
	f := &forwarder{upstreams: upstreams}
	if len(upstreams) == 0 {
		return f, nil
	}
	to := make([]string, len(upstreams))
	for i, u := range upstreams {
		to[i] = u.String()
	}
	// The order of nameserver lines is one of preference, resolv.conf(5). Three failed checks mark a server down.
	handler, err := directive("forward", fmt.Sprintf(`forward . %s {
		policy sequential
		max_concurrent %d
	}`, strings.Join(to, " "), maxConcurrent), nil)
	if err != nil {
		return nil, err
	}
	f.forward = handler.(*forward.Forward)
	// Names in use are fetched again before they expire. While no upstream server answers within a second, old answers
	// are better than none (RFC 8767), with a short TTL, and the servers are not asked again at once.
	f.chain, err = directive("cache", `cache 30 . {
		prefetch 10 1m 10%
		serve_stale 1h verify 1s 5s 5s
		servfail 2s
	}`, f.forward)
	if err != nil {
		return nil, err
	}
	return f, f.forward.OnStartup()
}

// directive makes a CoreDNS plugin from a Corefile directive: most options of a plugin can be set in no other way.
func directive(name, stanza string, next plugin.Handler) (plugin.Handler, error) {
	setup, err := caddy.DirectiveAction("dns", name)
	if err != nil {
		return nil, fmt.Errorf("CoreDNS plugin %s: %w", name, err)
	}
	c := caddy.NewTestController("dns", stanza)
	if err := setup(c); err != nil {
		return nil, fmt.Errorf("CoreDNS plugin %s: %w", name, err)
	}
	return dnsserver.GetConfig(c).Plugin[0](next), nil
}

func (f *forwarder) stop() {
	if f.forward != nil {
		_ = f.forward.OnShutdown()
	}
}

// exchange answers a query for a client. The reply fits what the client can take, also if it is that nobody answered;
// the error says why.
func (f *forwarder) exchange(ctx context.Context, client dns.ResponseWriter, req *dns.Msg) (*dns.Msg, error) {
	reply := nonwriter.New(client)
	rcode, err := dns.RcodeServerFailure, errNoUpstream
	if f.chain != nil {
		if opt := req.IsEdns0(); opt != nil && opt.UDPSize() > zone.MaxUDPSize {
			opt.SetUDPSize(zone.MaxUDPSize)
		}
		rcode, err = f.chain.ServeDNS(ctx, request.NewScrubWriter(req, reply), req)
	}
	if reply.Msg == nil {
		if rcode == dns.RcodeSuccess {
			rcode = dns.RcodeServerFailure
		}
		return failure(client, req, rcode), err
	}
	reply.Msg.Question = req.Question
	return reply.Msg, err
}

// failure makes a reply without records.
func failure(client dns.ResponseWriter, req *dns.Msg, rcode int) *dns.Msg {
	reply := new(dns.Msg).SetRcode(req, rcode)
	reply.RecursionAvailable = true
	state := request.Request{W: client, Req: req}
	state.SizeAndDo(reply)
	return reply
}
