package dns

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/seamark-io/seamark/dns/zone"
)

// handler makes replies: the zone's, and for names that are not the zone's those of other servers.
type handler struct {
	zone    atomic.Pointer[zone.Zone]
	forward atomic.Pointer[forwarder]
	// slots bounds the queries that are under way to other servers.
	slots   chan struct{}
	metrics *metrics
}

// query is one query message while it is answered.
type query struct {
	zone.Query
	msg   []byte
	start time.Time
	conn  connKind
	limit int
	// verdict and reply of the zone.
	verdict zone.Verdict
	reply   []byte
}

// fromZone parses a message and asks the zone, which makes its reply in dst. It is not ok if the message deserves no
// reply. If the verdict is not Answered, elsewhere must complete the reply.
func (h *handler) fromZone(msg, dst []byte, conn connKind) (q query, ok bool) {
	q = query{msg: msg, start: time.Now(), conn: conn, limit: dns.MaxMsgSize}
	if q.Query, ok = zone.ParseQuery(msg); !ok {
		return q, false
	}
	if conn.udp() {
		q.limit = q.UDPSize()
	}
	q.reply, q.verdict = h.zone.Load().Answer(dst, &q.Query, q.limit, rand.Uint32())
	if q.verdict == zone.Answered {
		h.metrics.observe(&q)
	}
	return q, true
}

// elsewhere completes a reply with what other servers say. It takes its time; q must not share memory with buffers
// that are used again meanwhile.
func (h *handler) elsewhere(ctx context.Context, q query, client dns.ResponseWriter) ([]byte, error) {
	reply, err := h.ask(ctx, q, client)
	if err != nil {
		return nil, err
	}
	if q.reply, err = reply.PackBuffer(q.reply[:0]); err != nil {
		return nil, err
	}
	h.metrics.observe(&q)
	return q.reply, nil
}

func (h *handler) ask(ctx context.Context, q query, client dns.ResponseWriter) (*dns.Msg, error) {
	req := new(dns.Msg)
	if err := req.Unpack(q.msg); err != nil {
		return new(dns.Msg).SetRcode(req, dns.RcodeFormatError), nil
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		h.metrics.forwardFailures.WithLabelValues("limit").Inc()
		return failure(client, req, dns.RcodeServerFailure), nil
	}
	// CoreDNS' plugins go on after the reply, to fetch in advance what is asked for often and to look whether an old answer is
	// still right, and take it that nobody ends their context, as in CoreDNS. A query ends by the forward plugin's own time of
	// 5 seconds.
	ctx = context.WithoutCancel(ctx)
	if q.verdict == zone.Chase {
		return h.chase(ctx, q, req, client)
	}
	return h.exchange(ctx, client, req), nil
}

// chase completes a reply that ends in a CNAME record with what other servers say of its target.
func (h *handler) chase(ctx context.Context, q query, req *dns.Msg, client dns.ResponseWriter) (*dns.Msg, error) {
	reply := new(dns.Msg)
	if err := reply.Unpack(q.reply); err != nil {
		return nil, err
	}
	alias, ok := reply.Answer[len(reply.Answer)-1].(*dns.CNAME)
	if !ok {
		return nil, errors.New("zone: reply to complete ends in no CNAME record")
	}
	sub := req.Copy()
	sub.Id = dns.Id()
	sub.Question[0].Name = alias.Target
	rest := h.exchange(ctx, client, sub)
	reply.Answer = append(reply.Answer, rest.Answer...)
	reply.Ns = rest.Ns
	// RFC 6604, 3: the response code is that of the last name.
	reply.Rcode = rest.Rcode
	reply.Compress = true
	reply.Truncate(q.limit)
	reply.Truncated = reply.Truncated || rest.Truncated
	return reply, nil
}

func (h *handler) exchange(ctx context.Context, client dns.ResponseWriter, req *dns.Msg) *dns.Msg {
	reply, err := h.forward.Load().exchange(ctx, client, req)
	switch {
	case errors.Is(err, errNoUpstream):
		h.metrics.forwardFailures.WithLabelValues("no_upstream").Inc()
	case err != nil:
		h.metrics.forwardFailures.WithLabelValues("upstream").Inc()
	}
	return reply
}

// client is a ResponseWriter that only knows its ends: all that plugins need besides the reply, which is taken from
// them before it gets here.
type client struct {
	dns.ResponseWriter
	local, remote net.Addr
}

func (c client) LocalAddr() net.Addr  { return c.local }
func (c client) RemoteAddr() net.Addr { return c.remote }
