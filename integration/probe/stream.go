package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrLost is the error of a datagram that was not answered.
var ErrLost = errors.New("no answer")

// Stream sends datagrams to an echo server, one after the other from one socket, without waiting for answers.
type Stream struct {
	From Namespace
	To   netip.AddrPort
	// Every is the time between two datagrams.
	Every time.Duration
	// Say is what to write before the number of the datagram, and what the server does not send back.
	Say string
}

// straggle is how long answers may take to count.
const straggle = 500 * time.Millisecond

// Flow is a Stream that runs. Its methods may be called concurrently.
type Flow struct {
	conn net.Conn
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	record Record
	// first and last are when answers came.
	first, last time.Time
}

// Start begins to send; End ends it.
func (s Stream) Start(ctx context.Context) (*Flow, error) {
	conn, err := s.From.DialContext(ctx, "udp", s.To.String())
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &Flow{conn: conn, stop: stop, done: make(chan struct{})}
	go f.receive()
	go f.send(ctx, s)
	return f, nil
}

func (f *Flow) send(ctx context.Context, s Stream) {
	defer close(f.done)
	ticker := time.NewTicker(s.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		n := len(f.record)
		f.record = append(f.record, Result{Sent: time.Now(), Err: ErrLost})
		f.mu.Unlock()
		// An error says that an earlier one was not delivered, or that the neighbour does not answer: the datagram is lost.
		_, _ = f.conn.Write([]byte(s.Say + strconv.Itoa(n)))
	}
}

func (f *Flow) receive() {
	buf := make([]byte, 2048)
	for {
		n, err := f.conn.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		i, parseErr := strconv.Atoi(strings.TrimSpace(string(buf[:max(n, 0)])))
		if err != nil || parseErr != nil {
			continue
		}
		f.mu.Lock()
		if i >= 0 && i < len(f.record) {
			r := &f.record[i]
			r.Took, r.Err = time.Since(r.Sent), nil
			f.last = time.Now()
			if f.first.IsZero() {
				f.first = f.last
			}
		}
		f.mu.Unlock()
	}
}

// First returns when the first answer came.
func (f *Flow) First() (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first, !f.first.IsZero()
}

// Silent returns for how long no answer has come.
func (f *Flow) Silent() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.last)
}

// Since returns what was sent at a time or later, but for the last, whose answers may be under way.
func (f *Flow) Since(t time.Time) Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out Record
	for _, r := range f.record {
		if !r.Sent.Before(t) && time.Since(r.Sent) > straggle {
			out = append(out, r)
		}
	}
	return out
}

// End stops sending, waits for answers that are under way, and returns all results.
func (f *Flow) End() Record {
	f.stop()
	<-f.done
	time.Sleep(straggle)
	f.conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record
}
